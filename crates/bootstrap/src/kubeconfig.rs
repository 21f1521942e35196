//! The user's kubeconfig: adding a context for a cluster and taking it away again.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use coracle_client::Kubeconfig;
use serde_json::{Map, Value, json};

use crate::files::{read, write};
use crate::{ClusterFolder, Error, Result};

/// What a context needs.
#[derive(Debug, Clone)]
pub struct Access<'a> {
    /// Of cluster, context and user: `coracle`.
    pub name: &'a str,
    /// `https://127.0.0.1:6443`
    pub server: &'a str,
    pub ca_cert_pem: &'a str,
    pub client_cert_pem: &'a str,
    pub client_key_pem: &'a str,
}

/// Adds or replaces the context, makes it the current one, and leaves all else as it was. The file is made when missing.
pub fn merge_kubeconfig(path: &Path, access: &Access<'_>) -> Result<()> {
    let mut config = load(path)?.unwrap_or_default();
    "v1".clone_into(&mut config.api_version);
    "Config".clone_into(&mut config.kind);
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    put(
        &mut config.clusters,
        access.name,
        "cluster",
        json!({
            "server": access.server,
            "certificate-authority-data": encode(access.ca_cert_pem),
        }),
    );
    put(
        &mut config.users,
        access.name,
        "user",
        json!({
            "client-certificate-data": encode(access.client_cert_pem),
            "client-key-data": encode(access.client_key_pem),
        }),
    );
    put(&mut config.contexts, access.name, "context", json!({"cluster": access.name, "user": access.name}));
    access.name.clone_into(&mut config.current_context);
    save(path, &config)
}

/// Takes the context, its cluster and its user away. Returns whether there was anything to take.
pub fn remove_from_kubeconfig(path: &Path, name: &str) -> Result<bool> {
    let Some(mut config) = load(path)? else { return Ok(false) };
    let before = config.clone();
    for list in [&mut config.clusters, &mut config.contexts, &mut config.users] {
        list.retain(|entry| entry.name != name);
    }
    if config == before {
        return Ok(false);
    }
    if config.current_context == name {
        config.current_context.clear();
    }
    save(path, &config)?;
    Ok(true)
}

/// Notes in the cluster's folder that `path` holds its context, so that a reset can take it out.
pub fn remember_kubeconfig(folder: &ClusterFolder, path: &Path) -> Result<()> {
    let mut known = remembered_kubeconfigs(folder)?;
    if known.iter().any(|other| other == path) {
        return Ok(());
    }
    known.push(path.to_owned());
    let text = serde_json::to_vec(&known).expect("paths are plain data");
    write(&folder.root().join("kubeconfigs.json"), &text, 0o600)
}

/// What [`remember_kubeconfig`] noted.
pub fn remembered_kubeconfigs(folder: &ClusterFolder) -> Result<Vec<PathBuf>> {
    let text = read(&folder.root().join("kubeconfigs.json"))?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn load(path: &Path) -> Result<Option<Kubeconfig>> {
    match read(path)? {
        Some(text) if !text.trim().is_empty() => {
            Kubeconfig::load(path).map(Some).map_err(|error| Error::Kubeconfig(error.to_string()))
        }
        _ => Ok(None),
    }
}

fn save(path: &Path, config: &Kubeconfig) -> Result<()> {
    let text = config.to_yaml().map_err(|error| Error::Kubeconfig(error.to_string()))?;
    if let Some(folder) = path.parent() {
        crate::files::make_folder(folder)?;
    }
    // A full disk must not keep a cluster from starting again.
    if read(path)?.as_deref() == Some(&text) {
        return Ok(());
    }
    // A link stays a link.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    write(&target, text.as_bytes(), 0o600)
}

/// A context keeps settings of its own, such as a namespace.
fn put(list: &mut Vec<coracle_client::Named>, name: &str, what: &str, fields: Value) {
    let Value::Object(fields) = fields else { return };
    if let Some(entry) = list.iter_mut().find(|entry| entry.name == name) {
        let body = entry.body.entry(what).or_insert_with(|| Value::Object(Map::new()));
        match body {
            Value::Object(body) => body.extend(fields),
            other => *other = Value::Object(fields),
        }
        return;
    }
    let body = Map::from_iter([(what.to_owned(), Value::Object(fields))]);
    list.push(coracle_client::Named { name: name.to_owned(), body });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_contexts_are_left_alone() {
        let temporary = tempfile::tempdir().expect("folder");
        let path = temporary.path().join("deep/config");
        let access = |name| Access {
            name,
            server: "https://127.0.0.1:6443",
            ca_cert_pem: "ca",
            client_cert_pem: "cert",
            client_key_pem: "key",
        };
        merge_kubeconfig(&path, &access("other")).expect("merge");
        let before = std::fs::read_to_string(&path).expect("file").replace("current-context: other", "");
        merge_kubeconfig(&path, &access("coracle")).expect("merge");
        merge_kubeconfig(&path, &access("coracle")).expect("merge again");
        let config = Kubeconfig::load(&path).expect("kubeconfig");
        assert_eq!((config.contexts.len(), config.current_context.as_str()), (2, "coracle"));
        let client = config.client_config(None, Path::new("/")).expect("context");
        assert_eq!(client.ca_pem.as_deref(), Some(&b"ca"[..]));
        assert!(remove_from_kubeconfig(&path, "coracle").expect("remove"));
        assert!(!remove_from_kubeconfig(&path, "coracle").expect("remove"));
        let after = std::fs::read_to_string(&path)
            .expect("file")
            .replace("current-context: ''", "")
            .replace("current-context: \"\"", "");
        assert_eq!(before.trim(), after.trim());
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let temporary = tempfile::tempdir().expect("folder");
        let path = temporary.path().join("config");
        std::fs::write(&path, "clusters: {").expect("write");
        let access = Access { name: "a", server: "s", ca_cert_pem: "", client_cert_pem: "", client_key_pem: "" };
        assert!(merge_kubeconfig(&path, &access).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "clusters: {");
    }
}
