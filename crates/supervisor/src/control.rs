//! The socket through which commands work on the node's images. Only root can open it.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use coracle_bootstrap::control::{Answer, ImageRow, MESSAGE_BYTES_MAX, Request, socket_path};
use coracle_cri::ImageService as _;
use coracle_image::ImageRecord;
use coracle_runtime::Runtime;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::cluster::Scope;
use crate::node::Node;

/// Answers until the cluster stops.
pub(crate) fn serve(instance: &str, node: &Node, scope: &Scope) -> Result<()> {
    let path = socket_path(instance);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    // The lock on the data folder says that nobody else listens here.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let runtime = node.runtime.clone();
    let tasks = scope.tasks.clone();
    let accept = async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tasks.spawn(answer(runtime.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    };
    scope.tasks.spawn(scope.stop.clone().run_until_cancelled_owned(accept));
    Ok(())
}

async fn answer(runtime: Arc<Runtime>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
    if BufReader::new(read.take(limit)).read_line(&mut line).await.is_err() {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match carry_out(&runtime, request).await {
            Ok(images) => Answer::Images(images),
            Err(error) => Answer::Failed(format!("{error:#}")),
        },
        Err(error) => Answer::Failed(format!("not a request: {error}")),
    };
    let mut bytes = serde_json::to_vec(&answer).expect("answers are plain data");
    bytes.push(b'\n');
    // Who asked may have gone away.
    let _ = write.write_all(&bytes).await;
}

async fn carry_out(runtime: &Arc<Runtime>, request: Request) -> Result<Vec<ImageRow>> {
    let images = runtime.images().clone();
    match request {
        Request::ListImages => Ok(images.list().iter().flat_map(rows).collect()),
        Request::LoadImage { path } => {
            let loaded = tokio::task::spawn_blocking(move || images.load(&path)).await??;
            Ok(loaded.iter().flat_map(rows).collect())
        }
        Request::PullImage { image } => {
            let id = runtime.pull_image(&image, None).await?;
            Ok(vec![ImageRow { name: image, id, digest: String::new(), size: 0 }])
        }
        Request::RemoveImage { image } => {
            anyhow::ensure!(images.find(&image).is_some(), "image {image:?} is not on this node");
            runtime.remove_image(&image).await?;
            Ok(Vec::new())
        }
        Request::TagImage { image, name } => {
            images.tag(&image, &name)?;
            Ok(images.find(&name).iter().flat_map(rows).collect())
        }
    }
}

/// As the repository of a name knows it, which may be an index of several platforms; else that of the manifest.
fn digest_of(record: &ImageRecord, name: &str) -> String {
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    let found = record.digests.iter().filter_map(|digest| digest.split_once('@'));
    let own = found.into_iter().find(|(known, _)| *known == repository);
    own.map_or_else(|| record.manifest.to_string(), |(_, digest)| digest.to_owned())
}

fn rows(record: &ImageRecord) -> Vec<ImageRow> {
    let row = |name: &str| ImageRow {
        name: name.to_owned(),
        id: record.id.to_string(),
        digest: digest_of(record, name),
        size: record.size,
    };
    if record.tags.is_empty() { vec![row("")] } else { record.tags.iter().map(|tag| row(tag)).collect() }
}
