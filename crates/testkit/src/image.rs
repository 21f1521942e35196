//! Images in an OCI layout, made without any other tool.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Debian's `busybox-static`.
pub const BUSYBOX: &str = "/bin/busybox";

/// What an image holds.
#[derive(Debug, Clone, Default)]
pub struct ImageSpec {
    /// Path in the image, contents, mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Path in the image, what it points at.
    pub links: Vec<(String, String)>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
}

/// A small system around busybox, with every applet linked.
pub fn busybox_files() -> Result<ImageSpec> {
    let binary = fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX}: install busybox-static"))?;
    let applets = std::process::Command::new(BUSYBOX).arg("--list").output()?;
    let links = String::from_utf8(applets.stdout)?
        .lines()
        .filter(|applet| *applet != "busybox")
        .map(|applet| (format!("bin/{applet}"), "busybox".to_owned()))
        .collect();
    let text = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec(), 0o644);
    Ok(ImageSpec {
        files: vec![
            ("bin/busybox".to_owned(), binary, 0o755),
            text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
            text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            text("tmp/.keep", ""),
            text("root/.keep", ""),
        ],
        links,
        cmd: vec!["sh".to_owned()],
        env: vec!["PATH=/bin:/usr/bin:/sbin:/usr/sbin".to_owned()],
        ..ImageSpec::default()
    })
}

/// Writes one image as an OCI layout. `name` is what `org.opencontainers.image.ref.name` says.
pub fn write_layout(folder: &Path, name: &str, spec: &ImageSpec) -> Result<PathBuf> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let layer = layer(spec)?;
    let layer_digest = blob(folder, &layer)?;
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": spec.entrypoint, "Cmd": spec.cmd, "Env": spec.env},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    });
    let config = config.to_string().into_bytes();
    let config_digest = blob(folder, &config)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = blob(folder, &manifest)?;
    let index: Value = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(folder.to_owned())
}

fn blob(folder: &Path, bytes: &[u8]) -> Result<String> {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join("blobs/sha256").join(&hex), bytes)?;
    Ok(format!("sha256:{hex}"))
}

fn layer(spec: &ImageSpec) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin", "etc", "tmp", "root"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        archive.append_data(&mut header, folder, std::io::empty())?;
    }
    for (path, contents, mode) in &spec.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, contents.as_slice())?;
    }
    for (path, target) in &spec.links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, path, target)?;
    }
    Ok(archive.into_inner()?)
}
