//! Which providers a collection has.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Names;
use crate::cipher::{Cipher, ClusterKey, Provider};
use crate::config::{self, ConfigError, NamedKey, ProviderConfiguration, group_resource};

type Providers = Arc<Vec<Provider>>;

/// Providers by group and resource. The first of them writes.
pub(crate) struct Rules {
    exact: HashMap<String, Providers>,
    groups: HashMap<String, Providers>,
    all: Option<Providers>,
}

impl Rules {
    pub(crate) fn read(configuration: Option<&str>, key: &ClusterKey, names: &Names) -> Result<Self, ConfigError> {
        match configuration {
            Some(text) => Self::parse(text, names),
            None => Ok(Self::of_cluster(key, names)),
        }
    }

    /// Secrets with the cluster's own key; those of before that are read as they are.
    fn of_cluster(key: &ClusterKey, names: &Names) -> Self {
        let providers = Arc::new(vec![key.provider(names), Provider::Identity]);
        Self { exact: HashMap::from([("secrets".to_owned(), providers)]), groups: HashMap::new(), all: None }
    }

    pub(crate) fn parse(text: &str, names: &Names) -> Result<Self, ConfigError> {
        let config = config::parse(text)?;
        let mut found: HashMap<(String, String), Vec<Provider>> = HashMap::new();
        for entry in &config.resources {
            for resource in &entry.resources {
                let (group, name) = group_resource(resource);
                let providers = entry.providers.iter().flat_map(|provider| providers(provider, names));
                found.entry((group.to_owned(), name.to_owned())).or_default().extend(providers);
            }
        }
        let mut rules = Self { exact: HashMap::new(), groups: HashMap::new(), all: None };
        for ((group, name), providers) in found {
            let providers = Arc::new(providers);
            match (group.as_str(), name.as_str()) {
                ("*", "*") => rules.all = Some(providers),
                (_, "*") => drop(rules.groups.insert(group, providers)),
                ("", _) => drop(rules.exact.insert(name, providers)),
                _ => drop(rules.exact.insert(format!("{group}/{name}"), providers)),
            }
        }
        Ok(rules)
    }

    /// The providers of a collection (`secrets`, `apps/deployments`), the writing one first; `None`: as it is.
    pub(crate) fn of(&self, collection: &str) -> Option<&[Provider]> {
        let group = collection.split_once('/').map_or("", |(group, _)| group);
        let found = self.exact.get(collection).or_else(|| self.groups.get(group)).or(self.all.as_ref());
        found.map(|providers| providers.as_slice())
    }
}

fn providers(provider: &ProviderConfiguration, names: &Names) -> Vec<Provider> {
    let all = |kind: &str, keys: &[NamedKey], make: fn(&[u8]) -> Option<Cipher>| {
        let one = |key: &NamedKey| {
            let prefix = format!("k8s:enc:{kind}:v1:{}:", key.name);
            let secret = key.bytes();
            let id = names.id(&prefix, &secret);
            make(&secret).map(|cipher| Provider::Key { prefix, cipher, id })
        };
        keys.iter().filter_map(one).collect()
    };
    match provider {
        ProviderConfiguration { aesgcm: Some(keys), .. } => all("aesgcm", &keys.keys, Cipher::gcm),
        ProviderConfiguration { aescbc: Some(keys), .. } => all("aescbc", &keys.keys, Cipher::cbc),
        ProviderConfiguration { secretbox: Some(keys), .. } => all("secretbox", &keys.keys, Cipher::secretbox),
        _ => vec![Provider::Identity],
    }
}
