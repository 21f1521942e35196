//! Users that a proxy before this server vouches for. Source: `k8s.io/apiserver/pkg/authentication/request/headerrequest`.

use std::collections::BTreeMap;

use coracle_api_meta::UserInfo;
use http::{HeaderMap, HeaderName, header};

use crate::config::RequestHeader;
use crate::http::query::decode;

/// The user that the headers name, if the proxy's certificate name is allowed.
pub(super) fn identify(config: &RequestHeader, common_name: &str, headers: &HeaderMap) -> Option<UserInfo> {
    if !config.allowed_names.is_empty() && !config.allowed_names.iter().any(|name| name == common_name) {
        return None;
    }
    let first = |names: &[String]| {
        let values = names.iter().filter_map(|name| headers.get(name.as_str())?.to_str().ok());
        values.map(str::trim).find(|value| !value.is_empty()).unwrap_or_default().to_owned()
    };
    let username = first(&config.username_headers);
    if username.is_empty() {
        return None;
    }
    let groups = config.group_headers.iter().flat_map(|name| headers.get_all(name.as_str()));
    Some(UserInfo {
        username,
        uid: first(&config.uid_headers),
        groups: groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
        extra: extra(config, headers),
    })
}

fn extra_key(config: &RequestHeader, name: &HeaderName) -> Option<String> {
    let prefixes = config.extra_header_prefixes.iter();
    let rest = prefixes.filter_map(|prefix| name.as_str().strip_prefix(&prefix.to_ascii_lowercase())).next()?;
    Some(decode(rest, false).to_lowercase())
}

fn extra(config: &RequestHeader, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (extra_key(config, name), value.to_str()) {
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    extra
}

/// Takes away what vouched for the user, so that nobody behind this server believes it again.
pub(super) fn strip(config: &RequestHeader, headers: &mut HeaderMap) {
    let named = [&config.username_headers, &config.uid_headers, &config.group_headers];
    for name in named.into_iter().flatten() {
        headers.remove(name.as_str());
    }
    let extra: Vec<HeaderName> = headers.keys().filter(|name| extra_key(config, name).is_some()).cloned().collect();
    for name in extra {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
}
