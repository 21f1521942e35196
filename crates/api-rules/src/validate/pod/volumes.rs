//! Volumes of pods, and where containers mount them.

use coracle_api_meta::names;

use super::{Context, env};
use crate::at::{At, Errors};
use crate::formats::{has_backsteps, is_absolute};

/// Checks the volumes, and gives the good ones by name.
pub(crate) fn volumes<'v>(list: &At<'v>, meta: Option<&At<'v>>, errors: &mut Errors) -> Vec<(&'v str, At<'v>)> {
    let pod_name = meta.map(|meta| meta.text("name")).unwrap_or_default();
    let mut good: Vec<(&str, At<'_>)> = Vec::new();
    for volume in list.items() {
        let mut own = Errors::new();
        source(&volume, pod_name, meta.is_some(), &mut own);
        let name = volume.get("name");
        if name.is_empty() {
            name.required(&mut own, "");
        } else {
            name.invalid_all(&mut own, names::is_dns1123_label(name.str()));
        }
        if good.iter().any(|(known, _)| *known == name.str()) {
            name.duplicate(&mut own);
        }
        if own.is_empty() {
            good.push((name.str(), volume.clone()));
        }
        errors.append(&mut own);
        let claim = volume.dig("persistentVolumeClaim.claimName");
        let made =
            |other: &At<'_>| other.has("ephemeral") && format!("{pod_name}-{}", other.text("name")) == claim.str();
        if !claim.is_empty() && !pod_name.is_empty() && list.items().iter().any(made) {
            claim.invalid(errors, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    good
}

const SOURCES: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "",
];

fn source(volume: &At<'_>, pod_name: &str, is_pod: bool, errors: &mut Errors) {
    let given: Vec<&&'static str> = SOURCES.iter().filter(|kind| !kind.is_empty() && volume.has(kind)).collect();
    for (index, kind) in given.iter().enumerate() {
        let source = volume.get(kind);
        if index > 0 {
            source.forbidden(errors, "may not specify more than 1 volume type");
        } else {
            one_source(kind, &source, is_pod, errors);
        }
    }
    if given.is_empty() {
        volume.required(errors, "must specify a volume type");
    }
    let name = volume.text("name");
    if volume.has("ephemeral") && !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{name}");
        for text in names::is_dns1123_subdomain(&claim) {
            volume.get("name").invalid(errors, format!("PVC name {claim:?}: {text}"));
        }
    }
}

fn one_source(kind: &str, source: &At<'_>, is_pod: bool, errors: &mut Errors) {
    match kind {
        "emptyDir" => {
            let limit = source.get("sizeLimit");
            if crate::same::quantity(limit.value()).is_some_and(|limit| limit.is_negative()) {
                limit.forbidden(errors, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(source, errors),
        "secret" => keys_volume(source, "secretName", errors),
        "configMap" => keys_volume(source, "name", errors),
        "persistentVolumeClaim" => required(source, &["claimName"], errors),
        "nfs" => {
            required(source, &["server", "path"], errors);
            let path = source.get("path");
            if !is_absolute(path.str()) {
                path.invalid(errors, "must be an absolute path");
            }
        }
        "downwardAPI" => {
            mode(&source.get("defaultMode"), errors);
            for item in source.get("items").items() {
                // Upstream names the source here, and not the item.
                downward_file(&source.with(item.value()), errors);
            }
        }
        "projected" => projected(source, errors),
        "csi" => csi(source, errors),
        "ephemeral" => ephemeral(source, errors),
        "image" => {
            if is_pod && source.get("reference").is_empty() {
                source.get("reference").required(errors, "");
            }
            source.get("pullPolicy").required_one_of(errors, &["Always", "IfNotPresent", "Never"]);
        }
        "gitRepo" => {
            required(source, &["repository"], errors);
            descending(&source.get("directory"), errors);
        }
        _ => super::super::volumes::network_source(kind, source, errors),
    }
}

pub(crate) fn required(at: &At<'_>, fields: &[&'static str], errors: &mut Errors) {
    for field in fields.iter().map(|field| at.get(field)).filter(At::is_empty) {
        field.required(errors, "");
    }
}

pub(crate) fn host_path(source: &At<'_>, errors: &mut Errors) {
    let path = source.get("path");
    if path.is_empty() {
        return path.required(errors, "");
    }
    no_backsteps(&path, errors);
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    source.get("type").one_of_if_set(errors, &kinds);
}

const MODE_TEXT: &str = "must be a number between 0 and 0777 (octal), both inclusive";

fn mode(mode: &At<'_>, errors: &mut Errors) {
    if mode.exists() && !(0..=0o777).contains(&mode.int()) {
        mode.invalid(errors, MODE_TEXT);
    }
}

fn keys_volume(source: &At<'_>, name: &'static str, errors: &mut Errors) {
    required(source, &[name], errors);
    mode(&source.get("defaultMode"), errors);
    source.get("items").items().iter().for_each(|item| key_to_path(item, errors));
}

fn key_to_path(item: &At<'_>, errors: &mut Errors) {
    required(item, &["key", "path"], errors);
    local_path(&item.get("path"), errors);
    mode(&item.get("mode"), errors);
}

const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward_file(item: &At<'_>, errors: &mut Errors) {
    required(item, &["path"], errors);
    local_path(&item.get("path"), errors);
    let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
    if field.exists() {
        env::object_field(&field, VOLUME_FIELDS, errors);
        if resource.exists() {
            item.invalid_as(errors, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if resource.exists() {
        env::resource_field(&resource, true, errors);
    } else {
        item.required(errors, "one of fieldRef and resourceFieldRef is required");
    }
    mode(&item.get("mode"), errors);
}

/// Relative, and not upwards.
pub(crate) fn descending(path: &At<'_>, errors: &mut Errors) {
    if is_absolute(path.str()) {
        path.invalid(errors, "must be a relative path");
    }
    no_backsteps(path, errors);
}

pub(crate) fn no_backsteps(path: &At<'_>, errors: &mut Errors) {
    if has_backsteps(path.str()) {
        path.invalid(errors, "must not contain '..'");
    }
}

/// Names that start with `..` are the kubelet's own.
fn local_path(path: &At<'_>, errors: &mut Errors) {
    descending(path, errors);
    if path.str().starts_with("..") && !path.str().starts_with("../") {
        path.invalid(errors, "must not start with '..'");
    }
}

fn projected(projected: &At<'_>, errors: &mut Errors) {
    mode(&projected.get("defaultMode"), errors);
    let mut paths: Vec<String> = Vec::new();
    for source in projected.get("sources").items() {
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        let given: Vec<At<'_>> = kinds.iter().map(|kind| source.get(kind)).filter(At::exists).collect();
        for (kind, found) in kinds.iter().filter(|kind| source.has(kind)).zip(&given) {
            projection(kind, found, projected, &mut paths, errors);
        }
        if given.len() > 1 {
            source.forbidden(errors, "may not specify more than 1 volume type per source");
        }
    }
}

fn projection(kind: &str, source: &At<'_>, whole: &At<'_>, paths: &mut Vec<String>, errors: &mut Errors) {
    let mut take = |path: &str, shown: &str, errors: &mut Errors| {
        if path.is_empty() {
            return;
        }
        if paths.iter().any(|known| known == path) {
            whole.invalid_as(errors, shown, "conflicting duplicate paths");
        } else {
            paths.push(path.to_owned());
        }
    };
    match kind {
        "secret" | "configMap" => {
            required(source, &["name"], errors);
            for item in source.get("items").items() {
                key_to_path(&item, errors);
                take(item.text("path"), source.text("name"), errors);
            }
        }
        "downwardAPI" => {
            for item in source.get("items").items() {
                downward_file(&source.with(item.value()), errors);
                take(item.text("path"), item.text("path"), errors);
            }
        }
        "serviceAccountToken" => token(source, whole, errors),
        "clusterTrustBundle" => {
            trust_bundle(source, errors);
            take(source.text("path"), source.text("path"), errors);
        }
        _ => {
            let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            for path in fields.map(|field| source.get(field)).iter().filter(|path| !path.is_empty()) {
                local_path(path, errors);
                take(path.str(), path.str(), errors);
            }
            if fields.iter().all(|field| source.text(field).is_empty()) {
                source.required(
                    errors,
                    "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
                );
            }
            let keys = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
            source.get("keyType").one_of(errors, &keys);
        }
    }
}

fn token(source: &At<'_>, whole: &At<'_>, errors: &mut Errors) {
    let seconds = source.get("expirationSeconds");
    if seconds.int() < 600 {
        seconds.invalid_as(errors, seconds.int(), "may not specify a duration less than 10 minutes");
    }
    if seconds.int() > 1 << 32 {
        seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
    }
    // Upstream names the volume here, and not the source.
    let path = whole.with(source.value()).get("path");
    if path.is_empty() {
        path.required(errors, "");
    } else {
        local_path(&path, errors);
    }
}

fn trust_bundle(source: &At<'_>, errors: &mut Errors) {
    match (source.has("name"), source.has("signerName")) {
        (true, true) => source.invalid(errors, "only one of name and signerName may be used"),
        (true, false) => {
            if source.text("name").is_empty() {
                source.get("name").required(errors, "must be a valid object name");
            }
            if source.has("labelSelector") {
                source.get("labelSelector").invalid(errors, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if source.text("signerName").is_empty() {
                source.get("signerName").required(errors, "must be a valid signer name");
            }
            crate::meta::label_selector(&source.get("labelSelector"), errors);
        }
        (false, false) => source.required(errors, "either name or signerName must be specified"),
    }
    required(source, &["path"], errors);
    local_path(&source.get("path"), errors);
}

fn csi(source: &At<'_>, errors: &mut Errors) {
    crate::validate::storage::driver_name(&source.get("driver"), errors);
    let secret = source.get("nodePublishSecretRef");
    if secret.exists() {
        required(&secret, &["name"], errors);
    }
}

fn ephemeral(source: &At<'_>, errors: &mut Errors) {
    let template = source.get("volumeClaimTemplate");
    if !template.exists() {
        return template.required(errors, "");
    }
    let meta = template.get("metadata");
    crate::meta::annotations(&meta.get("annotations"), errors);
    crate::meta::labels(&meta.get("labels"), errors);
    for (field, value) in meta.value().as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "annotations" | "labels") && !crate::same::is_zero(value) {
            meta.get(field).forbidden(errors, "cannot be set");
        }
    }
    crate::validate::volumes::claim_spec(&template.get("spec"), errors);
}

// In containers.

pub(crate) fn mounts(container: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let list = container.get("volumeMounts");
    let devices = container.get("volumeDevices").items();
    let mut points = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.is_empty() {
            name.required(errors, "");
        }
        if !context.volumes.iter().any(|(known, _)| *known == name.str()) {
            name.not_found(errors);
        }
        if path.is_empty() {
            path.required(errors, "");
        }
        if points.contains(&path.str()) {
            path.invalid(errors, "must be unique");
        }
        points.push(path.str());
        if devices.iter().any(|device| device.text("name") == name.str()) {
            name.invalid(errors, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == path.str()) {
            path.invalid(errors, "must not already exist as a path in volumeDevices");
        }
        mount_details(&mount, &list, container, errors);
    }
}

/// Upstream names the list for all of these, and not the mount.
fn mount_details(mount: &At<'_>, list: &At<'_>, container: &At<'_>, errors: &mut Errors) {
    let part = |field: &'static str| list.with(mount.value()).get(field);
    let (sub, expression) = (part("subPath"), part("subPathExpr"));
    if !sub.is_empty() {
        descending(&sub, errors);
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            mount.get("subPathExpr").invalid(errors, "subPathExpr and subPath are mutually exclusive");
        }
        descending(&expression, errors);
    }
    let propagation = part("mountPropagation");
    if propagation.exists() {
        propagation.one_of(errors, &["Bidirectional", "HostToContainer", "None"]);
        let privileged = container.get("securityContext").flag("privileged");
        if propagation.str() == "Bidirectional" && !privileged {
            propagation.forbidden(errors, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    let recursive = part("recursiveReadOnly");
    match recursive.str() {
        _ if !recursive.exists() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                recursive.forbidden(errors, "may only be specified when readOnly is true");
            }
            if propagation.exists() && propagation.str() != "None" {
                recursive.forbidden(errors, "may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => recursive.unsupported(errors, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(crate) fn devices(container: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let mounts = container.get("volumeMounts").items();
    let (mut paths, mut seen) = (Vec::new(), Vec::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.is_empty() {
            name.required(errors, "");
        }
        if seen.contains(&name.str()) {
            name.invalid(errors, "must be unique");
        }
        match context.volumes.iter().find(|(known, _)| *known == name.str()) {
            None => name.not_found(errors),
            Some((_, volume)) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => name.invalid(
                errors,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(_) => {}
        }
        if path.is_empty() {
            path.required(errors, "");
        }
        if paths.contains(&path.str()) {
            path.invalid(errors, "must be unique");
        }
        if has_backsteps(path.str()) {
            path.invalid(errors, "can not contain backsteps ('..')");
        } else {
            paths.push(path.str());
        }
        if mounts.iter().any(|mount| mount.text("name") == name.str()) {
            name.invalid(errors, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == path.str()) {
            path.invalid(errors, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            seen.push(name.str());
        }
    }
}
