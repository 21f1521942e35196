//! What a container left to say when it ended. Source: `Container.terminationMessagePath` and `terminationMessagePolicy`.

use coracle_cri::ContainerStatus;

use crate::container::{ANNOTATION_MESSAGE_PATH, ANNOTATION_MESSAGE_POLICY};
use crate::logs;

/// Bytes of a message. Source: `MaxContainerTerminationMessageLength`.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Of a message that comes from the log.
const LOG_LINES_MAX: usize = 80;
const LOG_BYTES_MAX: usize = 2048;

/// The content of its file; for a failed container that so wishes, the end of its log instead of an empty file.
pub(crate) async fn last_words(status: &ContainerStatus) -> String {
    let annotation = |name: &str| status.annotations.get(name).map(String::as_str).unwrap_or_default();
    let path = annotation(ANNOTATION_MESSAGE_PATH);
    let mount = status.mounts.iter().find(|mount| mount.container_path == path && !path.is_empty());
    let written = match mount {
        Some(mount) => read_end(mount.host_path.clone()).await,
        None => String::new(),
    };
    let falls_back = annotation(ANNOTATION_MESSAGE_POLICY) == "FallbackToLogsOnError" && status.exit_code != 0;
    if !written.is_empty() || !falls_back {
        return written;
    }
    let log = status.log_path.clone();
    tokio::task::spawn_blocking(move || logs::tail_text(std::path::Path::new(&log), LOG_LINES_MAX, LOG_BYTES_MAX))
        .await
        .unwrap_or_default()
}

async fn read_end(path: String) -> String {
    let read = move || -> std::io::Result<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(MESSAGE_BYTES_MAX as u64)))?;
        let mut bytes = Vec::new();
        file.take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    tokio::task::spawn_blocking(read).await.ok().and_then(Result::ok).unwrap_or_default()
}
