//! Volumes and group `storage.k8s.io`.

use coracle_api_meta::{ObjectExt, Value};
use jiff::Timestamp;

use super::duration::age;
use super::rows::{AGE, NAME, Table, boolean, count, deleted, flag, integer, list, shown, text, text_or, wide};

pub(crate) fn table(kind: &str) -> Option<Table> {
    Some(match kind {
        "StorageClass" => (
            const {
                &[
                    NAME,
                    text("Provisioner"),
                    text("ReclaimPolicy"),
                    text("VolumeBindingMode"),
                    text("AllowVolumeExpansion"),
                    AGE,
                ]
            },
            storage_class,
        ),
        "VolumeAttributesClass" => (const { &[NAME, text("DriverName"), AGE] }, attributes_class),
        "VolumeAttachment" => {
            (const { &[NAME, text("Attacher"), text("PV"), text("Node"), boolean("Attached"), AGE] }, attachment)
        }
        "CSINode" => (const { &[NAME, integer("Drivers"), AGE] }, csi_node),
        "CSIDriver" => (
            const {
                &[
                    NAME,
                    boolean("AttachRequired"),
                    boolean("PodInfoOnMount"),
                    boolean("StorageCapacity"),
                    text("TokenRequests"),
                    boolean("RequiresRepublish"),
                    text("Modes"),
                    AGE,
                ]
            },
            csi_driver,
        ),
        "CSIStorageCapacity" => (const { &[NAME, text("StorageClassName"), text("Capacity")] }, capacity),
        _ => return None,
    })
}

pub(crate) const VOLUME: Table = (
    &[
        NAME,
        text("Capacity"),
        text("Access Modes"),
        text("Reclaim Policy"),
        text("Status"),
        text("Claim"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        text("Reason"),
        AGE,
        wide("VolumeMode"),
    ],
    volume,
);

pub(crate) const CLAIM: Table = (
    &[
        NAME,
        text("Status"),
        text("Volume"),
        text("Capacity"),
        text("Access Modes"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ],
    claim,
);

const MODES: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

fn access_modes(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|own| own.as_str() == Some(mode));
    MODES.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase(object: &Value) -> &str {
    if deleted(object) { "Terminating" } else { object.str_at(&["status", "phase"]) }
}

/// The class, or its annotation of old.
fn class(object: &Value) -> &str {
    let old = object.annotations().and_then(|all| all.get("volume.beta.kubernetes.io/storage-class")?.as_str());
    old.unwrap_or_else(|| object.str_at(&["spec", "storageClassName"]))
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = object.at(&["spec", "claimRef"]).filter(|claim| claim.is_object());
    let claim = claim.map(|claim| format!("{}/{}", claim.str_at(&["namespace"]), claim.str_at(&["name"])));
    vec![
        object.name().into(),
        shown(object.at(&["spec", "capacity", "storage"])).unwrap_or_else(|| "0".to_owned()).into(),
        access_modes(list(object, &["spec", "accessModes"])).into(),
        object.str_at(&["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(object).into(),
        claim.unwrap_or_default().into(),
        class(object).into(),
        text_or(object, &["spec", "volumeAttributesClassName"], "<unset>").into(),
        object.str_at(&["status", "reason"]).into(),
        age(object, now).into(),
        text_or(object, &["spec", "volumeMode"], "<unset>").into(),
    ]
}

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let volume = object.str_at(&["spec", "volumeName"]);
    let bound = !volume.is_empty();
    let capacity = || shown(object.at(&["status", "capacity", "storage"])).unwrap_or_else(|| "0".to_owned());
    vec![
        object.name().into(),
        phase(object).into(),
        volume.into(),
        if bound { capacity() } else { String::new() }.into(),
        if bound { access_modes(list(object, &["status", "accessModes"])) } else { String::new() }.into(),
        class(object).into(),
        text_or(object, &["spec", "volumeAttributesClassName"], "<unset>").into(),
        age(object, now).into(),
        text_or(object, &["spec", "volumeMode"], "<unset>").into(),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_default = annotations
        .iter()
        .any(|name| object.annotations().and_then(|all| all.get(*name)).and_then(Value::as_str) == Some("true"));
    let suffix = if is_default { " (default)" } else { "" };
    vec![
        format!("{}{suffix}", object.name()).into(),
        object.str_at(&["provisioner"]).into(),
        text_or(object, &["reclaimPolicy"], "Delete").into(),
        text_or(object, &["volumeBindingMode"], "Immediate").into(),
        flag(object, &["allowVolumeExpansion"]).into(),
        age(object, now).into(),
    ]
}

fn attributes_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str_at(&["driverName"]).into(), age(object, now).into()]
}

fn attachment(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.str_at(&["spec", "attacher"]).into(),
        object.str_at(&["spec", "source", "persistentVolumeName"]).into(),
        object.str_at(&["spec", "nodeName"]).into(),
        flag(object, &["status", "attached"]).into(),
        age(object, now).into(),
    ]
}

fn csi_node(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), count(object, &["spec", "drivers"]).into(), age(object, now).into()]
}

fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |field: &str| object.at(&["spec", field]);
    let tokens = spec("tokenRequests")
        .and_then(Value::as_array)
        .map(|requests| requests.iter().map(|request| request.str_at(&["audience"])).collect::<Vec<_>>().join(","));
    let modes: Vec<&str> = list(object, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
    vec![
        object.name().into(),
        spec("attachRequired").and_then(Value::as_bool).unwrap_or(true).into(),
        flag(object, &["spec", "podInfoOnMount"]).into(),
        flag(object, &["spec", "storageCapacity"]).into(),
        tokens.unwrap_or_else(|| "<unset>".to_owned()).into(),
        flag(object, &["spec", "requiresRepublish"]).into(),
        if modes.is_empty() { "<none>".to_owned() } else { modes.join(",") }.into(),
        age(object, now).into(),
    ]
}

fn capacity(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.str_at(&["storageClassName"]).into(),
        shown(object.get("capacity")).unwrap_or_else(|| "<unset>".to_owned()).into(),
    ]
}
