//! Images made from what is in memory or in files of this machine.

use std::fs::File;
use std::path::PathBuf;

use coracle_host::{Context, fs as host_fs};

use crate::digest::Hashing;
use crate::manifest::{Descriptor, ImageConfig, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, RootFs};
use crate::{Digest, Error, ImageRecord, ImageStore, ProcessConfig, Reference, Result};

/// A file of a new image.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// From the root: `bin/app`.
    pub path: String,
    pub mode: u32,
    pub content: NewContent,
}

/// What is in a file of a new image.
#[derive(Debug, Clone)]
pub enum NewContent {
    Bytes(Vec<u8>),
    /// What a file of this machine holds.
    CopyOf(PathBuf),
    /// Where a symbolic link leads.
    Link(String),
    Folder,
}

impl ImageStore {
    /// Makes an image of one layer. The same files give the same image. Blocks.
    pub fn import_single_layer(&self, name: &str, files: &[NewFile], config: ProcessConfig) -> Result<ImageRecord> {
        let name = Reference::parse(name)?;
        let _arriving = self.arriving();
        let archive = self.temporary_path("import");
        let result = self.import_through(&name, files, config, &archive);
        host_fs::remove_all(&archive)?;
        result
    }

    fn import_through(
        &self,
        name: &Reference,
        files: &[NewFile],
        config: ProcessConfig,
        archive: &PathBuf,
    ) -> Result<ImageRecord> {
        let (layer, size) = write_archive(files, archive)?;
        let opened = File::open(archive).context(|| format!("open {}", archive.display()))?;
        let layer = self.put_layer(opened, Some(&layer))?;
        let config = ImageConfig {
            architecture: coracle_host::info::architecture().to_owned(),
            os: "linux".to_owned(),
            config,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.clone()] },
        };
        let config = to_json(&config)?;
        let manifest = manifest_of(&config, vec![descriptor(OCI_LAYER, layer, size)])?;
        let by_digest = Reference { tag: None, digest: Some(Digest::of(&manifest)), ..name.clone() };
        self.enter(&manifest, &config, &[name.clone(), by_digest])
    }
}

pub(crate) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: Default::default() }
}

/// The manifest of a configuration and layers.
pub(crate) fn manifest_of(config: &[u8], layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let config = descriptor(OCI_CONFIG, Digest::of(config), config.len() as u64);
    to_json(&Manifest { schema_version: 2, media_type: OCI_MANIFEST.to_owned(), config, layers })
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Corrupt(format!("encode an image document: {error}")))
}

fn write_archive(files: &[NewFile], path: &PathBuf) -> Result<(Digest, u64)> {
    let what = || format!("write {}", path.display());
    let file = File::create(path).context(what)?;
    let mut builder = tar::Builder::new(Hashing::new(file));
    for file in files {
        append(&mut builder, file)?;
    }
    let writer = builder.into_inner().context(what)?;
    Ok((writer.hasher.finish(), writer.bytes))
}

fn append(builder: &mut tar::Builder<Hashing<File>>, file: &NewFile) -> Result<()> {
    let what = || format!("add {} to an image", file.path);
    let mut header = tar::Header::new_gnu();
    header.set_mode(file.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let result = match &file.content {
        NewContent::Bytes(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, &file.path, bytes.as_slice())
        }
        NewContent::CopyOf(source) => {
            let opened = File::open(source).context(|| format!("open {}", source.display()))?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(opened.metadata().context(what)?.len());
            builder.append_data(&mut header, &file.path, opened)
        }
        NewContent::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, &file.path, target)
        }
        NewContent::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, &file.path, std::io::empty())
        }
    };
    Ok(result.context(what)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Config;

    fn file(path: &str, content: &str) -> NewFile {
        NewFile { path: path.into(), mode: 0o755, content: NewContent::Bytes(content.into()) }
    }

    #[test]
    fn images_are_made_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(Config { dir: dir.path().into(), ..Config::default() }).unwrap();
        let config = ProcessConfig { cmd: vec!["/app".into()], ..ProcessConfig::default() };
        let files =
            [file("app", "text"), NewFile { path: "l".into(), mode: 0o777, content: NewContent::Link("app".into()) }];
        let record = store.import_single_layer("demo:1", &files, config.clone()).unwrap();
        let again = store.import_single_layer("demo:2", &files, config).unwrap();
        assert_eq!(record.id, again.id);
        let layers = store.layer_dirs(&record.layers);
        let usage = store.usage();
        assert!(usage.0 > 0 && usage.1 > 3, "{usage:?}");
        assert_eq!(store.usage(), usage);
        assert_eq!(std::fs::read_to_string(layers[0].join("l")).unwrap(), "text");
        drop(store);

        let store = ImageStore::open(Config { dir: dir.path().into(), ..Config::default() }).unwrap();
        assert_eq!(store.image_config(&record.id).unwrap().config.cmd, ["/app"]);
        for name in ["demo:1", "docker.io/library/demo:2", record.id.as_str(), record.id.hex()] {
            assert!(store.find(name).is_some(), "{name}");
        }
        store.remove("demo:1").unwrap();
        assert!(store.find("demo:1").is_none() && store.find("demo:2").is_some());
        store.remove("demo:2").unwrap();
        assert_eq!(store.list(), vec![]);
        assert!(store.collect(&record.layers.iter().cloned().collect()).unwrap() > 0);
        assert!(layers[0].exists());
        store.collect(&BTreeSet::new()).unwrap();
        assert!(!layers[0].exists());
        store.remove("demo:2").unwrap();
    }
}
