//! Changing what a running pod may use. Source: KEP-1287, kubelet `allocation_manager.go`, `status_manager.go`.
//!
//! What the API asks for and what the node has granted may differ for a while: the pod is planned with what was granted.

use coracle_cri::ContainerState;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

use crate::resources::{container_resources, differs};
use crate::{View, is_sidecar};

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";
const DEFERRED: &str = "Deferred";
const ERROR: &str = "Error";

/// Where the resize of a pod stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resize {
    pub pending: Option<Pending>,
    pub in_progress: Option<InProgress>,
}

/// The node has no room for what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub message: String,
    pub generation: Option<i64>,
    pub since: Timestamp,
}

/// What is granted is not in force yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InProgress {
    pub generation: Option<i64>,
    pub since: Timestamp,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl Resize {
    pub(crate) fn conditions(&self) -> impl Iterator<Item = PodCondition> {
        let pending = self.pending.as_ref().map(|pending| PodCondition {
            type_: PENDING.to_owned(),
            reason: Some(DEFERRED.to_owned()),
            message: Some(pending.message.clone()).filter(|message| !message.is_empty()),
            observed_generation: pending.generation,
            last_probe_time: Some(Time(pending.since)),
            ..PodCondition::default()
        });
        let in_progress = self.in_progress.as_ref().map(|progress| PodCondition {
            type_: IN_PROGRESS.to_owned(),
            reason: progress.error.as_ref().map(|_| ERROR.to_owned()),
            message: progress.error.clone(),
            observed_generation: progress.generation,
            last_probe_time: Some(Time(progress.since)),
            ..PodCondition::default()
        });
        let all = [pending, in_progress].into_iter().flatten();
        all.map(|condition| PodCondition { status: "True".to_owned(), ..condition })
    }
}

/// Containers whose resources may change: all but init containers that end.
fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let init = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = init.filter(|container| is_sidecar(container));
    spec.into_iter().flat_map(|spec| &spec.containers).chain(sidecars)
}

/// Whether both ask for the same, container by container and for the pod as a whole.
#[must_use]
pub fn same_resources(a: &Pod, b: &Pod) -> bool {
    let level = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.resources.clone());
    let of = |pod: &Pod, name: &str| {
        resizable(pod).find(|container| container.name == name).and_then(|container| container.resources.clone())
    };
    level(a) == level(b) && resizable(a).all(|container| of(b, &container.name) == container.resources)
}

/// The pod with the resources of `granted`.
#[must_use]
pub fn with_resources_of(pod: &Pod, granted: &Pod) -> Pod {
    let mut pod = pod.clone();
    let Some(spec) = &mut pod.spec else { return pod };
    spec.resources = granted.spec.as_ref().and_then(|spec| spec.resources.clone());
    let sidecars = spec.init_containers.iter_mut().flatten().filter(|container| is_sidecar(container));
    for container in spec.containers.iter_mut().chain(sidecars) {
        if let Some(known) = resizable(granted).find(|known| known.name == container.name) {
            container.resources.clone_from(&known.resources);
        }
    }
    pod
}

/// The pod with the resources that its status says it was granted: what a restarted kubelet goes on with.
#[must_use]
pub fn with_reported_resources(pod: &Pod) -> Pod {
    let Some(status) = &pod.status else { return pod.clone() };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut granted = pod.clone();
    let Some(spec) = &mut granted.spec else { return granted };
    let sidecars = spec.init_containers.iter_mut().flatten().filter(|container| is_sidecar(container));
    for container in spec.containers.iter_mut().chain(sidecars) {
        let mut reported = lists.iter().flat_map(|list| list.iter().flatten());
        let Some(own) = reported.find(|status| status.name == container.name) else { continue };
        let (Some(requests), Some(resources)) = (&own.allocated_resources, &own.resources) else { continue };
        let claims = container.resources.as_ref().and_then(|resources| resources.claims.clone());
        let (requests, limits) = (Some(requests.clone()), resources.limits.clone());
        container.resources = Some(ResourceRequirements { claims, limits, requests });
    }
    granted
}

/// Whether some running container does not have yet what it was granted.
#[must_use]
pub fn is_in_progress(view: &View<'_>) -> bool {
    resizable(view.pod).any(|container| {
        let running = view.runtime.latest(&container.name).filter(|status| status.state == ContainerState::Running);
        running.is_some_and(|status| {
            let wanted = container_resources(view.pod, container, view.node.memory_capacity);
            differs(&status.resources, &wanted)
        })
    })
}

/// What an event about a resize shows: all resources as they are asked for.
#[must_use]
pub fn summary(pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let list = |containers: Option<&Vec<Container>>| -> Vec<Value> {
        let each = containers.into_iter().flatten().map(|container| {
            let resources = container.resources.clone().unwrap_or_default();
            serde_json::json!({"name": container.name, "resources": resources})
        });
        each.collect()
    };
    let spec = pod.spec.as_ref();
    let mut all = Map::new();
    for (field, containers) in [
        ("initContainers", spec.and_then(|spec| spec.init_containers.as_ref())),
        ("containers", spec.map(|spec| &spec.containers)),
    ] {
        let shown = list(containers);
        if !shown.is_empty() {
            all.insert(field.to_owned(), Value::Array(shown));
        }
    }
    all.insert("generation".to_owned(), generation.unwrap_or_default().into());
    if !error.is_empty() {
        all.insert("error".to_owned(), error.into());
    }
    Value::Object(all).to_string()
}

#[cfg(test)]
mod tests {
    use coracle_api_types::Object;
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str) -> Pod {
        Pod::from_value(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "generation": 2},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}, {"name": "d"}]},
            "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}}]}}))
        .expect("pod")
    }

    #[test]
    fn granted_resources_take_the_place_of_those_asked() {
        let (old, new) = (pod("1"), pod("2"));
        assert!(!same_resources(&old, &new));
        assert!(same_resources(&with_resources_of(&new, &old), &old));
        assert!(same_resources(&with_reported_resources(&new), &old));
        expect![[r#"{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}},{"name":"d","resources":{}}],"generation":2,"error":"no"}"#]]
            .assert_eq(&summary(&new, new.metadata.generation, "no"));
    }
}
