//! Binding of claims to volumes, and protection of what is in use.
//! Source: `pkg/controller/volume/{persistentvolume,pvcprotection,pvprotection,ephemeral}`.

use std::sync::Arc;

use coracle_api_meta::Quantity;
use coracle_api_types::Object;
use coracle_plan_core::owner::{controller_ref, is_controlled_by};
use coracle_plan_core::{Action, EventKind, Plan, pod, select};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
const ATTRIBUTES_PROTECTION: &str = "kubernetes.io/vac-protection";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What is known about one claim.
pub struct ClaimView<'a> {
    pub claim: &'a PersistentVolumeClaim,
    pub volumes: &'a [Arc<PersistentVolume>],
    pub class: Option<&'a StorageClass>,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
}

fn class_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

fn storage(
    amounts: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> Option<Quantity> {
    Quantity::parse(&amounts?.get("storage")?.0).ok()
}

/// Whether the volume is kept for this claim: `Some(true)` by uid, `Some(false)` by name only.
fn reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<bool> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let named = owner.name.as_deref() == Some(claim.name()) && owner.namespace.as_deref() == Some(claim.namespace());
    let uid = owner.uid.as_deref().unwrap_or_default();
    (named && (uid.is_empty() || uid == claim.uid())).then_some(uid == claim.uid())
}

/// Whether a free volume could serve the claim.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(have), Some(want)) = (&volume.spec, &claim.spec) else { return false };
    let modes = have.access_modes.as_deref().unwrap_or_default();
    let wanted = storage(want.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let selected = want
        .selector
        .as_ref()
        .is_none_or(|selector| select::matches(&select::compile(selector), volume.metadata.labels.as_ref()));
    let mode = |mode: &Option<String>| mode.clone().unwrap_or("Filesystem".to_owned());
    !volume.is_deleting()
        && selected
        && have.storage_class_name.as_deref().unwrap_or_default() == class_name(claim)
        && mode(&have.volume_mode) == mode(&want.volume_mode)
        && want.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && storage(have.capacity.as_ref()) >= wanted
}

#[must_use]
pub fn plan_claim(view: &ClaimView<'_>) -> Plan {
    let claim = view.claim;
    if claim.is_deleting() {
        return unprotect_claim(view);
    }
    let Some(spec) = &claim.spec else { return Plan::nothing() };
    let named = spec.volume_name.as_deref().filter(|name| !name.is_empty());
    let find = |name: &str| view.volumes.iter().find(|volume| volume.name() == name);
    if claim.annotation(BIND_COMPLETED).is_some() {
        return match named.and_then(find) {
            None => lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            Some(volume) if reserved_for(volume, claim).is_some() => bind(claim, volume),
            Some(volume) if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none()) => bind(claim, volume),
            Some(_) => {
                let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                lost(claim, "ClaimMisbound", message)
            }
        };
    }
    if let Some(name) = named {
        return match find(name) {
            Some(volume) if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none()) => bind(claim, volume),
            Some(volume) if reserved_for(volume, claim).is_some() => bind(claim, volume),
            _ => pending(claim),
        };
    }
    choose(view)
}

fn choose(view: &ClaimView<'_>) -> Plan {
    let claim = view.claim;
    let kept = view.volumes.iter().filter(|volume| suits(volume, claim) || reserved_for(volume, claim) == Some(true));
    if let Some(volume) = kept.filter_map(|volume| Some((reserved_for(volume, claim)?, volume))).max_by_key(|own| own.0)
    {
        return bind(claim, volume.1);
    }
    let waits = view.class.and_then(|class| class.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer");
    let selected = claim.annotation(SELECTED_NODE).is_some();
    if waits && !selected {
        let mut plan = pending(claim);
        let message = "waiting for first consumer to be created before binding";
        plan.push(Action::event(claim, EventKind::Normal, "WaitForFirstConsumer", message));
        return plan;
    }
    let free = |volume: &&Arc<PersistentVolume>| {
        volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none()) && suits(volume, claim)
    };
    let size = |volume: &&Arc<PersistentVolume>| {
        let capacity = volume.spec.as_ref().and_then(|spec| storage(spec.capacity.as_ref()));
        (capacity, volume.name().to_owned())
    };
    if let Some(volume) = view.volumes.iter().filter(free).min_by_key(size).filter(|_| !waits) {
        return bind(claim, volume);
    }
    let mut plan = pending(claim);
    match view.class.filter(|class| class.provisioner != NO_PROVISIONER) {
        Some(class) => provision(claim, &class.provisioner, &mut plan),
        None if class_name(claim).is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            plan.push(Action::event(claim, EventKind::Normal, "FailedBinding", message));
        }
        None => {
            let message = if view.class.is_some() {
                "no persistent volumes available for this claim and no storage class is set".to_owned()
            } else {
                format!("storageclass.storage.k8s.io {:?} not found", class_name(claim))
            };
            plan.push(Action::event(claim, EventKind::Warning, "ProvisioningFailed", message));
        }
    }
    plan
}

/// The provisioner is a program of its own; it is told by annotation.
fn provision(claim: &PersistentVolumeClaim, provisioner: &str, plan: &mut Plan) {
    if claim.annotation(PROVISIONER) != Some(provisioner) {
        let annotations = json!({PROVISIONER: provisioner, PROVISIONER_BETA: provisioner});
        plan.push(Action::merge(claim, "", json!({"metadata": {"annotations": annotations}})));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.push(Action::event(claim, EventKind::Normal, "ExternalProvisioning", message));
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn pending(claim: &PersistentVolumeClaim) -> Plan {
    if phase(claim) == "Pending" {
        return Plan::nothing();
    }
    Plan::from(vec![Action::merge(claim, "status", json!({"status": {"phase": "Pending"}}))])
}

fn lost(claim: &PersistentVolumeClaim, reason: &str, message: &str) -> Plan {
    if phase(claim) == "Lost" {
        return Plan::nothing();
    }
    let status = json!({"status": {"phase": "Lost", "capacity": null, "accessModes": null}});
    Plan::from(vec![Action::merge(claim, "status", status), Action::event(claim, EventKind::Warning, reason, message)])
}

/// Both sides name each other, then both are told so. Each step may have been done before.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let mut plan = Plan::nothing();
    if reserved_for(volume, claim) != Some(true) {
        let by_us = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
        let annotations = if by_us { json!({BOUND_BY_CONTROLLER: "yes"}) } else { Value::Null };
        let reference = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(),
            "name": claim.name(),
            "uid": claim.uid(),
            "resourceVersion": claim.resource_version(),
        });
        let mut patch = json!({
            "metadata": {"resourceVersion": volume.resource_version()},
            "spec": {"claimRef": reference},
        });
        if by_us {
            patch["metadata"]["annotations"] = annotations;
        }
        plan.because(format!("bind to volume {}", volume.name()), "it is the smallest that serves the claim, or named");
        plan.push(Action::merge(volume, "", patch));
    }
    if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        plan.push(Action::merge(volume, "status", json!({"status": {"phase": "Bound"}})));
    }
    let spec = claim.spec.as_ref();
    if spec.and_then(|spec| spec.volume_name.as_deref()) != Some(volume.name())
        || claim.annotation(BIND_COMPLETED).is_none()
    {
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default().is_empty() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.name()}});
        plan.push(Action::merge(claim, "", patch));
    }
    if phase(claim) != "Bound" {
        let spec = volume.spec.as_ref();
        let status = json!({
            "phase": "Bound",
            "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
            "capacity": spec.and_then(|spec| spec.capacity.clone()),
        });
        plan.push(Action::merge(claim, "status", json!({"status": status})));
    }
    plan
}

fn without(meta: &ObjectMeta, name: &str) -> Value {
    let kept: Vec<&String> = meta.finalizers.iter().flatten().filter(|own| *own != name).collect();
    json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": kept}})
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|own| own == name)
}

/// Names of the claims that a pod uses.
#[must_use]
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let name = |volume: &k8s_openapi::api::core::v1::Volume| match &volume.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name)),
    };
    volumes.iter().filter_map(name).collect()
}

/// A claim goes when no pod uses it any more.
fn unprotect_claim(view: &ClaimView<'_>) -> Plan {
    let uses = |pod: &&Arc<Pod>| {
        !pod::is_finished(pod)
            && !pod::node_name(pod).is_empty()
            && claims_of(pod).iter().any(|name| name == view.claim.name())
    };
    if !has_finalizer(&view.claim.metadata, CLAIM_PROTECTION) || view.pods.iter().any(|pod| uses(&pod)) {
        return Plan::nothing();
    }
    let patch = without(&view.claim.metadata, CLAIM_PROTECTION);
    Plan::from(vec![Action::merge(view.claim, "", patch)])
}

/// The plan for a volume, given the claim that it names.
#[must_use]
pub fn plan_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Plan {
    let mut plan = Plan::nothing();
    let Some(spec) = &volume.spec else { return plan };
    let now = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let owner = spec.claim_ref.as_ref();
    let uid = owner.and_then(|owner| owner.uid.as_deref()).unwrap_or_default();
    let claim = claim.filter(|claim| claim.uid() == uid);
    let wanted = match (uid.is_empty(), claim) {
        (true, _) => "Available",
        (false, None) => "Released",
        (false, Some(claim)) => {
            let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            // While the claim does not name a volume yet, its own turn does the rest.
            if named == volume.name() { "Bound" } else { now }
        }
    };
    if volume.is_deleting() {
        if wanted != "Bound" && has_finalizer(&volume.metadata, VOLUME_PROTECTION) {
            plan.push(Action::merge(volume, "", without(&volume.metadata, VOLUME_PROTECTION)));
        }
        return plan;
    }
    if now != wanted && now != "Failed" {
        plan.push(Action::merge(volume, "status", json!({"status": {"phase": wanted}})));
    }
    plan
}

/// A deleted class of attributes goes when no claim and no volume has or wants it.
/// Source: `pkg/controller/volume/vacprotection`.
#[must_use]
pub fn plan_attributes(
    class: &VolumeAttributesClass,
    claims: &[Arc<PersistentVolumeClaim>],
    volumes: &[Arc<PersistentVolume>],
) -> Plan {
    let name = Some(class.name());
    let by_claim = |claim: &Arc<PersistentVolumeClaim>| {
        let status = claim.status.as_ref();
        let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
        let modified = status.and_then(|status| status.modify_volume_status.as_ref());
        let target = modified.and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
        [wanted, current, target].contains(&name)
    };
    let by_volume = |volume: &Arc<PersistentVolume>| {
        volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()) == name
    };
    if !class.is_deleting()
        || !has_finalizer(&class.metadata, ATTRIBUTES_PROTECTION)
        || claims.iter().any(by_claim)
        || volumes.iter().any(by_volume)
    {
        return Plan::nothing();
    }
    let mut freed = class.clone();
    freed.metadata.finalizers.iter_mut().for_each(|all| all.retain(|own| own != ATTRIBUTES_PROTECTION));
    Plan::from(vec![Action::update(&freed)])
}

/// Claims for the ephemeral volumes of a pod.
#[must_use]
pub fn plan_ephemeral(pod: &Pod, find: impl Fn(&str) -> Option<Arc<PersistentVolumeClaim>>) -> Plan {
    let mut plan = Plan::nothing();
    if pod.is_deleting() || pod::is_finished(pod) {
        return plan;
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    for volume in volumes {
        let Some(template) = volume.ephemeral.as_ref().and_then(|own| own.volume_claim_template.as_ref()) else {
            continue;
        };
        let name = format!("{}-{}", pod.name(), volume.name);
        if let Some(claim) = find(&name) {
            if !is_controlled_by(&claim.metadata, pod.uid()) {
                let message = format!(
                    "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    pod.namespace(),
                    pod.namespace(),
                    pod.name()
                );
                plan.push(Action::event(pod, EventKind::Warning, "EphemeralVolumeConflict", message));
            }
            continue;
        }
        let meta = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(pod.namespace().to_owned()),
                labels: meta.labels,
                annotations: meta.annotations,
                owner_references: Some(vec![controller_ref(pod)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        plan.push(Action::ensure(&claim));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<K: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).expect("object"))
    }

    #[test]
    fn a_class_of_attributes_in_use_stays() {
        let class = read::<VolumeAttributesClass>(json!({
            "metadata": {"name": "gold", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [ATTRIBUTES_PROTECTION]},
            "driverName": "d",
        }));
        let claim = |spec: Value, status: Value| {
            read::<PersistentVolumeClaim>(json!({"metadata": {"name": "c"}, "spec": spec, "status": status}))
        };
        let gone = |claims: &[_], volumes: &[_]| !plan_attributes(&class, claims, volumes).actions.is_empty();
        assert!(gone(&[], &[]));
        assert!(gone(&[claim(json!({"volumeAttributesClassName": "silver"}), json!({}))], &[]));
        assert!(!gone(&[claim(json!({"volumeAttributesClassName": "gold"}), json!({}))], &[]));
        assert!(!gone(&[claim(json!({}), json!({"currentVolumeAttributesClassName": "gold"}))], &[]));
        let volume = read(json!({"metadata": {"name": "v"}, "spec": {"volumeAttributesClassName": "gold"}}));
        assert!(!gone(&[], &[volume]));
    }
}
