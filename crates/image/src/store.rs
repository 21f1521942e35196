//! The store: an index of images, blobs by digest, one folder for each unpacked layer.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coracle_host::{Context, fs as host_fs};
use serde::{Deserialize, Serialize};

use crate::digest::Hashing;
use crate::manifest::{Descriptor, Manifest};
use crate::{Digest, Error, ImageConfig, Reference, Result, layer};

/// Version of the layout on disk; a newer one is refused.
const LAYOUT_VERSION: u32 = 1;
/// Largest manifest, index or configuration.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// How long half a download is kept to go on with.
const PARTIAL_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Where the store is and whom it may ask.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub dir: PathBuf,
    /// Registries (`host:port`) that are spoken to without TLS. Those on this machine need no entry.
    pub insecure_registries: Vec<String>,
    /// Registry to the URLs that are asked before it: `docker.io` to `https://mirror.example`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// How to reach what is not reached directly.
    pub proxies: Proxies,
    /// PEM file of root certificates; `None`: that of the system.
    pub ca_file: Option<PathBuf>,
}

/// HTTP proxies, as the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: String,
    pub https: String,
    /// Hosts, domains and networks that are reached without.
    pub except: Vec<String>,
}

/// One image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the configuration.
    pub id: Digest,
    pub manifest: Digest,
    /// Bytes of the manifest, the configuration and the layers as they travel.
    pub size: u64,
    /// Digests of the unpacked layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Full names with a tag.
    pub tags: BTreeSet<String>,
    /// `repository@sha256:...`.
    pub digests: BTreeSet<String>,
    #[serde(default)]
    pub pinned: bool,
    /// The numeric user of the configuration, or its name.
    #[serde(default)]
    pub user: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Index {
    version: u32,
    images: BTreeMap<Digest, ImageRecord>,
}

/// The images of this machine. Cheap to clone.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    index: Mutex<Index>,
    /// How many bring in content that nothing refers to yet; locked while rubbish is removed.
    arriving: Mutex<usize>,
    /// One fetches a layer at a time.
    turns: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    client: crate::http::Client,
    /// Bytes and inodes of layers, by folder.
    measured: Mutex<BTreeMap<OsString, (u64, u64)>>,
    /// One unpacks a layer at a time: the same layer must not be unpacked twice at once.
    unpacking: Mutex<()>,
    temporary: AtomicU64,
}

/// Content is on its way.
pub(crate) struct Arriving(ImageStore);

impl Drop for Arriving {
    fn drop(&mut self) {
        *lock(&self.0.inner.arriving) -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageStore {
    /// Opens or makes the store, and removes what a crash left half done.
    pub fn open(config: Config) -> Result<Self> {
        for folder in ["blobs/sha256", "layers", "tmp"] {
            let path = config.dir.join(folder);
            std::fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        }
        let index = read_index(&config.dir)?;
        let client = crate::http::Client::new(&config);
        let inner = Inner {
            config,
            index: Mutex::new(index),
            arriving: Mutex::default(),
            turns: Mutex::default(),
            measured: Mutex::default(),
            client,
            unpacking: Mutex::default(),
            temporary: AtomicU64::new(0),
        };
        let store = Self { inner: Arc::new(inner) };
        store.clear_temporary()?;
        Ok(store)
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.config.dir
    }

    /// Every image, by id.
    #[must_use]
    pub fn list(&self) -> Vec<ImageRecord> {
        self.index().images.values().cloned().collect()
    }

    /// The image of an id (`sha256:...`, with or without the prefix) or a name.
    #[must_use]
    pub fn find(&self, image: &str) -> Option<ImageRecord> {
        let index = self.index();
        let id = if image.contains(':') { Digest::parse(image) } else { Digest::parse(&format!("sha256:{image}")) };
        if let Some(record) = id.ok().and_then(|id| index.images.get(&id)) {
            return Some(record.clone());
        }
        let reference = Reference::parse(image).ok()?;
        let name = reference.to_string();
        let by_digest = reference.digest.as_ref().map(|digest| format!("{}@{digest}", reference.name()));
        let fits = |record: &&ImageRecord| match &by_digest {
            Some(digest) => record.digests.contains(digest),
            None => record.tags.contains(&name),
        };
        index.images.values().find(fits).cloned()
    }

    /// Gives an image one more name; the name leaves the image that had it.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        let record = self.find(image).ok_or_else(|| not_found(image))?;
        let name = Reference::parse(name)?.to_string();
        self.change(|index| add_tag(index, &record.id, &name))
    }

    /// Takes a name away, or with an id every name; an image without names is removed. Content goes with
    /// [`Self::collect`]. Removing what is not there succeeds.
    pub fn remove(&self, image: &str) -> Result<()> {
        let Some(record) = self.find(image) else { return Ok(()) };
        let by_id = record.id.as_str().trim_start_matches("sha256:") == image.trim_start_matches("sha256:");
        let name = Reference::parse(image).ok();
        self.change(|index| {
            let Some(found) = index.images.get_mut(&record.id) else { return };
            if let (false, Some(name)) = (by_id, name) {
                found.tags.remove(&name.to_string());
                if let Some(digest) = &name.digest {
                    found.digests.remove(&format!("{}@{digest}", name.name()));
                }
                // A digest belongs to the names of its repository.
                let prefixes =
                    found.tags.iter().filter_map(|tag| tag.rsplit_once(':')).map(|(name, _)| name.to_owned());
                let prefixes = prefixes.collect::<BTreeSet<_>>();
                let named = |digest: &String| digest.split_once('@').is_some_and(|(name, _)| prefixes.contains(name));
                if found.tags.is_empty() && name.digest.is_none() {
                    found.digests.clear();
                } else if name.digest.is_none() {
                    found.digests.retain(named);
                }
            }
            if by_id || (found.tags.is_empty() && found.digests.is_empty()) {
                index.images.remove(&record.id);
            }
        })
    }

    /// Keeps an image from being removed by garbage collection.
    pub fn pin(&self, image: &str) -> Result<()> {
        let record = self.find(image).ok_or_else(|| not_found(image))?;
        self.change(|index| {
            if let Some(found) = index.images.get_mut(&record.id) {
                found.pinned = true;
            }
        })
    }

    /// The configuration of an image.
    pub fn image_config(&self, id: &Digest) -> Result<ImageConfig> {
        ImageConfig::parse(&self.read_blob(id, DOCUMENT_BYTES_MAX)?)
    }

    /// The folders of layers, in the order given.
    #[must_use]
    pub fn layer_dirs(&self, layers: &[Digest]) -> Vec<PathBuf> {
        layers.iter().map(|diff_id| self.layer_dir(diff_id)).collect()
    }

    /// Removes blobs and layers that no image has, other than `layers_in_use`. Does nothing while content arrives.
    /// Returns the bytes freed.
    pub fn collect(&self, layers_in_use: &BTreeSet<Digest>) -> Result<u64> {
        let arriving = lock(&self.inner.arriving);
        if *arriving > 0 {
            return Ok(0);
        }
        let mut keep_layers = layers_in_use.clone();
        let mut keep_blobs = BTreeSet::new();
        for record in self.list() {
            keep_blobs.extend([record.id.clone(), record.manifest.clone()]);
            keep_layers.extend(record.layers.iter().cloned());
        }
        let mut freed = 0;
        for (folder, keep) in [("blobs/sha256", &keep_blobs), ("layers", &keep_layers)] {
            let folder = self.dir().join(folder);
            for entry in std::fs::read_dir(&folder).context(|| format!("list {}", folder.display()))?.flatten() {
                let digest = Digest::parse(&format!("sha256:{}", entry.file_name().to_string_lossy()));
                if digest.is_ok_and(|digest| keep.contains(&digest)) {
                    continue;
                }
                freed += host_fs::disk_usage(&entry.path()).0 + entry.metadata().map_or(0, |metadata| metadata.len());
                // Out of its place first: half a layer must not pass for a whole one.
                let rubbish = self.temporary_path("rubbish");
                std::fs::rename(entry.path(), &rubbish).context(|| format!("remove {}", entry.path().display()))?;
                host_fs::remove_all(&rubbish)?;
            }
        }
        Ok(freed)
    }

    /// Bytes and inodes of all content. Layers do not change, so each is measured once.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        let (mut bytes, mut inodes) = host_fs::disk_usage(&self.dir().join("blobs"));
        let mut measured = lock(&self.inner.measured);
        let mut still_there = BTreeMap::new();
        for entry in std::fs::read_dir(self.dir().join("layers")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let usage = measured.get(&name).copied().unwrap_or_else(|| host_fs::disk_usage(&entry.path()));
            bytes += usage.0;
            inodes += usage.1;
            still_there.insert(name, usage);
        }
        *measured = still_there;
        (bytes, inodes)
    }

    /// Keeps [`Self::collect`] away until what this returns is dropped.
    pub(crate) fn arriving(&self) -> Arriving {
        *lock(&self.inner.arriving) += 1;
        Arriving(self.clone())
    }

    /// Whoever holds the lock of this fetches the blob.
    pub(crate) fn turn_of(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.inner.turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }

    pub(crate) fn client(&self) -> &crate::http::Client {
        &self.inner.client
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.inner.index)
    }

    /// Changes the index, on disk first.
    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let mut index = self.index();
        let mut next = index.clone();
        change(&mut next);
        let text =
            serde_json::to_vec(&next).map_err(|error| Error::Corrupt(format!("write the image index: {error}")))?;
        host_fs::replace(&self.dir().join("index.json"), &text, true)?;
        *index = next;
        Ok(())
    }

    fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.dir().join("layers").join(diff_id.hex())
    }

    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_dir(diff_id).is_dir()
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn read_blob(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut content = Vec::new();
        let file = File::open(&path).context(|| format!("open {}", path.display()))?;
        file.take(bytes_max).read_to_end(&mut content).context(|| format!("read {}", path.display()))?;
        if Digest::of(&content) != *digest {
            return Err(Error::Corrupt(format!("content of {} does not match its digest", path.display())));
        }
        Ok(content)
    }

    pub(crate) fn temporary_path(&self, name: &str) -> PathBuf {
        let number = self.inner.temporary.fetch_add(1, Ordering::Relaxed);
        self.dir().join("tmp").join(format!("{name}-{}-{number}", std::process::id()))
    }

    /// Removes what an earlier process left; downloads that can go on stay.
    fn clear_temporary(&self) -> Result<()> {
        let folder = self.dir().join("tmp");
        for entry in std::fs::read_dir(&folder).context(|| format!("list {}", folder.display()))?.flatten() {
            let age =
                entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
            let is_fresh = age.is_some_and(|age| age < PARTIAL_AGE_MAX);
            if !is_fresh || entry.path().extension().is_none_or(|extension| extension != "partial") {
                host_fs::remove_all(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Stores content; returns its digest.
    pub(crate) fn put_blob(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        let path = self.blob_path(&digest);
        if !path.exists() {
            host_fs::replace(&path, content, true)?;
        }
        Ok(digest)
    }

    /// Unpacks an archive as the layer `expected`, unless it is there. `None`: whatever it is.
    pub(crate) fn put_layer(&self, archive: impl Read + Send, expected: Option<&Digest>) -> Result<Digest> {
        if let Some(diff_id) = expected.filter(|diff_id| self.has_layer(diff_id)) {
            return Ok(diff_id.clone());
        }
        let folder = self.temporary_path("layer");
        std::fs::create_dir(&folder).context(|| format!("create {}", folder.display()))?;
        let result = self.fill_layer(archive, expected, &folder);
        if result.is_err() {
            host_fs::remove_all(&folder)?;
        }
        result
    }

    fn fill_layer(&self, archive: impl Read + Send, expected: Option<&Digest>, folder: &Path) -> Result<Digest> {
        let unpacked = layer::unpack(archive, folder)?;
        if let Some(expected) = expected.filter(|expected| **expected != unpacked.diff_id) {
            return Err(Error::Corrupt(format!("layer is {}, not {expected} as its image says", unpacked.diff_id)));
        }
        host_fs::sync_of(folder)?;
        let _one = lock(&self.inner.unpacking);
        let place = self.layer_dir(&unpacked.diff_id);
        if place.exists() {
            host_fs::remove_all(folder)?;
        } else {
            std::fs::rename(folder, &place).context(|| format!("place layer {}", place.display()))?;
            host_fs::sync_dir(&self.dir().join("layers"))?;
        }
        Ok(unpacked.diff_id)
    }

    /// Enters an image whose layers are unpacked. `names` are tags or digests of it.
    pub(crate) fn enter(&self, manifest: &[u8], config: &[u8], names: &[Reference]) -> Result<ImageRecord> {
        let parsed = ImageConfig::parse(config)?;
        let id = self.put_blob(config)?;
        let manifest_digest = self.put_blob(manifest)?;
        let document: Manifest = serde_json::from_slice(manifest)
            .map_err(|error| Error::Corrupt(format!("unreadable image manifest: {error}")))?;
        let layers_size = document.layers.iter().map(|layer: &Descriptor| layer.size).sum::<u64>();
        if let Some(missing) = parsed.rootfs.diff_ids.iter().find(|diff_id| !self.has_layer(diff_id)) {
            return Err(Error::Corrupt(format!("image {id} lacks layer {missing}")));
        }
        let fresh = ImageRecord {
            id: id.clone(),
            manifest: manifest_digest,
            size: layers_size + (manifest.len() + config.len()) as u64,
            layers: parsed.rootfs.diff_ids,
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            pinned: false,
            user: parsed.config.user,
        };
        self.change(|index| {
            index.images.entry(id.clone()).or_insert(fresh);
            for name in names {
                if let (Some(digest), Some(record)) = (&name.digest, index.images.get_mut(&id)) {
                    record.digests.insert(format!("{}@{digest}", name.name()));
                }
                if let Some(tag) = &name.tag {
                    add_tag(index, &id, &format!("{}:{tag}", name.name()));
                }
            }
        })?;
        self.find(id.as_str()).ok_or_else(|| not_found(id.as_str()))
    }
}

fn add_tag(index: &mut Index, id: &Digest, name: &str) {
    for record in index.images.values_mut() {
        record.tags.remove(name);
    }
    if let Some(record) = index.images.get_mut(id) {
        record.tags.insert(name.to_owned());
    }
}

fn not_found(image: &str) -> Error {
    Error::NotFound(format!("image {image:?}: not found"))
}

fn read_index(dir: &Path) -> Result<Index> {
    let path = dir.join("index.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Index { version: LAYOUT_VERSION, images: BTreeMap::new() });
        }
        Err(error) => return Err(error).context(|| format!("read {}", path.display()))?,
    };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let corrupt = |error: serde_json::Error| Error::Corrupt(format!("read {}: {error}", path.display()));
    let Version { version } = serde_json::from_slice(&text).map_err(corrupt)?;
    if version > LAYOUT_VERSION {
        let path = path.display();
        return Err(Error::Corrupt(format!("{path} is of version {version}, this program reads {LAYOUT_VERSION}")));
    }
    serde_json::from_slice(&text).map_err(corrupt)
}

/// Copies `from` to a file, and takes its digest.
pub(crate) fn copy_to(mut from: impl Read, path: &Path) -> Result<(Digest, u64)> {
    let what = || format!("write {}", path.display());
    let mut to = Hashing::new(File::create(path).context(what)?);
    std::io::copy(&mut from, &mut to).context(what)?;
    to.flush().context(what)?;
    Ok((to.hasher.finish(), to.bytes))
}
