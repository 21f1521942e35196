//! How to reach a webhook, shared by admission and by the conversion of custom resources.

use coracle_api_meta::names;

use crate::at::{At, Errors};
use crate::formats;

/// `config` holds `url` or `service`.
pub fn client(config: &At<'_>, errors: &mut Errors) {
    let (url, service) = (config.get("url"), config.get("service"));
    if url.exists() == service.exists() {
        config.required(errors, "exactly one of url or service is required");
    } else if url.exists() {
        self::url(&url, errors);
    } else {
        self::service(&service, errors);
    }
}

fn url(url: &At<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = url.str();
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let parts = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme));
    let (scheme, rest) = parts.map_or_else(|| (String::new(), text), |(scheme, rest)| (scheme.to_lowercase(), rest));
    let authority = rest.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default());
    let (user, host) = authority
        .unwrap_or_default()
        .rsplit_once('@')
        .map_or_else(|| (None, authority.unwrap_or_default()), |(user, host)| (Some(user), host));
    if scheme.is_empty() && text.starts_with(':') {
        let reason = format!("url must be a valid URL: parse {:?}: missing protocol scheme{FORM}", url.str());
        return url.required(errors, reason);
    }
    if scheme != "https" {
        url.invalid_as(errors, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        url.invalid_as(errors, host, format!("host must be provided{FORM}"));
    }
    if let Some(user) = user {
        url.invalid_as(errors, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        url.invalid_as(errors, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        url.invalid_as(errors, query, "query parameters are not permitted in the URL");
    }
}

/// Upstream hands name and namespace over the wrong way round, so each is missed by the other's name.
fn service(service: &At<'_>, errors: &mut Errors) {
    let (name, namespace) = (service.get("name"), service.get("namespace"));
    if namespace.is_empty() {
        name.required(errors, "service name is required");
    }
    if name.is_empty() {
        namespace.required(errors, "service namespace is required");
    }
    let port = service.get("port");
    let bad = formats::port_number(port.int());
    if !bad.is_empty() {
        port.invalid_as(errors, port.int(), format!("port is not valid: {}", bad.join(", ")));
    }
    let path = service.get("path");
    let text = path.str();
    match text {
        "" | "/" => return,
        "//" => return path.invalid(errors, "segment[0] may not be empty"),
        _ => {}
    }
    if !text.starts_with('/') {
        path.invalid(errors, "must start with a '/'");
    }
    let mut letters = text.chars();
    letters.next();
    let steps = letters.as_str();
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            path.invalid(errors, format!("segment[{index}] may not be empty"));
            continue;
        }
        for detail in names::is_dns1123_subdomain(step) {
            path.invalid(errors, format!("segment[{index}]: {detail}"));
        }
    }
}

/// Versions of the review that a webhook reads; `known` says that one of them must be one of ours.
pub fn review_versions(versions: &At<'_>, empty: &str, known: bool, errors: &mut Errors) {
    if versions.is_empty() {
        return versions.required(errors, empty);
    }
    let mut seen = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.str()) {
            version.invalid(errors, "duplicate version");
            continue;
        }
        seen.push(version.str());
        version.invalid_all(errors, names::is_dns1035_label(version.str()));
    }
    if known && !knows_version(versions) {
        versions.invalid(errors, "must include at least one of v1, v1beta1");
    }
}

pub fn knows_version(versions: &At<'_>) -> bool {
    versions.strings().iter().any(|version| matches!(*version, "v1" | "v1beta1"))
}
