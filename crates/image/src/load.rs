//! Images from OCI layouts and `docker save` archives, as folders or tar files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use coracle_host::{Context, fs as host_fs};
use serde::Deserialize;

use crate::build::{descriptor, manifest_of};
use crate::manifest::{Descriptor, Document, Index, LAYERS_MAX, Manifest, OCI_LAYER};
use crate::store::{DOCUMENT_BYTES_MAX, copy_to};
use crate::{Digest, Error, ImageConfig, ImageRecord, ImageStore, Reference, Result, layer};

/// Most files of one archive of images.
const ARCHIVE_ENTRIES_MAX: usize = 100_000;
/// Annotations that carry a name, the fuller first. Source: OCI image specification, annotations; containerd.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// One image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ImageStore {
    /// Loads every image of a folder or an archive (plain, gzip or zstd); returns them in order. Blocks.
    pub fn load(&self, source: &Path) -> Result<Vec<ImageRecord>> {
        let what = format!("load {}", source.display());
        let _arriving = self.arriving();
        if source.is_dir() {
            return self.load_folder(source).map_err(|error| error.during(&what));
        }
        let folder = self.temporary_path("load");
        let result = layer::open_archive(source)
            .and_then(|archive| extract(archive, &folder))
            .and_then(|()| self.load_folder(&folder));
        host_fs::remove_all(&folder)?;
        result.map_err(|error| error.during(&what))
    }

    fn load_folder(&self, folder: &Path) -> Result<Vec<ImageRecord>> {
        if folder.join("manifest.json").is_file() {
            return self.load_saved(folder);
        }
        if !folder.join("index.json").is_file() {
            return Err(Error::Corrupt("neither an OCI layout nor an archive of `docker save`".into()));
        }
        let index: Index = parse(&read_document(folder, "index.json")?)?;
        let mut loaded = Vec::new();
        for entry in &index.manifests {
            loaded.push(self.load_entry(folder, entry)?);
        }
        Ok(loaded)
    }

    fn load_entry(&self, folder: &Path, entry: &Descriptor) -> Result<ImageRecord> {
        let mut current = entry.clone();
        let (bytes, manifest) = loop {
            let bytes = read_blob(folder, &current.digest)?;
            match Document::parse(&bytes)? {
                Document::Manifest(manifest) => break (bytes, manifest),
                Document::Index(index) => current = index.choose()?.clone(),
            }
        };
        let config = read_blob(folder, &manifest.config.digest)?;
        let diff_ids = ImageConfig::parse(&config)?.rootfs.diff_ids;
        check_layers(&manifest, &diff_ids)?;
        for (descriptor, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            let path = blob_in(folder, &descriptor.digest);
            let file = File::open(&path).context(|| format!("open layer {}", descriptor.digest))?;
            self.put_layer(file, Some(diff_id))?;
        }
        let mut names = Vec::new();
        let annotated = NAME_ANNOTATIONS.iter().find_map(|key| entry.annotations.get(*key));
        if let Some(name) = annotated.and_then(|name| Reference::parse(name).ok()) {
            names.push(Reference { tag: None, digest: Some(entry.digest.clone()), ..name.clone() });
            names.push(name);
        }
        self.enter(&bytes, &config, &names)
    }

    fn load_saved(&self, folder: &Path) -> Result<Vec<ImageRecord>> {
        let images: Vec<SavedImage> = parse(&read_document(folder, "manifest.json")?)?;
        images.iter().map(|image| self.load_saved_image(folder, image)).collect()
    }

    fn load_saved_image(&self, folder: &Path, image: &SavedImage) -> Result<ImageRecord> {
        let config = read_document(folder, &image.config)?;
        let diff_ids = ImageConfig::parse(&config)?.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() || diff_ids.len() > LAYERS_MAX {
            return Err(Error::Corrupt(format!("image {} has the wrong number of layers", image.config)));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in image.layers.iter().zip(&diff_ids) {
            let file = open_inside(folder, path)?;
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            self.put_layer(file, Some(diff_id))?;
            layers.push(descriptor(OCI_LAYER, diff_id.clone(), size));
        }
        let manifest = manifest_of(&config, layers)?;
        let mut names = Vec::new();
        for tag in image.repo_tags.iter().flatten() {
            names.push(Reference::parse(tag)?);
        }
        self.enter(&manifest, &config, &names)
    }
}

pub(crate) fn check_layers(manifest: &Manifest, diff_ids: &[Digest]) -> Result<()> {
    if manifest.layers.len() == diff_ids.len() {
        return Ok(());
    }
    let (manifest, config) = (manifest.layers.len(), diff_ids.len());
    Err(Error::Corrupt(format!("image manifest has {manifest} layers, its configuration {config}")))
}

fn blob_in(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

fn read_blob(folder: &Path, digest: &Digest) -> Result<Vec<u8>> {
    let content = read_document(folder, &format!("blobs/sha256/{}", digest.hex()))?;
    if Digest::of(&content) == *digest {
        return Ok(content);
    }
    Err(Error::Corrupt(format!("blob {digest} does not match its digest")))
}

/// Opens a file inside the folder, wherever its links lead.
fn open_inside(folder: &Path, path: &str) -> Result<File> {
    let root = host_fs::open_dir(folder)?;
    Ok(host_fs::open_in_root(root, Path::new(path), rustix::fs::OFlags::RDONLY, 0)?.into())
}

fn read_document(folder: &Path, path: &str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = open_inside(folder, path)?;
    file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut content).context(|| format!("read {path}"))?;
    if content.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(Error::TooLarge(format!("{path} is larger than {DOCUMENT_BYTES_MAX} bytes")));
    }
    Ok(content)
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Corrupt(format!("unreadable index: {error}")))
}

/// Writes the files of an archive to a folder. Links are files too: each becomes a copy by hard link.
fn extract(archive: impl Read, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).context(|| format!("create {}", folder.display()))?;
    let mut tar = tar::Archive::new(archive);
    let mut links = BTreeMap::new();
    let what = || "read the archive".to_owned();
    let neither = |error: std::io::Error| match error.raw_os_error() {
        Some(_) => layer::unreadable(error),
        None => Error::Corrupt("neither an OCI layout nor an archive of `docker save`".into()),
    };
    for (count, entry) in tar.entries().map_err(neither)?.enumerate() {
        if count >= ARCHIVE_ENTRIES_MAX {
            return Err(Error::TooLarge(format!("archive has more than {ARCHIVE_ENTRIES_MAX} files")));
        }
        let mut entry = entry.map_err(neither)?;
        let path = entry.path().context(what)?.into_owned();
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::Corrupt(format!("archive has the path {}", path.display())));
        }
        let place = folder.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                std::fs::create_dir_all(&place).context(|| format!("create {}", place.display()))?;
            }
            tar::EntryType::Symlink => {
                if let Some(target) = entry.link_name().context(what)? {
                    links.insert(place, target.into_owned());
                }
            }
            tar::EntryType::Regular => {
                if let Some(parent) = place.parent() {
                    std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
                }
                copy_to(&mut entry, &place)?;
            }
            _ => {}
        }
    }
    for (place, target) in links {
        // Opened inside the folder later, so that it cannot lead out.
        std::os::unix::fs::symlink(target, &place).context(|| format!("link {}", place.display()))?;
    }
    Ok(())
}
