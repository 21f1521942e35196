//! Keeps logs small: a log that has grown too large is renamed and begun anew.

use std::path::{Path, PathBuf};

use coracle_cri::ContainerState;
use jiff::Timestamp;

use super::rotated;
use crate::context::Context;

/// Rotates every running container's log that is too large.
pub(crate) async fn rotate_all(ctx: &Context) {
    for snapshot in ctx.workers.snapshots().into_values() {
        for container in snapshot.runtime.containers.iter().filter(|one| one.state == ContainerState::Running) {
            let path = PathBuf::from(&container.log_path);
            let size = tokio::fs::metadata(&path).await.map_or(0, |metadata| metadata.len());
            if size < ctx.config.container_log_bytes_max {
                continue;
            }
            if let Err(error) = rotate(ctx, &container.id, &path).await {
                tracing::warn!(%error, path = %path.display(), "rotate a log");
            }
        }
    }
}

async fn rotate(ctx: &Context, id: &str, path: &Path) -> crate::Result<()> {
    let keep = ctx.config.container_log_files_max.max(2) - 2;
    let old = rotated(path);
    let surplus = old.len().saturating_sub(keep);
    for file in old.iter().take(surplus) {
        let _ = std::fs::remove_file(file);
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut target = path.as_os_str().to_owned();
    target.push(format!(".{stamp}"));
    std::fs::rename(path, &target).map_err(|error| crate::Error::message(format!("rename the log: {error}")))?;
    if let Err(error) = ctx.runtime.reopen_container_log(id).await {
        // The container goes on writing into the renamed file: give it its name back.
        let _ = std::fs::rename(&target, path);
        return Err(error.into());
    }
    Ok(())
}
