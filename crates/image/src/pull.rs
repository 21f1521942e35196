//! Pulls images from registries: layers side by side, downloads that go on where they broke off.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use coracle_host::{Context, fs as host_fs};
use futures::{FutureExt, StreamExt};
use http::StatusCode;

use crate::digest::Hasher;
use crate::http::next_part;
use crate::load::check_layers;
use crate::manifest::{Descriptor, Document, Manifest};
use crate::registry::Repository;
use crate::{Digest, Error, ImageConfig, ImageRecord, ImageStore, Reference, Result};

/// Layers of one image that are fetched at once.
const LAYERS_AT_ONCE: usize = 3;
/// How often a download that breaks off is taken up again without having come further.
const ATTEMPTS_MAX: usize = 5;
const COPY_BYTES: usize = 256 << 10;

/// Who asks a registry. Empty: nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// Exchanged for a bearer token.
    pub identity_token: String,
    /// Sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Pulls an image, or what of it is missing, and unpacks it.
    pub async fn pull(&self, name: &str, credentials: &Credentials) -> Result<ImageRecord> {
        let reference = Reference::parse(name)?;
        let _arriving = self.arriving();
        let what = format!("failed to pull and unpack image \"{reference}\"");
        self.pull_reference(&reference, credentials).await.map_err(|error| error.during(&what))
    }

    async fn pull_reference(&self, reference: &Reference, credentials: &Credentials) -> Result<ImageRecord> {
        let repository = Repository::new(self.client(), self.config(), reference, credentials);
        let what = format!("failed to resolve reference \"{reference}\"");
        let top = repository.manifest(reference.target()).await.map_err(|error| error.during(&what))?;
        let digest = Digest::of(&top);
        let (bytes, manifest) = platform_manifest(&repository, top).await?;
        let config = match self.read_blob(&manifest.config.digest, crate::store::DOCUMENT_BYTES_MAX) {
            Ok(config) => config,
            Err(_) => repository.small_blob(&manifest.config.digest).await?,
        };
        let diff_ids = ImageConfig::parse(&config)?.rootfs.diff_ids;
        check_layers(&manifest, &diff_ids)?;
        let (halt, mut layers) = (Halt::default(), Vec::new());
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            layers.push(self.pull_layer(&repository, layer, diff_id, &halt).boxed());
        }
        // All are waited for, also after one has failed: each clears away what it has begun.
        futures::stream::iter(layers).buffer_unordered(LAYERS_AT_ONCE).for_each(|()| async {}).await;
        halt.check()?;
        let by_digest = Reference { tag: None, digest: Some(digest), ..reference.clone() };
        let by_tag = Reference { digest: None, ..reference.clone() };
        let mut names = vec![by_digest];
        if by_tag.tag.is_some() {
            names.push(by_tag);
        }
        let store = self.clone();
        blocking(move || store.enter(&bytes, &config, &names)).await
    }

    /// Fetches one layer; its failure halts the others.
    async fn pull_layer(&self, repository: &Repository<'_>, layer: &Descriptor, diff_id: &Digest, halt: &Halt) {
        // The same layer may be on its way for another image.
        let turn = self.turn_of(&layer.digest);
        let _turn = turn.lock().await;
        if self.has_layer(diff_id) {
            return;
        }
        if let Err(error) = self.fetch_layer(repository, layer, diff_id, halt).await {
            halt.because(error);
        }
    }

    async fn fetch_layer(
        &self,
        repository: &Repository<'_>,
        layer: &Descriptor,
        diff_id: &Digest,
        halt: &Halt,
    ) -> Result<()> {
        let place = self.dir().join("tmp").join(format!("{}.partial", layer.digest.hex()));
        download(repository, layer, &place, halt).await?;
        let (store, diff_id, path) = (self.clone(), diff_id.clone(), place.clone());
        let result = blocking(move || {
            let file = File::open(&path).context(|| format!("open {}", path.display()))?;
            store.put_layer(file, Some(&diff_id))
        });
        let result = result.await.map(drop);
        host_fs::remove_all(&place)?;
        result.map_err(|error| error.during(&format!("failed to extract layer {}", layer.digest)))
    }
}

/// The manifest for this machine, and its bytes.
async fn platform_manifest(repository: &Repository<'_>, mut bytes: Vec<u8>) -> Result<(Vec<u8>, Manifest)> {
    // An index may hold indexes, but not without end.
    for _ in 0..4 {
        match Document::parse(&bytes)? {
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
            Document::Index(index) => bytes = repository.manifest(index.choose()?.digest.as_str()).await?,
        }
    }
    Err(Error::Corrupt("image indexes are nested too deep".into()))
}

/// Why the layers of an image are not fetched any further: the first failure among them.
#[derive(Default)]
struct Halt(Mutex<Option<Error>>);

impl Halt {
    fn because(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn check(&self) -> Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Downloads a blob to `place`, going on with what is there, and checks it.
async fn download(repository: &Repository<'_>, layer: &Descriptor, place: &Path, halt: &Halt) -> Result<()> {
    halt.check()?;
    let mut partial = Partial::open(place.to_owned()).await?;
    let mut attempts = 0;
    while partial.length < layer.size || partial.length == 0 {
        let before = partial.length;
        match partial.fetch(repository, layer, halt).await {
            Ok(()) => break,
            Err(Error::Registry(why))
                if halt.check().is_ok() && (partial.length > before || attempts + 1 < ATTEMPTS_MAX) =>
            {
                attempts = if partial.length > before { 0 } else { attempts + 1 };
                tracing::debug!(layer = %layer.digest, why, "a download broke off and goes on");
            }
            Err(error) => {
                // What a full disk or a lying registry left is of no use; what broke off is.
                if !matches!(error, Error::Registry(_)) {
                    host_fs::remove_all(place)?;
                }
                return Err(error);
            }
        }
    }
    let found = partial.finish()?;
    if found != layer.digest {
        host_fs::remove_all(place)?;
        return Err(Error::Corrupt(format!("layer {} does not match its digest", layer.digest)));
    }
    Ok(())
}

/// A file that is being downloaded, with the digest of what is there.
struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Hasher,
}

impl Partial {
    async fn open(path: PathBuf) -> Result<Self> {
        blocking(move || {
            let what = || format!("open {}", path.display());
            let mut file =
                File::options().read(true).write(true).create(true).truncate(false).open(&path).context(what)?;
            let (mut hasher, mut length, mut buffer) = (Hasher::default(), 0, vec![0; COPY_BYTES]);
            loop {
                let count = file.read(&mut buffer).context(what)?;
                if count == 0 {
                    return Ok(Self { path, file, length, hasher });
                }
                hasher.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
        })
        .await
    }

    async fn fetch(&mut self, repository: &Repository<'_>, layer: &Descriptor, halt: &Halt) -> Result<()> {
        let response = repository.blob(&layer.digest, self.length).await?;
        if self.length > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            // The registry cannot begin in the middle.
            let what = || format!("write {}", self.path.display());
            self.file.set_len(0).context(what)?;
            self.file.seek(SeekFrom::Start(0)).context(what)?;
            (self.length, self.hasher) = (0, Hasher::default());
        }
        let mut body = response.into_body();
        while let Some(part) = next_part(&mut body).await? {
            halt.check()?;
            if self.length + part.len() as u64 > layer.size {
                return Err(Error::Corrupt(format!("layer {} is larger than its manifest says", layer.digest)));
            }
            self.file.write_all(&part).context(|| format!("write {}", self.path.display()))?;
            self.hasher.update(&part);
            self.length += part.len() as u64;
        }
        if self.length < layer.size {
            return Err(Error::Registry(format!("layer {} came only in part", layer.digest)));
        }
        Ok(())
    }

    fn finish(self) -> Result<Digest> {
        Ok(self.hasher.finish())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(Error::Corrupt(format!("image work was cut short: {error}"))))
}
