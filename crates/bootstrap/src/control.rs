//! What a command asks of the running cluster: one JSON line each way over a socket that only root can open.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ClusterFolder, Error, Result, kept_settings};

/// Bytes of one request or answer.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Work on the node's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    ListImages,
    /// An OCI layout (folder or archive) or what `docker save` wrote; an absolute path.
    LoadImage {
        path: PathBuf,
    },
    PullImage {
        image: String,
    },
    RemoveImage {
        image: String,
    },
    TagImage {
        image: String,
        name: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Images(Vec<ImageRow>),
    Failed(String),
}

/// One name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// `repository:tag`, or empty for an image without names.
    pub name: String,
    /// `sha256:...`
    pub id: String,
    /// Of the manifest, as registries know it: `sha256:...`.
    #[serde(default)]
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// Where the cluster of an instance listens.
#[must_use]
pub fn socket_path(instance: &str) -> PathBuf {
    Path::new("/run").join(instance).join("control.sock")
}

/// Asks the cluster that runs from `folder`.
pub fn ask(folder: &ClusterFolder, request: &Request) -> Result<Vec<ImageRow>> {
    let path = socket_path(&kept_settings(folder)?.instance);
    let failed = |why: String| Error::Control { path: folder.root().to_owned(), why };
    let mut stream = UnixStream::connect(&path).map_err(|error| failed(format!("is it running? ({error})")))?;
    let mut line = serde_json::to_vec(request).expect("requests are plain data");
    line.push(b'\n');
    stream.write_all(&line).map_err(|error| failed(error.to_string()))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| failed(error.to_string()))?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Images(images)) => Ok(images),
        Ok(Answer::Failed(why)) => Err(Error::Refused(why)),
        Err(error) => Err(failed(error.to_string())),
    }
}
