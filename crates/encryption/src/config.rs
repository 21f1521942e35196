//! Upstream's configuration file. Source: `apiserver.config.k8s.io/v1 EncryptionConfiguration` and its validation.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api_meta::{FieldError, FieldPath};
use serde::Deserialize;

const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";
const AES_KEY_BYTES: &[usize] = &[16, 24, 32];
const SECRETBOX_KEY_BYTES: &[usize] = &[32];

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EncryptionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub resources: Vec<ResourceConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceConfiguration {
    #[serde(default)]
    pub resources: Vec<String>,
    #[serde(default)]
    pub providers: Vec<ProviderConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderConfiguration {
    pub aesgcm: Option<Keys>,
    pub aescbc: Option<Keys>,
    pub secretbox: Option<Keys>,
    pub identity: Option<Nothing>,
    pub kms: Option<Kms>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    #[serde(default)]
    pub keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedKey {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub secret: String,
}

/// Shows the name only.
impl std::fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Kms {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub cachesize: Option<i32>,
    #[serde(default)]
    pub endpoint: String,
    #[serde(default)]
    pub timeout: Option<String>,
}

impl NamedKey {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.secret).unwrap_or_default()
    }
}

/// Reads and checks a configuration.
pub(crate) fn parse(text: &str) -> Result<EncryptionConfiguration, ConfigError> {
    if text.trim().is_empty() {
        return Err(ConfigError::new("the encryption configuration is empty"));
    }
    let config: EncryptionConfiguration = serde_saphyr::from_str(text).map_err(|error| unreadable(&error))?;
    if config.api_version != API_VERSION || config.kind != KIND {
        return Err(ConfigError::new(format!(
            "the encryption configuration must have apiVersion {API_VERSION:?} and kind {KIND:?}, not {:?} and {:?}",
            config.api_version, config.kind
        )));
    }
    match check(&config) {
        Some(error) => Err(ConfigError::new(format!("encryption configuration: {error}"))),
        None => Ok(config),
    }
}

/// Without the lines around the place, which may hold keys.
fn unreadable(error: &serde_saphyr::Error) -> ConfigError {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    ConfigError::new(format!("read the encryption configuration: {}", first.trim_start_matches("error: ")))
}

/// The first thing that is wrong.
fn check(config: &EncryptionConfiguration) -> Option<FieldError> {
    let root = FieldPath::new("resources");
    if config.resources.is_empty() {
        return Some(FieldError::required(&root, "at least one resources is required"));
    }
    let mut masks = Masks::default();
    config.resources.iter().enumerate().find_map(|(at, entry)| {
        let (resources, providers) = (root.index(at).child("resources"), root.index(at).child("providers"));
        if entry.resources.is_empty() {
            return Some(FieldError::required(&resources, format!("at least one {resources} is required")));
        }
        check_overlap(&entry.resources, &resources)
            .or_else(|| {
                let names = entry.resources.iter().enumerate();
                names.into_iter().find_map(|(at, name)| check_name(name, &resources.index(at)))
            })
            .or_else(|| masks.check(&entry.resources, &resources))
            .or_else(|| {
                let empty = entry.providers.is_empty();
                empty.then(|| FieldError::required(&providers, format!("at least one {providers} is required")))
            })
            .or_else(|| {
                let all = entry.providers.iter().enumerate();
                all.into_iter().find_map(|(at, provider)| check_provider(provider, &providers.index(at)))
            })
    })
}

/// A resource as it stands in the configuration: group and resource.
pub(crate) fn group_resource(text: &str) -> (&str, &str) {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    (group, resource)
}

fn check_overlap(resources: &[String], path: &FieldPath) -> Option<FieldError> {
    let parsed: Vec<_> = resources.iter().map(|text| group_resource(text)).collect();
    let mut seen = HashSet::new();
    if !parsed.iter().all(|one| seen.insert(*one)) {
        return Some(FieldError::invalid(path, resources, "the same resource cannot be specified multiple times"));
    }
    let masks = |one: &(&str, &str), other: &(&str, &str)| {
        one != other && (*one == ("*", "*") || (one.0 == other.0 && one.1 == "*"))
    };
    let overlap = parsed.iter().any(|one| parsed.iter().any(|other| masks(one, other)));
    overlap.then(|| {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
        FieldError::invalid(path, resources, why)
    })
}

fn check_name(name: &str, path: &FieldPath) -> Option<FieldError> {
    let (group, resource) = group_resource(name);
    let why = if name.to_lowercase() != name {
        "resource name should not contain capital letters"
    } else if name == "*" {
        "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    } else if matches!(name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        "resources which do not have REST API/s cannot be encrypted"
    } else if group == "events.k8s.io" {
        "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
    } else if group == "extensions" {
        "'extensions' group has been removed and cannot be used for encryption"
    } else if group == "*" && resource != "*" {
        "encrypting the same resource across groups is not supported"
    } else {
        return None;
    };
    Some(FieldError::invalid(path, name, why))
}

/// Wildcards of earlier entries, which leave later ones without an effect.
#[derive(Default)]
struct Masks<'a>(Vec<(&'a str, &'a str, &'a str)>);

impl<'a> Masks<'a> {
    fn check(&mut self, resources: &'a [String], path: &FieldPath) -> Option<FieldError> {
        for (at, text) in resources.iter().enumerate() {
            let (group, _) = group_resource(text);
            let mask = self.0.iter().find(|(own, _, _)| *own == "*" || *own == group);
            if let Some((_, _, by)) = mask {
                let why = format!("resource {text:?} is masked by earlier rule {by:?}");
                return Some(FieldError::invalid(&path.index(at), text.as_str(), why));
            }
        }
        let wild = resources.iter().map(|text| (group_resource(text), text.as_str()));
        self.0.extend(wild.filter(|((_, name), _)| *name == "*").map(|((group, name), text)| (group, name, text)));
        None
    }
}

fn check_provider(provider: &ProviderConfiguration, path: &FieldPath) -> Option<FieldError> {
    let found = [
        provider.kms.is_some(),
        provider.aesgcm.is_some(),
        provider.aescbc.is_some(),
        provider.secretbox.is_some(),
        provider.identity.is_some(),
    ];
    match found.iter().filter(|found| **found).count() {
        0 => {
            let why =
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
            return Some(FieldError::invalid_unshown(path, why));
        }
        1 => {}
        _ => {
            let why = "more than one provider specified in a single element, should split into different list elements";
            return Some(FieldError::invalid_unshown(path, why));
        }
    }
    let keys = [
        (&provider.aesgcm, "aesgcm", AES_KEY_BYTES),
        (&provider.aescbc, "aescbc", AES_KEY_BYTES),
        (&provider.secretbox, "secretbox", SECRETBOX_KEY_BYTES),
    ];
    keys.into_iter()
        .find_map(|(keys, name, lengths)| check_keys(keys.as_ref()?, &path.child(name).child("keys"), lengths))
        .or_else(|| provider.kms.as_ref().and_then(|kms| check_kms(kms, &path.child("kms"))))
}

fn check_keys(keys: &Keys, path: &FieldPath, lengths: &[usize]) -> Option<FieldError> {
    if keys.keys.is_empty() {
        return Some(FieldError::required(path, "at least one keys is required"));
    }
    keys.keys.iter().enumerate().find_map(|(at, key)| {
        let path = path.index(at);
        if key.name.is_empty() {
            return Some(FieldError::required(&path.child("name"), "name is a mandatory field for a key"));
        }
        let path = path.child("secret");
        if key.secret.is_empty() {
            return Some(FieldError::required(&path, "secret is a mandatory field for a key"));
        }
        let Ok(secret) = STANDARD.decode(&key.secret) else {
            return Some(FieldError::invalid(&path, "REDACTED", "secrets must be base64 encoded"));
        };
        if lengths.contains(&secret.len()) {
            return None;
        }
        let wanted = lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let why = format!("secret is not of the expected length, got {}, expected one of [{wanted}]", secret.len());
        Some(FieldError::invalid(&path, "REDACTED", why))
    })
}

fn check_kms(kms: &Kms, path: &FieldPath) -> Option<FieldError> {
    let _ = (&kms.cachesize, &kms.timeout);
    if kms.name.is_empty() {
        return Some(FieldError::required(&path.child("name"), "name is a mandatory field for a provider"));
    }
    if kms.endpoint.is_empty() {
        return Some(FieldError::invalid(&path.child("endpoint"), "", "endpoint is a mandatory field for a kms"));
    }
    if kms.api_version != "v2" {
        let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        return Some(FieldError::invalid(&path.child("apiVersion"), kms.api_version.as_str(), why));
    }
    Some(FieldError::forbidden(path, "providers of kind kms are not supported by this version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(body: &str, wanted: Expect) {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}");
        wanted.assert_eq(&parse(&text).map_or_else(|error| error.to_string(), |_| "good".to_owned()));
    }

    #[test]
    fn one_error_names_the_field() {
        let key = "{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}";
        check(
            &format!(
                "resources: [{{resources: [secrets, '*.apps'], providers: [{{aesgcm: {{keys: [{key}]}}}}, {{identity: {{}}}}]}}]"
            ),
            expect!["good"],
        );
        check(
            "resources: []",
            expect!["encryption configuration: resources: Required value: at least one resources is required"],
        );
        check(
            "resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: a, secret: AAAA}]}}]}]",
            expect![[
                r#"encryption configuration: resources[0].providers[0].aescbc.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected length, got 3, expected one of [16 24 32]"#
            ]],
        );
        check(
            "resources: [{resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: '***'}]}}]}]",
            expect![[
                r#"encryption configuration: resources[0].providers[0].secretbox.keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded"#
            ]],
        );
        check(
            "resources: [{resources: ['*'], providers: [{identity: {}}]}]",
            expect![[
                r#"encryption configuration: resources[0].resources[0]: Invalid value: "*": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"#
            ]],
        );
        check(
            "resources: [{resources: ['*.*'], providers: [{identity: {}}]}, {resources: [secrets], providers: [{identity: {}}]}]",
            expect![[
                r#"encryption configuration: resources[1].resources[0]: Invalid value: "secrets": resource "secrets" is masked by earlier rule "*.*""#
            ]],
        );
        check(
            "resources: [{resources: [secrets], providers: [{identity: {}, aesgcm: {keys: []}}]}]",
            expect![
                "encryption configuration: resources[0].providers[0]: Invalid value: more than one provider specified in a single element, should split into different list elements"
            ],
        );
        check(
            "resources: [{resources: [secrets], providers: [{rot13: {}}]}]",
            expect![
                "read the encryption configuration: line 3 column 49: unknown field `rot13`, expected one of aesgcm, aescbc, secretbox, identity, kms"
            ],
        );
    }
}
