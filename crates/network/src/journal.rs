//! Which sysctls of the host were changed, and what they were before.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coracle_host_net::HostNet;
use serde::{Deserialize, Serialize};

use crate::Error;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Sysctl to the value it had.
    pub(crate) sysctls: BTreeMap<String, String>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("network.json")
}

impl Journal {
    /// An unreadable journal counts as none: what it said can only be lost once.
    pub(crate) fn load(dir: Option<&Path>) -> Journal {
        let Some(dir) = dir else { return Journal::default() };
        match std::fs::read(path(dir)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path(dir).display(), "the network journal is not readable");
                Journal::default()
            }),
            Err(_) => Journal::default(),
        }
    }

    fn save(&self, dir: Option<&Path>) -> Result<(), Error> {
        let Some(dir) = dir else { return Ok(()) };
        let path = path(dir);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir)?;
            let next = path.with_extension("json.new");
            std::fs::write(&next, serde_json::to_vec(self).map_err(std::io::Error::other)?)?;
            std::fs::rename(&next, &path)
        };
        write().map_err(|source| Error::Journal { path: path.clone(), source })
    }

    pub(crate) fn remove(dir: Option<&Path>) -> Result<(), Error> {
        let Some(dir) = dir else { return Ok(()) };
        match std::fs::remove_file(path(dir)) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Journal { path: path(dir), source }),
            _ => Ok(()),
        }
    }

    /// Sets a sysctl of the whole host, noting first what it was.
    pub(crate) async fn set(
        &mut self,
        host: &dyn HostNet,
        dir: Option<&Path>,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        match host.sysctl(key).await? {
            Some(current) if current == value => Ok(()),
            Some(current) => {
                self.sysctls.entry(key.to_owned()).or_insert(current);
                self.save(dir)?;
                Ok(host.set_sysctl(key, value).await?)
            }
            None => Ok(host.set_sysctl(key, value).await?),
        }
    }
}
