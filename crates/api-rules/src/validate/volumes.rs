//! Persistent volumes, claims, and volume sources of other systems.

use coracle_api_meta::{FieldError, FieldPath, Value, names};

use super::pod::volumes::{host_path, no_backsteps, required};
use super::pod::{requirements, scheduling};
use crate::at::{At, Errors, IMMUTABLE};
use crate::diff::diff;
use crate::edit::{copy, make, put};
use crate::formats::is_absolute;
use crate::same::{quantity, same, same_quantities};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn access_modes(spec: &At<'_>, text: &str, errors: &mut Errors) {
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        modes.required(errors, text);
    }
    for mode in modes.strings().into_iter().filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&modes.path(), mode, MODES));
    }
    let single = |mode: &&str| *mode == "ReadWriteOncePod";
    let other = |mode: &&str| MODES.contains(mode) && *mode != "ReadWriteOncePod";
    if modes.strings().iter().any(single) && modes.strings().iter().any(other) {
        modes.forbidden(errors, "may not use ReadWriteOncePod with other access modes");
    }
}

fn positive(at: &At<'_>, errors: &mut Errors) {
    let Some(amount) = quantity(at.value()) else { return };
    if amount.is_zero() || amount.is_negative() {
        at.invalid_as(errors, amount.to_string(), "must be greater than zero");
    }
}

fn class_name(at: &At<'_>, errors: &mut Errors) {
    if !at.is_empty() {
        at.invalid_all(errors, names::is_dns1123_subdomain(at.str()));
    }
}

/// Volume sources that need no pod, in upstream's order.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub fn persistent_volume(volume: &At<'_>, errors: &mut Errors) {
    let spec = volume.get("spec");
    access_modes(&spec, "", errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        capacity.required(errors, "");
    }
    if !capacity.has("storage") || capacity.len() > 1 {
        let shown = if capacity.exists() { capacity.value().clone() } else { Value::Null };
        errors.push(FieldError::not_supported(&capacity.path(), shown, &["storage"]));
    }
    for (_, amount) in capacity.sorted_entries() {
        positive(&amount, errors);
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        policy.one_of(errors, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.get("nodeAffinity");
    if affinity.exists() {
        if affinity.has("required") {
            scheduling::node_selector(&affinity.get("required"), errors);
        } else {
            affinity.get("required").required(errors, "must specify required node constraints");
        }
    }
    sources(&spec, errors);
    let root = spec.dig("hostPath.path").str();
    if !root.is_empty() && root.trim_matches('/').is_empty() && policy.str() == "Recycle" {
        policy.forbidden(errors, "may not be 'recycle' for a hostPath mount of '/'");
    }
    class_name(&spec.get("storageClassName"), errors);
    spec.get("volumeMode").one_of_if_set(errors, &["Block", "Filesystem"]);
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.exists() {
        if attributes.is_empty() {
            attributes.required(errors, "an empty string is disallowed");
        }
        class_name(&attributes, errors);
        if !spec.has("csi") {
            spec.get("csi").required(errors, "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn sources(spec: &At<'_>, errors: &mut Errors) {
    let given: Vec<&&'static str> = SOURCES.iter().filter(|kind| spec.has(kind)).collect();
    for (index, kind) in given.iter().enumerate() {
        let source = spec.get(kind);
        if index > 0 {
            source.forbidden(errors, "may not specify more than 1 volume type");
            continue;
        }
        match **kind {
            "hostPath" => host_path(&source, errors),
            "nfs" => {
                required(&source, &["server", "path"], errors);
                if !is_absolute(source.text("path")) {
                    source.get("path").invalid(errors, "must be an absolute path");
                }
            }
            "local" => {
                required(&source, &["path"], errors);
                no_backsteps(&source.get("path"), errors);
                if !spec.has("nodeAffinity") {
                    spec.get("nodeAffinity").required(errors, "Local volume requires node affinity");
                }
            }
            "csi" => csi(&source, errors),
            other => network_source(other, &source, errors),
        }
    }
    if given.is_empty() {
        spec.required(errors, "must specify a volume type");
    }
}

fn csi(source: &At<'_>, errors: &mut Errors) {
    super::storage::driver_name(&source.get("driver"), errors);
    required(source, &["volumeHandle"], errors);
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let secret = source.get(field);
        if secret.exists() {
            secret_reference(&secret, errors);
        }
    }
}

fn secret_reference(secret: &At<'_>, errors: &mut Errors) {
    for (field, check) in
        [("name", names::is_dns1123_subdomain as fn(&str) -> Vec<String>), ("namespace", names::is_dns1123_label)]
    {
        let at = secret.get(field);
        if at.is_empty() {
            at.required(errors, "");
        } else {
            at.invalid_all(errors, check(at.str()));
        }
    }
}

/// What the sources of other systems must say. Their drivers are gone or live outside; the fields still have rules.
pub(crate) fn network_source(kind: &str, source: &At<'_>, errors: &mut Errors) {
    let needed: &[&'static str] = match kind {
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "quobyte" => &["registry", "volume"],
        "iscsi" => &["targetPortal", "iqn"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "azureDisk" => &["diskName", "diskURI"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "storageos" => &["volumeName"],
        _ => &[],
    };
    required(source, needed, errors);
    match kind {
        "iscsi" if !(0..=255).contains(&source.number("lun")) => {
            source.get("lun").invalid(errors, "must be between 0 and 255, inclusive");
        }
        "fc" => {
            let (names, ids) = (source.get("targetWWNs"), source.get("wwids"));
            match (names.is_empty(), ids.is_empty()) {
                (true, true) => names.required(errors, "must specify either targetWWNs or wwids, but not both"),
                (false, false) => {
                    names.invalid(errors, "targetWWNs and wwids can not be specified simultaneously");
                }
                (false, true) if !source.has("lun") => {
                    source.get("lun").required(errors, "lun is required if targetWWNs is specified");
                }
                _ => {}
            }
        }
        "flocker" => {
            let (name, uuid) = (source.get("datasetName"), source.get("datasetUUID"));
            if name.is_empty() && uuid.is_empty() {
                source.required(errors, "one of datasetName and datasetUUID is required");
            }
            if !name.is_empty() && !uuid.is_empty() {
                let text = "datasetName and datasetUUID can not be specified simultaneously";
                source.invalid_as(errors, "resource", text);
            }
        }
        _ => {}
    }
}

pub fn persistent_volume_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let part = |spec: &At<'_>| {
        let mut only = Value::Object(serde_json::Map::new());
        SOURCES.iter().for_each(|kind| copy(&mut only, spec.value(), kind));
        only
    };
    let (mut now, then) = (part(&spec), part(&before));
    let secret = "controllerExpandSecretRef";
    if before.has("csi")
        && !before.get("csi").has(secret)
        && let Some(csi) = crate::edit::object(&mut now, "csi")
    {
        crate::edit::remove(csi, secret);
    }
    if !same(&now, &then) {
        let path = FieldPath::new("spec").child("persistentvolumesource");
        let text = format!("spec.persistentvolumesource is immutable after creation\n{}", diff(&then, &now));
        errors.push(FieldError::forbidden(&path, text));
    }
    root_immutable(&spec, &before, "volumeMode", errors);
    if before.has("nodeAffinity") {
        root_immutable(&spec, &before, "nodeAffinity", errors);
    }
    let attributes = spec.get("volumeAttributesClassName");
    if before.has("volumeAttributesClassName") && !attributes.exists() {
        attributes.forbidden(errors, "update from non-nil value to nil is forbidden");
    }
}

/// Upstream leaves `spec` out of these paths.
fn root_immutable(new: &At<'_>, old: &At<'_>, field: &str, errors: &mut Errors) {
    let part = |spec: &At<'_>| spec.value().get(field).cloned().unwrap_or_default();
    if !same(&part(new), &part(old)) {
        errors.push(FieldError::invalid(&FieldPath::new(field), part(new), IMMUTABLE));
    }
}

// Claims.

pub fn claim(claim: &At<'_>, errors: &mut Errors) {
    claim_spec(&claim.get("spec"), errors);
}

pub(crate) fn claim_spec(spec: &At<'_>, errors: &mut Errors) {
    access_modes_of_claim(spec, errors);
    let storage = spec.dig("resources.requests.storage");
    // The path of this is `resources[storage]`.
    let place = spec.get("resources").key("storage").with(storage.value());
    if !storage.exists() {
        place.required(errors, "");
    } else {
        positive(&place, errors);
    }
    class_name(&spec.get("storageClassName"), errors);
    spec.get("volumeMode").one_of_if_set(errors, &["Block", "Filesystem"]);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for one in [&source, &reference].into_iter().filter(|one| one.exists()) {
        data_source(one, errors);
    }
    let namespace = reference.get("namespace");
    if !namespace.is_empty() {
        namespace.invalid_all(errors, names::is_dns1123_label(namespace.str()));
        if source.exists() {
            let shown = source.path().to_string();
            spec.invalid_as(errors, shown, "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if source.exists() && reference.exists() {
        let equal = ["apiGroup", "kind", "name"].iter().all(|field| source.text(field) == reference.text(field));
        if !equal {
            spec.invalid_as(errors, source.path().to_string(), "must match dataSourceRef");
        }
    }
    class_name(&spec.get("volumeAttributesClassName"), errors);
}

fn access_modes_of_claim(spec: &At<'_>, errors: &mut Errors) {
    let selector = spec.get("selector");
    let mut found = Errors::new();
    access_modes(spec, "at least 1 access mode is required", &mut found);
    let required = found.iter().position(|error| error.detail.starts_with("at least 1"));
    if let Some(index) = required {
        errors.push(found.remove(index));
    }
    crate::meta::label_selector(&selector, errors);
    errors.append(&mut found);
}

fn data_source(source: &At<'_>, errors: &mut Errors) {
    required(source, &["name", "kind"], errors);
    let (group, kind) = (source.get("apiGroup"), source.text("kind"));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            source.invalid_as(errors, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
        }
    } else {
        group.invalid_all(errors, names::is_dns1123_subdomain(group.str()));
    }
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn claim_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let (mut now, mut then) = (spec.value().clone(), before.value().clone());
    if before.text("volumeName").is_empty() {
        copy(&mut then, &now.clone(), "volumeName");
    }
    class_upgrade(new, old, &mut now, errors);
    let bound = new.dig("status.phase").str() == "Bound";
    if bound {
        if let Some(requests) =
            make(&mut now, "resources").and_then(|own| own.get_mut("requests")).filter(|one| one.is_object())
        {
            let storage = before.dig("resources.requests.storage").value().clone();
            put(requests, "storage", storage);
        }
        copy(&mut now, before.value(), "volumeAttributesClassName");
    }
    if !same_quantities(&now, &then) {
        let text =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        spec.forbidden(errors, format!("{text}\n{}", diff(&then, &now)));
    }
    let size = |at: At<'_>| quantity(at.value());
    let (asked, had) = (size(spec.dig("resources.requests.storage")), size(before.dig("resources.requests.storage")));
    if let Some((asked, _)) = asked.zip(had).filter(|(asked, had)| asked < had) {
        let real = size(old.dig("status.capacity.storage"));
        if real.is_none_or(|real| asked <= real) && real.is_some() {
            spec.dig("resources.requests.storage").forbidden(errors, "field can not be less than status.capacity");
        }
    }
    root_immutable(&spec, &before, "volumeMode", errors);
    let (class, current) = (spec.get("volumeAttributesClassName"), old.get("status"));
    if current.has("currentVolumeAttributesClassName")
        && !same(class.value(), before.get("volumeAttributesClassName").value())
    {
        let text = "is forbidden when status.currentVolumeAttributesClassName is not nil";
        if !class.exists() {
            class.forbidden(errors, format!("update to nil {text}"));
        } else if class.is_empty() {
            class.forbidden(errors, format!("update to empty string {text}"));
        }
    }
}

/// A class may be named once, or move from the annotation to the field.
fn class_upgrade(new: &At<'_>, old: &At<'_>, now: &mut Value, errors: &mut Errors) {
    let annotation = |claim: &At<'_>| claim.dig("metadata.annotations").value().get(BETA_CLASS).cloned();
    let (was, is) = (annotation(old), annotation(new));
    let (had, has) = (old.dig("spec.storageClassName"), new.dig("spec.storageClassName"));
    let fresh = !had.exists() && has.exists();
    let agrees = was.as_ref().is_none_or(|was| was == has.value());
    if fresh && agrees {
        crate::edit::remove(now, "storageClassName");
        if was.is_some() && (is.is_none() || is == was) {
            return;
        }
    }
    if is != was {
        let path = FieldPath::new("metadata").child("annotations").key(BETA_CLASS);
        errors.push(FieldError::invalid(&path, is.unwrap_or_else(|| "".into()), IMMUTABLE));
    }
}

const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizePending",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
];

pub fn claim_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    if new.dig("spec.accessModes").is_empty() {
        errors.push(FieldError::required(&FieldPath::new("Spec").child("accessModes"), ""));
    }
    let status = new.get("status");
    for list in ["capacity", "allocatedResources"] {
        for (name, amount) in status.get(list).sorted_entries() {
            if quantity(amount.value()).is_some_and(|amount| amount.is_negative()) {
                amount.invalid(errors, "must be a valid resource quantity");
            }
            if list == "allocatedResources" {
                requirements::resource_value(name, &amount, errors);
            }
        }
    }
    let states = status.get("allocatedResourceStatuses");
    for (name, state) in states.sorted_entries() {
        if !RESIZE_STATES.contains(&state.str()) {
            errors.push(FieldError::not_supported(&states.path(), name, RESIZE_STATES));
        }
    }
}
