//! Manifests: files, folders, standard input; YAML or JSON, several documents each.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coracle_api_meta::{Gvk, Value, object::ObjectExt as _};

use super::discovery::{Discovery, Resource};

/// Bytes of one manifest.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// One document.
#[derive(Debug)]
pub struct Document {
    pub object: Value,
    /// Where it came from, for messages.
    pub origin: String,
}

/// Reads every document of every source, in order. Lists are taken apart.
pub fn read(sources: &[PathBuf], recursive: bool) -> Result<Vec<Document>> {
    if sources.is_empty() {
        bail!("error: must specify one of -f");
    }
    let mut documents = Vec::new();
    for source in sources {
        if source == Path::new("-") {
            documents.extend(parse(&from_stdin()?, "standard input")?);
            continue;
        }
        for file in files(source, recursive)? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            documents.extend(parse(&text, &file.display().to_string())?);
        }
    }
    if documents.is_empty() {
        bail!("error: no objects passed");
    }
    Ok(documents)
}

fn from_stdin() -> Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::io::stdin().lock().take(MANIFEST_BYTES_MAX).read_to_string(&mut text).context("read standard input")?;
    Ok(text)
}

fn files(source: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    if !source.exists() {
        bail!("error: the path {:?} does not exist", source.display().to_string());
    }
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(source).with_context(|| format!("read {}", source.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if recursive {
                found.extend(files(&path, true)?);
            }
        } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn parse(text: &str, origin: &str) -> Result<Vec<Document>> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("error parsing {origin}: {error}"))?;
    let mut documents = Vec::new();
    for value in values.into_iter().filter(|value| !value.is_null()) {
        let is_list = value.kind().ends_with("List") && value.get("items").is_some();
        let objects = if is_list {
            value.get("items").and_then(Value::as_array).cloned().unwrap_or_default()
        } else {
            vec![value]
        };
        documents.extend(objects.into_iter().map(|object| Document { object, origin: origin.to_owned() }));
    }
    Ok(documents)
}

impl Document {
    /// Its resource and the namespace it goes into.
    pub fn place<'a>(&self, discovery: &'a Discovery, namespace: &str) -> Result<(&'a Resource, String)> {
        let origin = &self.origin;
        let Some(gvk) = self.object.gvk() else {
            bail!("error: error validating {origin:?}: error validating data: apiVersion or kind not set");
        };
        let Gvk { kind, .. } = &gvk;
        let resource = discovery.find_kind(&gvk).ok_or_else(|| {
            anyhow::anyhow!(
                "error: resource mapping not found for name: {:?} namespace: {:?} from {origin:?}: no matches for kind {kind:?} in version {:?}\nensure CRDs are installed first",
                self.object.name(),
                self.object.namespace(),
                gvk.api_version()
            )
        })?;
        let own = self.object.namespace();
        Ok((resource, if own.is_empty() { namespace.to_owned() } else { own.to_owned() }))
    }
}
