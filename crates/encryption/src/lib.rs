//! Which stored objects are encrypted on disk, and with which keys.
//!
//! [`Encryption`] is the store's [`Seal`]: it follows upstream's `EncryptionConfiguration`, in upstream's format on disk
//! (`k8s:enc:aesgcm:v1:<key>:`...), so that keys rotate the same way: the first provider of a resource writes, all of them
//! read. Without a configuration, secrets are encrypted with the cluster's own key ([`ClusterKey`]), which stays readable
//! under every configuration. A configuration can be replaced while the store is open.
//!
//! The name of the object is authenticated with its value, so that no value can be put in another's place. This crate reads
//! no files and never sees what is in memory.

mod cipher;
mod config;
mod rules;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use coracle_store::{Key, Opened, Seal, SealId, Sealed};

pub use cipher::ClusterKey;
use cipher::Provider;
pub use config::ConfigError;
use rules::Rules;

/// How every encrypted value begins.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// The encryption of one store.
pub struct Encryption {
    rules: ArcSwap<Rules>,
    own: Provider,
    names: Names,
}

impl Encryption {
    /// With the cluster's own key, and by `configuration` (YAML or JSON) where there is one.
    pub fn new(key: &ClusterKey, configuration: Option<&str>) -> Result<Self, ConfigError> {
        let names = Names::default();
        let rules = Rules::read(configuration, key, &names)?;
        Ok(Self { rules: ArcSwap::from_pointee(rules), own: key.provider(&names), names })
    }

    /// Takes another configuration. What is stored stays as it is until it is written again.
    pub fn reload(&self, configuration: &str) -> Result<(), ConfigError> {
        let rules = Rules::parse(configuration, &self.names)?;
        self.rules.store(rules.into());
        Ok(())
    }
}

impl Seal for Encryption {
    fn seal(&self, key: &Key, value: &[u8]) -> Result<Sealed, String> {
        let rules = self.rules.load();
        match rules.of(&key.collection).and_then(|providers| providers.first()) {
            Some(Provider::Key { cipher, prefix, id }) => {
                let value = cipher.seal(prefix.as_bytes(), value, path(key).as_bytes())?;
                Ok(Sealed { value: Some(value), id: *id })
            }
            Some(Provider::Identity) | None => Ok(Sealed::default()),
        }
    }

    fn open(&self, key: &Key, stored: &[u8]) -> Result<Opened, String> {
        let rules = self.rules.load();
        let providers = rules.of(&key.collection);
        let encrypted = stored.starts_with(ENCRYPTED);
        let plain = providers.is_none_or(|providers| providers.iter().any(|one| matches!(one, Provider::Identity)));
        if !encrypted && plain {
            return Ok(Opened::default());
        }
        let mut why = None;
        for provider in providers.into_iter().flatten().chain([&self.own]) {
            let Provider::Key { prefix, cipher, id } = provider else { continue };
            let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else { continue };
            match cipher.open(rest, path(key).as_bytes()) {
                Ok(value) => return Ok(Opened { value: Some(value), id: *id }),
                Err(error) => why = Some(format!("{error} ({})", prefix.trim_end_matches(':'))),
            }
        }
        Err(why.unwrap_or_else(|| unreadable(stored, encrypted)))
    }

    fn current(&self, collection: &str) -> SealId {
        let rules = self.rules.load();
        match rules.of(collection).and_then(|providers| providers.first()) {
            Some(Provider::Key { id, .. }) => *id,
            Some(Provider::Identity) | None => SealId::default(),
        }
    }
}

fn unreadable(stored: &[u8], encrypted: bool) -> String {
    if !encrypted {
        return "it is stored as it is, and no provider `identity: {}` of the encryption configuration reads that"
            .to_owned();
    }
    // `k8s:enc:<provider>:v1:<key>:`, which is text.
    let shown = stored.split(|&byte| byte == b':').take(5).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":");
    format!("no provider of the encryption configuration reads {shown:?}; add the one that wrote it")
}

/// What is authenticated with a value: where upstream keeps it.
fn path(key: &Key) -> String {
    format!("/registry/{}/{}", key.collection, key.name)
}

/// Gives the same number to the same key in every configuration of a process.
#[derive(Default)]
struct Names(Mutex<HashMap<Vec<u8>, u32>>);

impl Names {
    fn id(&self, prefix: &str, secret: &[u8]) -> SealId {
        let mut named = prefix.as_bytes().to_vec();
        named.extend_from_slice(digest(&SHA256, secret).as_ref());
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(names.len() + 1).unwrap_or(u32::MAX);
        SealId(*names.entry(named).or_insert(next))
    }
}
