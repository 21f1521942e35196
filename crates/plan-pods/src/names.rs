//! How pods and containers are named in messages and events.

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};

/// `name_namespace(uid)`, as messages of the kubelet write it.
#[must_use]
pub fn pod_text(pod: &Pod) -> String {
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

/// What events about a pod, or about one of its containers, refer to.
#[must_use]
pub fn pod_reference(pod: &Pod, container: Option<&Container>) -> ObjectReference {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    ObjectReference {
        api_version: text("v1"),
        kind: text("Pod"),
        namespace: text(pod.namespace()),
        name: text(pod.name()),
        uid: text(pod.uid()),
        resource_version: text(pod.resource_version()),
        field_path: container.map(|container| field_path(pod, &container.name)),
    }
}

fn field_path(pod: &Pod, name: &str) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    let has = |list: &[Container]| list.iter().any(|container| container.name == name);
    if has(&spec.containers) {
        format!("spec.containers{{{name}}}")
    } else if has(spec.init_containers.as_deref().unwrap_or_default()) {
        format!("spec.initContainers{{{name}}}")
    } else {
        format!("spec.ephemeralContainers{{{name}}}")
    }
}
