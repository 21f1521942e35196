//! Names of images, as users write them and in full.

use std::fmt;

use crate::{Digest, Error, Result};

/// Longest repository with its registry. Source: distribution/reference `NameTotalLengthMax`.
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
const DEFAULT_REGISTRY: &str = "docker.io";

/// `registry/repository[:tag][@digest]`. Source: distribution specification and the grammar of distribution/reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a name; adds `docker.io`, `library/` and `:latest` where they are left out.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::InvalidReference(format!("couldn't parse image name {text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|_| invalid("invalid reference format"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("invalid reference format"));
        }
        let (registry, repository) = split_registry(name);
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("invalid reference format: repository name must be lowercase"));
        }
        if !is_registry(&registry) || !repository.split('/').all(is_path_component) {
            return Err(invalid("invalid reference format"));
        }
        if registry.len() + repository.len() >= NAME_BYTES_MAX {
            return Err(invalid(&format!("repository name must not be more than {NAME_BYTES_MAX} characters")));
        }
        let tag = if digest.is_none() { Some(tag.unwrap_or_else(|| "latest".to_owned())) } else { tag };
        Ok(Self { registry, repository, tag, digest })
    }

    /// `registry/repository`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What to ask the registry for: the digest where there is one, else the tag.
    #[must_use]
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_uppercase(first) => {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
    (registry.to_owned(), if official { format!("library/{repository}") } else { repository.to_owned() })
}

fn has_uppercase(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.split('.').all(is_label),
    };
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Lower-case words joined by `.`, `_`, `__` or dashes.
fn is_path_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    for byte in text.bytes() {
        if word(byte) {
            let dashes = separator.bytes().all(|byte| byte == b'-');
            if !dashes && !matches!(separator.as_str(), "." | "_" | "__") {
                return false;
            }
            separator.clear();
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    true
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = text.bytes().next();
    first.is_some_and(word)
        && text.len() <= TAG_BYTES_MAX
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let actual = Reference::parse(text).map_or_else(|error| error.to_string(), |parsed| parsed.to_string());
        assert_eq!(actual, expected);
    }

    #[test]
    fn names_are_completed() {
        let digest = Digest::of(b"");
        check("busybox", "docker.io/library/busybox:latest");
        check("busybox:1.36", "docker.io/library/busybox:1.36");
        check("user/app", "docker.io/user/app:latest");
        check("index.docker.io/library/busybox", "docker.io/library/busybox:latest");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/a/b:v1", "localhost:5000/a/b:v1");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10");
        check(&format!("busybox@{digest}"), &format!("docker.io/library/busybox@{digest}"));
        check(&format!("busybox:1@{digest}"), &format!("docker.io/library/busybox:1@{digest}"));
        check("a/b__c-d.e", "docker.io/a/b__c-d.e:latest");
    }

    #[test]
    fn bad_names_are_refused() {
        check("", "couldn't parse image name \"\": invalid reference format");
        check("a:b c", "couldn't parse image name \"a:b c\": invalid reference format");
        check("a..b", "couldn't parse image name \"a..b\": invalid reference format");
        check("a/../b", "couldn't parse image name \"a/../b\": invalid reference format");
        check("a@sha256:1", "couldn't parse image name \"a@sha256:1\": invalid reference format");
        check(
            "docker.io/App",
            "couldn't parse image name \"docker.io/App\": invalid reference format: repository name must be lowercase",
        );
    }
}
