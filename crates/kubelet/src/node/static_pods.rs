//! Pods of manifest files, and their mirrors in the API.
//!
//! A static pod runs whether or not there is an API server; its mirror only shows it. Source: kubelet `config/file.go`,
//! `pod/mirror_client.go`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_client::{Api, DeleteParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::context::Ctx;
use crate::notify::{WatchFlags, Watcher};

const SOURCE: &str = "kubernetes.io/config.source";
const HASH: &str = "kubernetes.io/config.hash";
const SEEN: &str = "kubernetes.io/config.seen";
/// How long a deleted mirror stays away. `kubectl delete` looks for the absence of the name before it watches, and would
/// wait for ever when another object of that name were there by then.
const REPLACE_AFTER: Duration = Duration::from_secs(1);
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Bytes of one manifest. Source: kubelet `maxConfigLength`.
const FILE_BYTES_MAX: u64 = 10 << 20;
const FILES_MAX: usize = 256;
/// Changes that come together are read together.
const SETTLE: Duration = Duration::from_millis(100);
/// A folder that cannot be watched is read this often. Source: kubelet `fileCheckFrequency`.
const READ_INTERVAL: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_secs(1);

/// Whether a mirror shows this static pod.
pub(super) fn mirrors(mirror: &Pod, pod: &Pod) -> bool {
    mirror.annotation(MIRROR) == pod.annotation(HASH)
}

pub(super) fn is_mirror(pod: &Pod) -> bool {
    pod.annotation(MIRROR).is_some()
}

/// Sends the pods of a folder, now and whenever it changes.
pub(super) async fn watch(dir: PathBuf, node_name: String, sender: mpsc::Sender<Vec<Pod>>) {
    let watcher = watcher(&dir);
    loop {
        let (folder, node) = (dir.clone(), node_name.clone());
        let list = tokio::task::spawn_blocking(move || read_folder(&folder, &node)).await.unwrap_or_default();
        if sender.send(list).await.is_err() {
            return;
        }
        match &watcher {
            Some(watcher) => watcher.changed().await,
            None => tokio::time::sleep(READ_INTERVAL).await,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

fn watcher(dir: &Path) -> Option<Watcher> {
    let _ = std::fs::create_dir_all(dir);
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::DELETE;
    Watcher::new(&[(dir, what)])
}

fn read_folder(dir: &Path, node_name: &str) -> Vec<Pod> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let hidden = |path: &PathBuf| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    files.retain(|path| !hidden(path) && path.is_file());
    let mut pods = Vec::new();
    for path in files.into_iter().take(FILES_MAX) {
        match read_file(&path, node_name) {
            Ok(pod) => pods.push(pod),
            Err(error) => tracing::warn!(error, path = %path.display(), "read a static pod"),
        }
    }
    pods
}

fn read_file(path: &Path, node_name: &str) -> Result<Pod, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("the file has more than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let value: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    let pod = Pod::from_value(&value).map_err(|error| error.to_string())?;
    if pod.name().is_empty() || pod.spec.is_none() {
        return Err("it is no pod: metadata.name and spec are required".to_owned());
    }
    Ok(complete(pod, &text, path, node_name))
}

/// What the API server would have filled in, and the marks of a static pod.
fn complete(mut pod: Pod, text: &str, path: &Path, node_name: &str) -> Pod {
    let mut hash = Sha256::new();
    hash.update(node_name);
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update(text);
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let meta = &mut pod.metadata;
    let uid = meta.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or(digest.clone());
    meta.name = meta.name.take().map(|name| format!("{name}-{node_name}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(uid);
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(HASH.to_owned(), digest);
    annotations.insert(SEEN.to_owned(), Timestamp::now().to_string());
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node_name.to_owned());
        spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
        spec.termination_grace_period_seconds.get_or_insert(30);
        spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
        let tolerates_all = Toleration {
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Toleration::default()
        };
        spec.tolerations.get_or_insert_default().push(tolerates_all);
    }
    pod
}

/// Keeps the mirrors of static pods in the API.
pub(super) struct Mirrors {
    wanted: watch::Sender<Vec<Arc<Pod>>>,
    wake: Arc<Notify>,
}

impl Mirrors {
    pub(super) fn start(ctx: &Ctx, stop: &CancellationToken) -> Self {
        let (wanted, receiver) = watch::channel(Vec::new());
        let wake = Arc::new(Notify::new());
        let keeper = Keeper { ctx: ctx.clone(), wanted: receiver, wake: wake.clone(), made: Vec::new() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
        Self { wanted, wake }
    }

    pub(super) fn set(&self, pods: Vec<Arc<Pod>>) {
        self.wanted.send_replace(pods);
        self.wake.notify_one();
    }

    /// A mirror has changed.
    pub(super) fn look(&self) {
        self.wake.notify_one();
    }
}

struct Keeper {
    ctx: Ctx,
    wanted: watch::Receiver<Vec<Arc<Pod>>>,
    wake: Arc<Notify>,
    /// Namespaces and names of mirrors that we made.
    made: Vec<(String, String)>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            match self.bring_about().await {
                Ok(()) => self.wake.notified().await,
                Err(error) => {
                    tracing::debug!(%error, "keep the mirrors of static pods");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn bring_about(&mut self) -> coracle_client::Result<()> {
        let wanted = self.wanted.borrow_and_update().clone();
        for pod in &wanted {
            self.ensure(pod).await?;
        }
        let names: Vec<(String, String)> =
            wanted.iter().map(|pod| (pod.namespace().to_owned(), pod.name().to_owned())).collect();
        for (namespace, name) in self.made.iter().filter(|made| !names.contains(made)) {
            let api = Api::<Pod>::namespaced(&self.ctx.client, namespace);
            ignore_gone(api.delete(name, &DeleteParams::default().grace(0)).await)?;
        }
        self.made = names;
        Ok(())
    }

    async fn ensure(&self, pod: &Arc<Pod>) -> coracle_client::Result<()> {
        let api = Api::<Pod>::namespaced(&self.ctx.client, pod.namespace());
        let found = match api.get_opt(pod.name()).await {
            // A pod that is not there leads to no node, so nodes may not ask for it.
            Err(error) if error.status().is_some_and(|status| status.is("Forbidden")) => None,
            found => found?,
        };
        if let Some(found) = found {
            if found.annotation(MIRROR) == pod.annotation(HASH) && !found.is_deleting() {
                return Ok(());
            }
            ignore_gone(api.delete(pod.name(), &DeleteParams::uid(found.uid()).grace(0)).await)?;
            if found.is_deleting() {
                tokio::time::sleep(REPLACE_AFTER).await;
            }
        }
        let node = Api::<Node>::all(&self.ctx.client).get(&self.ctx.config.node_name).await?;
        let mut mirror = pod.as_ref().clone();
        mirror.status = None;
        mirror.metadata.uid = None;
        let hash = pod.annotation(HASH).unwrap_or_default().to_owned();
        mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.name().to_owned(),
            uid: node.uid().to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        match api.create(&mirror).await {
            Err(error) if error.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }
}

fn ignore_gone(result: coracle_client::Result<()>) -> coracle_client::Result<()> {
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let folder = tempfile::tempdir().expect("folder");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";
        std::fs::write(folder.path().join("a.yaml"), text).expect("write");
        std::fs::write(folder.path().join("b.yaml"), "no: pod").expect("write");
        std::fs::write(folder.path().join(".c.yaml"), text).expect("write");
        let pods = read_folder(folder.path(), "n1");
        let [pod] = pods.as_slice() else { panic!("one pod, not {}", pods.len()) };
        assert_eq!((pod.name(), pod.namespace(), pod.uid().len()), ("a-n1", "default", 32));
        assert_eq!(pods.first().map(Pod::uid), read_folder(folder.path(), "n1").first().map(Pod::uid));
    }
}
