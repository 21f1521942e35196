//! Credentials for registries, from the pull secrets of pods.

use std::sync::Arc;

use base64::Engine as _;
use coracle_api_types::Object;
use coracle_cri::AuthConfig;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::Value;

use crate::context::Context;

/// Everything that the pod's secrets know for the registry of an image, the most specific first.
pub(crate) async fn credentials(ctx: &Context, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let mut found = Vec::new();
    for reference in names {
        match ctx.secrets.get(pod.namespace(), &reference.name).await {
            Ok(Some(secret)) => found.extend(entries(&secret)),
            Ok(None) => ctx.warning(
                pod,
                None,
                "FailedToRetrieveImagePullSecret",
                &format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                ),
            ),
            Err(error) => tracing::warn!(%error, secret = reference.name, "read a pull secret"),
        }
    }
    let target = normalized(image, false);
    found.retain(|(registry, _)| matches(registry, &target));
    found.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Arc<Secret>) -> Vec<(String, AuthConfig)> {
    let data = secret.data.as_ref();
    let get = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let auths = match (get(".dockerconfigjson").and_then(json), get(".dockercfg").and_then(json)) {
        (Some(config), _) => config.get("auths").cloned().unwrap_or_default(),
        (None, Some(config)) => config,
        (None, None) => return Vec::new(),
    };
    let each = auths.as_object().into_iter().flatten();
    each.filter_map(|(registry, entry)| Some((normalized(registry, true), auth_of(entry)?))).collect()
}

fn auth_of(entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut auth = AuthConfig {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    if auth.username.is_empty() && !text("auth").is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        user.clone_into(&mut auth.username);
        password.trim_end_matches('\0').clone_into(&mut auth.password);
    }
    (auth != AuthConfig::default()).then_some(auth)
}

/// Registry and path without scheme, API version, tag and digest.
fn normalized(image: &str, is_registry: bool) -> String {
    let image = image.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let image = image.trim_end_matches("/v1").trim_end_matches("/v2");
    let image = image.split('@').next().unwrap_or_default();
    let (host, rest) = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        None if is_registry && (image.contains(['.', ':']) || image == "localhost") => (image, ""),
        _ => ("docker.io", image),
    };
    let host = if host == "index.docker.io" || host == "registry-1.docker.io" { "docker.io" } else { host };
    let rest = rest.split(':').next().unwrap_or_default();
    if rest.is_empty() { host.to_owned() } else { format!("{host}/{rest}") }
}

/// Whether an entry is for an image: the same host (a leading `*.` for any subdomain) and a prefix of the path.
fn matches(registry: &str, image: &str) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let same_host = match host.strip_prefix("*.") {
        Some(domain) => image_host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => host == image_host,
    };
    same_host && (path.is_empty() || image_path == path || image_path.starts_with(&format!("{path}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_their_registry() {
        for (registry, image, want) in [
            ("https://index.docker.io/v1/", "nginx:1.2", true),
            ("registry.example:5000", "registry.example:5000/a/b:1", true),
            ("registry.example:5000/a", "registry.example:5000/a/b@sha256:00", true),
            ("registry.example:5000/a/c", "registry.example:5000/a/b", false),
            ("*.example.com", "r.example.com/x", true),
            ("example.com", "r.example.com/x", false),
        ] {
            assert_eq!(matches(&normalized(registry, true), &normalized(image, false)), want, "{registry} {image}");
        }
    }
}
