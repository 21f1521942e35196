//! The documents of an image: index, manifest, configuration. Sources: OCI image specification 1.1, Docker image
//! manifest version 2 schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Result};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Most layers of one image: the kernel overlays 500.
pub(crate) const LAYERS_MAX: usize = 400;

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// One document of images for several platforms.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// An index or a manifest.
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

impl Document {
    /// Reads a document by its content: media types in the wild are not to be trusted.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt = |error: serde_json::Error| Error::Corrupt(format!("unreadable image manifest: {error}"));
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(corrupt)?;
        if value.get("manifests").is_some() {
            return Ok(Self::Index(serde_json::from_value(value).map_err(corrupt)?));
        }
        if value.get("fsLayers").is_some() {
            return Err(Error::Corrupt("image manifest of Docker schema 1 is not supported".into()));
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(corrupt)?;
        if manifest.layers.len() > LAYERS_MAX {
            return Err(Error::TooLarge(format!("image has more than {LAYERS_MAX} layers")));
        }
        Ok(Self::Manifest(manifest))
    }
}

impl Index {
    /// The entry for this machine.
    pub fn choose(&self) -> Result<&Descriptor> {
        let architecture = coracle_host::info::architecture();
        let fits = |entry: &&Descriptor| {
            entry.platform.as_ref().is_some_and(|platform| {
                platform.os == "linux" && platform.architecture == architecture && variant_fits(&platform.variant)
            })
        };
        let found = self.manifests.iter().find(fits);
        let any = self.manifests.iter().find(|entry| entry.platform.is_none());
        found.or(any).ok_or_else(|| {
            Error::NotFound(format!("no match for platform in manifest: linux/{architecture}: not found"))
        })
    }
}

/// The oldest variant runs everywhere.
fn variant_fits(variant: &str) -> bool {
    matches!(variant, "" | "v1" | "v8")
}

/// The image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, deserialize_with = "nullable")]
    pub config: ProcessConfig,
    #[serde(default)]
    pub rootfs: RootFs,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// What the image says about the process to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessConfig {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, deserialize_with = "nullable")]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

/// Docker writes `null` for what is empty.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl ImageConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::Corrupt(format!("unreadable image configuration: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_docker_are_read() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Entrypoint":null,"Volumes":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.entrypoint.is_empty());
    }

    #[test]
    fn the_entry_for_this_machine_is_chosen() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let entry = |architecture: &str| {
            serde_json::json!({"digest": digest(architecture), "size": 1,
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let own = coracle_host::info::architecture();
        let text = serde_json::json!({"manifests": [entry("s390x"), entry(own)]}).to_string();
        let Document::Index(index) = Document::parse(text.as_bytes()).unwrap() else { panic!("an index") };
        assert_eq!(index.choose().unwrap().digest, digest(own));
        let text = serde_json::json!({"manifests": [entry("s390x")]}).to_string();
        let Document::Index(index) = Document::parse(text.as_bytes()).unwrap() else { panic!("an index") };
        assert!(index.choose().is_err());
    }
}
