//! The user's kubeconfig: adding a context for a cluster and taking it away again.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use coracle_client::Kubeconfig;
use serde::{Deserialize, Serialize};
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

/// A kubeconfig that holds a cluster's context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Known")]
pub struct Remembered {
    pub path: PathBuf,
    /// The current context before ours was; empty for none.
    pub former_context: String,
}

/// What earlier versions noted was the path alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Known {
    Path(PathBuf),
    Whole { path: PathBuf, former_context: String },
}

impl From<Known> for Remembered {
    fn from(known: Known) -> Self {
        match known {
            Known::Path(path) => Self { path, former_context: String::new() },
            Known::Whole { path, former_context } => Self { path, former_context },
        }
    }
}

/// Fails where [`merge_kubeconfig`] would because of what is in the file.
pub fn check_kubeconfig(path: &Path) -> Result<()> {
    load(path).map(drop)
}

/// Adds or replaces the context, makes it the current one, and leaves all else as it was. The file is made when missing.
/// Returns which context was the current one.
pub fn merge_kubeconfig(path: &Path, access: &Access<'_>) -> Result<String> {
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
    let former = std::mem::replace(&mut config.current_context, access.name.to_owned());
    save(path, &config)?;
    Ok(former)
}

/// Takes the context, its cluster and its user away. Where it is the current one, `former_context` is again, if there
/// still is one of the name. Returns whether there was anything to take.
pub fn remove_from_kubeconfig(path: &Path, name: &str, former_context: &str) -> Result<bool> {
    let Some(mut config) = load(path)? else { return Ok(false) };
    let before = config.clone();
    for list in [&mut config.clusters, &mut config.contexts, &mut config.users] {
        list.retain(|entry| entry.name != name);
    }
    if config == before {
        return Ok(false);
    }
    if config.current_context == name {
        let former = config.contexts.iter().find(|context| context.name == former_context);
        config.current_context = former.map(|context| context.name.clone()).unwrap_or_default();
    }
    save(path, &config)?;
    Ok(true)
}

/// Notes in the cluster's folder that `path` holds its context, so that a reset can take it out.
/// `former_context` counts unless it is the cluster's own.
pub fn remember_kubeconfig(folder: &ClusterFolder, path: &Path, name: &str, former_context: &str) -> Result<()> {
    let mut known = remembered_kubeconfigs(folder)?;
    let before = known.clone();
    let former_context = if former_context == name { "" } else { former_context };
    match known.iter_mut().find(|other| other.path == path) {
        Some(other) if !former_context.is_empty() => former_context.clone_into(&mut other.former_context),
        Some(_) => {}
        None => known.push(Remembered { path: path.to_owned(), former_context: former_context.to_owned() }),
    }
    if known == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&known).expect("paths are plain data");
    write(&folder.root().join("kubeconfigs.json"), &text, 0o600)
}

/// What [`remember_kubeconfig`] noted.
pub fn remembered_kubeconfigs(folder: &ClusterFolder) -> Result<Vec<Remembered>> {
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
        let before = std::fs::read_to_string(&path).expect("file");
        merge_kubeconfig(&path, &access("coracle")).expect("merge");
        merge_kubeconfig(&path, &access("coracle")).expect("merge again");
        let config = Kubeconfig::load(&path).expect("kubeconfig");
        assert_eq!((config.contexts.len(), config.current_context.as_str()), (2, "coracle"));
        let client = config.client_config(None, Path::new("/")).expect("context");
        assert_eq!(client.ca_pem.as_deref(), Some(&b"ca"[..]));
        assert!(remove_from_kubeconfig(&path, "coracle", "other").expect("remove"));
        assert!(!remove_from_kubeconfig(&path, "coracle", "other").expect("remove"));
        assert_eq!(std::fs::read_to_string(&path).expect("file"), before);
        assert!(remove_from_kubeconfig(&path, "other", "gone").expect("remove"));
        let after = std::fs::read_to_string(&path).expect("file");
        assert!(!after.contains("current-context"), "{after}");
    }

    #[test]
    fn the_former_context_is_remembered() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        std::fs::write(temporary.path().join("kubeconfigs.json"), r#"["/a"]"#).expect("write");
        for former in ["work", "coracle", "", "home", "coracle"] {
            remember_kubeconfig(&folder, Path::new("/b"), "coracle", former).expect("remembered");
        }
        let known = remembered_kubeconfigs(&folder).expect("known");
        let known: Vec<_> =
            known.iter().map(|own| (own.path.to_string_lossy().into_owned(), own.former_context.as_str())).collect();
        assert_eq!(known, [("/a".to_owned(), ""), ("/b".to_owned(), "home")]);
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let temporary = tempfile::tempdir().expect("folder");
        let path = temporary.path().join("config");
        std::fs::write(&path, "clusters: {").expect("write");
        let access = Access { name: "a", server: "s", ca_cert_pem: "", client_cert_pem: "", client_key_pem: "" };
        assert!(merge_kubeconfig(&path, &access).is_err());
        let error = check_kubeconfig(&path).expect_err("damaged").to_string();
        assert!(error.starts_with(&format!("kubeconfig {}: ", path.display())), "{error}");
        check_kubeconfig(&temporary.path().join("missing")).expect("it will be made");
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "clusters: {");
    }
}
