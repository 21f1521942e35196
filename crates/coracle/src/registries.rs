//! How images are fetched, from flags and the environment.

use anyhow::{Result, bail};
use clap::Args;
use coracle_supervisor::{Proxies, Registries};

/// Registry of images whose name has none.
const DEFAULT_REGISTRY: &str = "docker.io";

#[derive(Debug, Clone, Default, Args)]
#[group(id = "registries")]
pub struct Options {
    /// Asks URL before the registry itself: `docker.io=https://mirror.example`, `*=URL` for all registries; a URL alone is
    /// for docker.io. May be given several times.
    #[arg(long, value_name = "REGISTRY=URL")]
    registry_mirror: Vec<String>,
    /// Speaks to this registry without TLS. May be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    insecure_registry: Vec<String>,
}

impl Options {
    /// `environment` gives a variable of the process. Source: the proxy variables as Go programs read them.
    pub fn settle(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Registries> {
        let mut registries = Registries { insecure: self.insecure_registry.clone(), ..Registries::default() };
        for text in &self.registry_mirror {
            let (registry, url) = match text.split_once('=') {
                Some((registry, url)) if !registry.contains("://") => (registry, url),
                _ => (DEFAULT_REGISTRY, text.as_str()),
            };
            if !url.starts_with("http://") && !url.starts_with("https://") {
                bail!("--registry-mirror {text:?}: {url:?} is not a URL, such as https://mirror.example");
            }
            registries.mirrors.entry(registry.to_owned()).or_default().push(url.to_owned());
        }
        let variable = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty());
            value.or_else(|| environment(&name.to_ascii_lowercase())).unwrap_or_default()
        };
        registries.proxies = Proxies {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            except: variable("NO_PROXY").split(',').map(|rule| rule.trim().to_owned()).collect(),
        };
        registries.proxies.except.retain(|rule| !rule.is_empty());
        Ok(registries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_proxies_are_read() {
        let options = Options {
            registry_mirror: vec!["https://a.test".into(), "ghcr.io=http://b.test".into(), "https://c.test/x=y".into()],
            insecure_registry: vec!["d.test:5000".into()],
        };
        let environment = |name: &str| match name {
            "https_proxy" => Some("proxy:1".to_owned()),
            "NO_PROXY" => Some("x, y,".to_owned()),
            _ => None,
        };
        let found = options.settle(environment).expect("settled");
        assert_eq!(found.mirrors["docker.io"], ["https://a.test", "https://c.test/x=y"]);
        assert_eq!(found.mirrors["ghcr.io"], ["http://b.test"]);
        assert_eq!(found.insecure, ["d.test:5000"]);
        assert_eq!((found.proxies.http.as_str(), found.proxies.https.as_str()), ("", "proxy:1"));
        assert_eq!(found.proxies.except, ["x", "y"]);
        let bad = Options { registry_mirror: vec!["a.test".into()], ..Options::default() };
        assert!(bad.settle(|_| None).is_err());
    }
}
