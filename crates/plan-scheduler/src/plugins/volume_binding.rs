//! VolumeBinding: claims must be bound, or be such that they can be bound for the node.
//! Source: `pkg/scheduler/framework/plugins/volumebinding`.

use std::sync::Arc;

use coracle_api_meta::{ObjectKey, Quantity};
use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use coracle_plan_core::select;

use super::{State, VOLUME_BINDING, node_affinity};
use crate::cluster::Cluster;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

/// A class that provisions nothing: volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What the pod's claims need of a node.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    bound: Vec<Arc<PersistentVolume>>,
    /// Claims of a class with `WaitForFirstConsumer`.
    waiting: Vec<Arc<PersistentVolumeClaim>>,
}

/// What to do about a claim when the node is chosen.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Bind the claim to this volume.
    Bind { claim: Arc<PersistentVolumeClaim>, volume: String },
    /// Let the provisioner make a volume for the node.
    Provision { claim: Arc<PersistentVolumeClaim> },
}

fn refuse(reason: String) -> Rejection {
    Rejection::unresolvable(VOLUME_BINDING, reason)
}

fn claim_names(pod: &PodInfo) -> Vec<(String, bool)> {
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let name = |volume: &coracle_api_types::k8s_openapi::api::core::v1::Volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some((claim.claim_name.clone(), false));
        }
        volume.ephemeral.as_ref().map(|_| (format!("{}-{}", pod.pod.name(), volume.name), true))
    };
    volumes.iter().filter_map(name).collect()
}

impl Needs {
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Result<Self, Rejection> {
        let mut needs = Self::default();
        let mut immediate = false;
        for (name, ephemeral) in claim_names(pod) {
            let claim = cluster.claims.get(&ObjectKey::new(pod.pod.namespace(), &name));
            let Some(claim) = claim else {
                return Err(refuse(if ephemeral {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                }));
            };
            if claim.is_deleting() {
                return Err(refuse(format!("persistentvolumeclaim {name:?} is being deleted")));
            }
            match bound_volume(claim) {
                Some(volume) => match cluster.volumes.get(volume) {
                    Some(volume) => needs.bound.push(volume.clone()),
                    None => {
                        return Err(refuse(format!(
                            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                        )));
                    }
                },
                None if waits(cluster, claim) => needs.waiting.push(claim.clone()),
                None => immediate = true,
            }
        }
        if immediate {
            return Err(refuse("pod has unbound immediate PersistentVolumeClaims".to_owned()));
        }
        Ok(needs)
    }
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.annotation("pv.kubernetes.io/bind-completed")?;
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn class_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

fn waits(cluster: &Cluster, claim: &PersistentVolumeClaim) -> bool {
    let class = cluster.classes.get(class_name(claim));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required.as_ref())
        .is_none_or(|selector| node_affinity::selector_matches(selector, node))
}

pub fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let needs = &state.volumes;
    if !needs.bound.iter().all(|volume| reaches(volume, node)) {
        return Err(refuse("node(s) didn't match PersistentVolume's node affinity".to_owned()));
    }
    if choices(state.cluster, &needs.waiting, node).is_none() {
        return Err(refuse("node(s) didn't find available persistent volumes to bind".to_owned()));
    }
    Ok(())
}

/// What to do about the pod's claims on that node.
#[must_use]
pub fn choose(cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> Vec<Choice> {
    let needs = Needs::new(cluster, pod).unwrap_or_default();
    choices(cluster, &needs.waiting, node).unwrap_or_default()
}

fn choices(cluster: &Cluster, waiting: &[Arc<PersistentVolumeClaim>], node: &NodeInfo) -> Option<Vec<Choice>> {
    let mut taken: Vec<String> = Vec::new();
    let mut made = Vec::new();
    for claim in waiting {
        let fits = |volume: &&Arc<PersistentVolume>| {
            !taken.iter().any(|name| name == volume.name()) && suits(volume, claim) && reaches(volume, node)
        };
        let volume =
            cluster.volumes.values().filter(fits).min_by_key(|volume| (capacity(volume), volume.name().to_owned()));
        if let Some(volume) = volume {
            taken.push(volume.name().to_owned());
            made.push(Choice::Bind { claim: claim.clone(), volume: volume.name().to_owned() });
            continue;
        }
        let class = cluster.classes.get(class_name(claim))?;
        if class.provisioner == NO_PROVISIONER {
            return None;
        }
        made.push(Choice::Provision { claim: claim.clone() });
    }
    Some(made)
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let amounts = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amounts
        .and_then(|amounts| amounts.get("storage"))
        .and_then(|quantity| Quantity::parse(&quantity.0).ok())
        .map_or(0, |quantity| quantity.value())
}

/// Whether the volume could serve the claim, apart from where it is.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(have), Some(want)) = (&volume.spec, &claim.spec) else { return false };
    let reserved = have.claim_ref.as_ref().is_none_or(|owner| {
        owner.namespace.as_deref() == Some(claim.namespace())
            && owner.name.as_deref() == Some(claim.name())
            && owner.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid())
    });
    let modes = have.access_modes.as_deref().unwrap_or_default();
    let wanted = want.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let bytes = wanted
        .and_then(|wanted| wanted.get("storage"))
        .and_then(|quantity| Quantity::parse(&quantity.0).ok())
        .map_or(0, |quantity| quantity.value());
    let selected = want
        .selector
        .as_ref()
        .is_none_or(|selector| select::matches(&select::compile(selector), volume.metadata.labels.as_ref()));
    reserved
        && selected
        && !volume.is_deleting()
        && have.storage_class_name.as_deref().unwrap_or_default() == class_name(claim)
        && want.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && capacity(volume) >= bytes
}
