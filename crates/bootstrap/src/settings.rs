//! What a cluster was made with and keeps.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{read, write};
use crate::{ClusterFolder, Error, Result};

/// Version of the folder's layout. A folder with a higher one is left alone.
pub const FORMAT_VERSION: u32 = 1;

/// Settled when the cluster is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    pub format_version: u32,
    pub node_name: String,
    /// Addresses of pods: `10.244.0.0/24`.
    pub pod_cidr: String,
    /// Addresses of services: `10.96.0.0/16`.
    pub service_cidr: String,
    pub cluster_domain: String,
    /// Where the API is served: `127.0.0.1:6443`. May change from start to start.
    pub listen: String,
    /// Short and unique on the host: names the bridge, the packet rules and the cgroup of this cluster.
    pub instance: String,
    /// Whether the cluster has kept data: from then on a missing store is a loss, and not a beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
}

/// The settings of a folder: those it has, after checking that none of `asked` wants otherwise, or `fresh` ones for a new
/// cluster. `None` in `asked` means that the user said nothing.
pub fn settle(folder: &ClusterFolder, asked: &Asked<'_>, fresh: ClusterSettings) -> Result<ClusterSettings> {
    let path = folder.settings();
    let mut settings = match read(&path)? {
        None => fresh,
        Some(text) => {
            let kept = parse(&path, &text)?;
            if kept.begun || folder.store().exists() {
                asked.agree(folder.root(), &kept)?;
                kept
            } else {
                // A first start that failed must not keep what it may have failed for.
                fresh
            }
        }
    };
    if let Some(listen) = asked.listen {
        listen.clone_into(&mut settings.listen);
    }
    let text = serde_json::to_string_pretty(&settings).expect("settings are plain data");
    if read(&path)?.as_deref() != Some(&text) {
        write(&path, text.as_bytes(), 0o600)?;
    }
    Ok(settings)
}

/// Notes that the cluster keeps data now.
pub fn note_begun(folder: &ClusterFolder) -> Result<()> {
    let mut settings = kept_settings(folder)?;
    if settings.begun {
        return Ok(());
    }
    settings.begun = true;
    let text = serde_json::to_string_pretty(&settings).expect("settings are plain data");
    write(&folder.settings(), text.as_bytes(), 0o600)
}

/// Refuses to begin anew where a cluster has lost its data. What the API server and the node keep beside the store tells
/// that there was one even where no note says so.
pub fn check_not_lost(folder: &ClusterFolder, settings: &ClusterSettings, store_exists: bool) -> Result<()> {
    let traces = [folder.audit_log(), folder.node(), folder.admin_kubeconfig()];
    if !store_exists && (settings.begun || traces.iter().any(|path| path.exists())) {
        return Err(Error::Lost { root: folder.root().to_owned(), store: folder.store() });
    }
    Ok(())
}

/// The settings of a cluster that exists.
pub fn kept_settings(folder: &ClusterFolder) -> Result<ClusterSettings> {
    let path = folder.settings();
    let text = read(&path)?.ok_or_else(|| Error::NoCluster(folder.root().to_owned()))?;
    parse(&path, &text)
}

fn parse(path: &Path, text: &str) -> Result<ClusterSettings> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u32,
    }
    let damaged = |error: serde_json::Error| Error::Damaged { path: path.to_owned(), why: error.to_string() };
    let Version { format_version: found } = serde_json::from_str(text).map_err(damaged)?;
    if found > FORMAT_VERSION {
        let path = path.parent().unwrap_or(path).to_owned();
        return Err(Error::Newer { path, found, known: FORMAT_VERSION });
    }
    serde_json::from_str(text).map_err(damaged)
}

/// What the user said on the command line.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    pub node_name: Option<&'a str>,
    pub pod_cidr: Option<&'a str>,
    pub service_cidr: Option<&'a str>,
    pub listen: Option<&'a str>,
}

impl Asked<'_> {
    fn agree(&self, root: &Path, kept: &ClusterSettings) -> Result<()> {
        for (what, asked, kept) in [
            ("node name", self.node_name, &kept.node_name),
            ("pod CIDR", self.pod_cidr, &kept.pod_cidr),
            ("service CIDR", self.service_cidr, &kept.service_cidr),
        ] {
            if let Some(asked) = asked.filter(|asked| asked != kept) {
                let (kept, asked) = (kept.clone(), asked.to_owned());
                return Err(Error::Changed { path: root.to_owned(), what, kept, asked });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> ClusterSettings {
        ClusterSettings {
            format_version: FORMAT_VERSION,
            node_name: "n1".to_owned(),
            pod_cidr: "10.244.0.0/24".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            listen: "127.0.0.1:6443".to_owned(),
            instance: "coracle".to_owned(),
            begun: false,
        }
    }

    #[test]
    fn lost_data_is_no_beginning() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let settings = settle(&folder, &Asked::default(), fresh()).expect("settings");
        check_not_lost(&folder, &settings, false).expect("a start that was cut off");
        note_begun(&folder).expect("noted");
        let settings = settle(&folder, &Asked::default(), fresh()).expect("settings");
        check_not_lost(&folder, &settings, true).expect("the data is there");
        let error = check_not_lost(&folder, &settings, false).expect_err("lost").to_string();
        assert!(error.contains("has lost its data") && error.contains("coracle reset"), "{error}");
        std::fs::create_dir(folder.node()).expect("folder");
        assert!(check_not_lost(&folder, &fresh(), false).is_err(), "a cluster without the note");
    }

    #[test]
    fn settings_stay_as_they_were_made() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let _lock = folder.lock().expect("lock");
        let other = ClusterSettings { node_name: "n2".to_owned(), ..fresh() };
        settle(&folder, &Asked::default(), other.clone()).expect("a first start that fails");
        settle(&folder, &Asked::default(), fresh()).expect("settings");
        note_begun(&folder).expect("data");
        let listen = Asked { listen: Some("127.0.0.1:7443"), ..Asked::default() };
        let again = settle(&folder, &listen, other.clone()).expect("settings");
        assert_eq!((again.node_name.as_str(), again.listen.as_str()), ("n1", "127.0.0.1:7443"));
        let wrong = Asked { pod_cidr: Some("10.0.0.0/24"), ..Asked::default() };
        assert!(matches!(settle(&folder, &wrong, other), Err(Error::Changed { what: "pod CIDR", .. })));
    }

    #[test]
    fn a_newer_folder_is_left_alone() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        std::fs::write(folder.settings(), r#"{"formatVersion": 99, "unknown": true}"#).expect("write");
        assert!(matches!(settle(&folder, &Asked::default(), fresh()), Err(Error::Newer { found: 99, .. })));
        std::fs::write(folder.settings(), "{").expect("write");
        assert!(matches!(settle(&folder, &Asked::default(), fresh()), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_folder_is_locked_once() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let lock = folder.lock().expect("lock");
        match folder.lock() {
            Err(Error::InUse { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        folder.lock().expect("free again");
    }

    #[test]
    fn a_file_is_no_data_folder() {
        let temporary = tempfile::tempdir().expect("folder");
        let file = temporary.path().join("file");
        std::fs::write(&file, "").expect("write");
        for path in [file.clone(), file.join("below/it")] {
            let error = ClusterFolder::new(&path).lock().expect_err("a file").to_string();
            assert_eq!(error, format!("data folder {} is a file: name a folder with --data-dir", file.display()));
        }
    }
}
