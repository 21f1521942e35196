//! What the user says about the API server, and the files behind it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use coracle_encryption::{ClusterKey, Encryption};

use crate::cluster::Scope;
use crate::files;

const ENCRYPTION: &str = "--encryption-provider-config";

/// Options of the API server under upstream's names.
#[derive(Debug, Clone, Default)]
pub struct ApiOptions {
    pub encryption_provider_config: Option<PathBuf>,
}

impl ApiOptions {
    /// How the store is encrypted. A file with a configuration is followed.
    pub(crate) fn encryption(&self, cluster_key: &str, scope: &Scope) -> Result<Arc<Encryption>> {
        let key = ClusterKey::parse(cluster_key).context("pki/encryption.key")?;
        let Some(path) = &self.encryption_provider_config else {
            return Ok(Arc::new(Encryption::new(&key, None)?));
        };
        let text = files::read(ENCRYPTION, path)?;
        let encryption =
            Encryption::new(&key, Some(&text)).with_context(|| format!("{ENCRYPTION} {}", path.display()))?;
        let encryption = Arc::new(encryption);
        let followed = Arc::clone(&encryption);
        files::watch(ENCRYPTION, path.clone(), text, scope, move |text| {
            followed.reload(text).map_err(|error| error.to_string())
        })?;
        Ok(encryption)
    }
}
