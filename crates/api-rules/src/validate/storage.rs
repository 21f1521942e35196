//! Group `storage.k8s.io`.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, FieldPath, names};

use crate::at::{At, Errors, IMMUTABLE, NON_NEGATIVE};
use crate::edit::remove;
use crate::meta::{label_name, label_selector};
use crate::same::{quantity, same};

const DRIVER_BYTES_MAX: usize = 63;
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;
const NODE_ID_BYTES_MAX: usize = 192;

/// The name of a CSI driver, in any case of letters.
pub(crate) fn driver_name(name: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return name.required(errors, "");
    }
    if name.len() > DRIVER_BYTES_MAX {
        name.too_long(errors, DRIVER_BYTES_MAX);
    }
    name.invalid_all(errors, names::is_dns1123_subdomain(&name.str().to_lowercase()));
}

fn provisioner(name: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return name.required(errors, "");
    }
    let lower = name.str().to_lowercase();
    names::is_qualified_name(&lower).into_iter().for_each(|text| name.invalid_as(errors, lower.as_str(), text));
}

fn parameters(parameters: &At<'_>, errors: &mut Errors) {
    if parameters.len() > PARAMETERS_MAX {
        return parameters.too_long(errors, PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            parameters.invalid_as(errors, "", "field can not be empty.");
        }
        bytes += key.len() + value.len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        parameters.too_long(errors, PARAMETERS_BYTES_MAX);
    }
}

pub fn storage_class(class: &At<'_>, errors: &mut Errors) {
    provisioner(&class.get("provisioner"), errors);
    parameters(&class.get("parameters"), errors);
    let policy = class.get("reclaimPolicy");
    if !policy.is_empty() {
        policy.one_of(errors, &["Delete", "Retain"]);
    }
    let mode = class.get("volumeBindingMode");
    if mode.exists() {
        mode.one_of(errors, &["Immediate", "WaitForFirstConsumer"]);
    } else {
        mode.required(errors, "");
    }
    for term in class.get("allowedTopologies").items() {
        topology_term(&term, errors);
    }
}

fn topology_term(term: &At<'_>, errors: &mut Errors) {
    let mut keys = BTreeSet::new();
    for expression in term.get("matchLabelExpressions").items() {
        let (key, values) = (expression.get("key"), expression.get("values"));
        if values.is_empty() {
            values.required(errors, "");
        }
        let mut seen = BTreeSet::new();
        for value in values.items() {
            if !seen.insert(value.str()) {
                value.duplicate(errors);
            }
        }
        label_name(&key, key.str(), errors);
        if !keys.insert(key.str()) {
            key.duplicate(errors);
        }
    }
}

pub fn storage_class_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        new.get(field).immutable(errors, &old.get(field));
    }
}

pub fn volume_attachment(attachment: &At<'_>, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let spec = attachment.get("spec");
    driver_name(&spec.get("attacher"), errors);
    let source = spec.get("source");
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    match (inline.exists(), name.exists()) {
        (false, false) => source.required(errors, ONE),
        (true, true) => source.forbidden(errors, ONE),
        (false, true) if name.is_empty() => name.required(errors, "must specify non empty persistentVolumeName"),
        _ => {}
    }
    let node = spec.get("nodeName");
    node.invalid_all(errors, names::is_dns1123_subdomain(node.str()));
    let status = attachment.get("status");
    let metadata = status.get("attachmentMetadata");
    let bytes: usize = metadata.entries().iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        metadata.too_long(errors, METADATA_BYTES_MAX);
    }
    for failure in ["attachError", "detachError"].map(|field| status.get(field)) {
        if failure.text("message").len() > MESSAGE_BYTES_MAX {
            failure.get("message").too_long(errors, METADATA_BYTES_MAX);
        }
        if failure.number("errorCode") < 0 {
            failure.get("errorCode").invalid(errors, "must be between 0 and 2147483647, inclusive");
        }
    }
    if name.exists() {
        let path = FieldPath::new("spec.source.persistentVolumeName");
        for text in names::is_dns1123_subdomain(name.str()) {
            errors.push(FieldError::invalid(&path, name.str(), text));
        }
    }
}

/// Kinds whose spec never changes.
pub fn spec_immutable(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.get("spec").immutable(errors, &old.get("spec"));
}

pub fn csi_driver(driver: &At<'_>, errors: &mut Errors) {
    let spec = driver.get("spec");
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            spec.get(shown).required(errors, "");
        }
    }
    spec.get("fsGroupPolicy").one_of_if_set(errors, &["File", "None", "ReadWriteOnceWithFSType"]);
    token_requests(&spec.get("tokenRequests"), errors);
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.strings().into_iter().filter(|mode| !matches!(*mode, "Persistent" | "Ephemeral")) {
        errors.push(FieldError::not_supported(&modes.path(), mode, &["Persistent", "Ephemeral"]));
    }
    if !spec.has("seLinuxMount") {
        spec.get("seLinuxMount").required(errors, "");
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.exists() && period.int() < 10 {
        period.invalid(errors, "must be greater than or equal to 10 seconds");
    }
    let secrets = spec.get("serviceAccountTokenInSecrets");
    if secrets.exists() && spec.get("tokenRequests").is_empty() {
        secrets.invalid(errors, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

fn token_requests(requests: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for request in requests.items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !seen.insert(audience.str()) {
            audience.duplicate(errors);
            continue;
        }
        if seconds.exists() && seconds.int() < 600 {
            seconds.invalid(errors, "may not specify a duration less than 10 minutes");
        }
        if seconds.int() > 1 << 32 {
            seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

pub fn csi_driver_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let attach = spec.get("attachedRequired").with(spec.get("attachRequired").value());
    attach.immutable(errors, &before.get("attachRequired"));
    spec.get("volumeLifecycleModes").immutable(errors, &before.get("volumeLifecycleModes"));
}

pub fn csi_node(node: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for driver in node.dig("spec.drivers").items() {
        driver_name(&driver.get("name"), errors);
        let id = driver.get("nodeID");
        if id.is_empty() {
            id.required(errors, "");
        }
        if id.len() > NODE_ID_BYTES_MAX {
            id.invalid(errors, format!("must be {NODE_ID_BYTES_MAX} characters or less"));
        }
        driver.dig("allocatable.count").non_negative(errors);
        if !seen.insert(driver.text("name")) {
            driver.get("name").duplicate(errors);
        }
        let mut keys = BTreeSet::new();
        // Upstream names the driver here, and not the key.
        for key in driver.get("topologyKeys").strings() {
            if key.is_empty() {
                driver.required(errors, "");
            }
            if !keys.insert(key) {
                driver.duplicate_as(errors, key);
            }
            names::is_qualified_name(key).into_iter().for_each(|text| driver.invalid_as(errors, key, text));
        }
    }
}

/// What can be attached may change, the rest of a driver's entry not.
pub fn csi_node_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let drivers = new.dig("spec.drivers");
    for before in old.dig("spec.drivers").items() {
        for driver in drivers.items().iter().filter(|driver| driver.text("name") == before.text("name")) {
            let (mut now, mut then) = (driver.value().clone(), before.value().clone());
            remove(&mut now, "allocatable");
            remove(&mut then, "allocatable");
            if !same(&now, &then) {
                drivers.invalid_as(errors, now, IMMUTABLE);
            }
        }
    }
}

pub fn storage_capacity(capacity: &At<'_>, errors: &mut Errors) {
    label_selector(&capacity.get("nodeTopology"), errors);
    let class = capacity.get("storageClassName");
    class.invalid_all(errors, names::is_dns1123_subdomain(class.str()));
    let amount = capacity.get("capacity");
    if let Some(value) = quantity(amount.value()).filter(|value| value.is_negative()) {
        amount.invalid_as(errors, value.to_string(), NON_NEGATIVE);
    }
}

pub fn storage_capacity_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    for field in ["nodeTopology", "storageClassName"] {
        new.get(field).immutable(errors, &old.get(field));
    }
}

pub fn attributes_class(class: &At<'_>, errors: &mut Errors) {
    provisioner(&class.get("driverName"), errors);
    let all = class.get("parameters");
    parameters(&all, errors);
    if all.is_empty() {
        all.required(errors, "must contain at least one key/value pair");
    }
}

pub fn attributes_class_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    for field in ["driverName", "parameters"] {
        if !same(new.get(field).value(), old.get(field).value()) {
            new.get(field).forbidden(errors, format!("updates to {field} are forbidden."));
        }
    }
}
