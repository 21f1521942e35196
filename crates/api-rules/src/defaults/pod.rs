//! Defaults of pods and of pod templates, which are not the same: some come to life in pods only.
//! Source: `pkg/apis/core/v1/defaults.go`, `zz_generated.defaults.go`, `conversion.go`.

use coracle_api_meta::{Map, Value};
use serde_json::json;

use crate::edit::{blank, each, fill, fill_blank, fill_empty, fill_zero, make, missing, object, put, remove};
use crate::image;
use crate::resources;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub fn pod(pod: &mut Value) {
    fill_empty(pod, "metadata");
    fill_empty(pod, "status");
    let Some(spec) = make(pod, "spec") else { return };
    pod_spec(spec);
    requests_from_limits(spec);
    pod_level_resources(spec);
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        host_ports(spec);
    }
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        if let Some(status) = object(pod, "status") {
            each(status, list).for_each(|item| {
                fill(item, "restartCount", 0);
                fill(item, "ready", false);
                fill(item, "image", "");
                fill(item, "imageID", "");
                fill_empty(item, "lastState");
                fill_empty(item, "state");
            });
        }
    }
}

/// `spec.template` of workloads, or `template` of pod templates.
pub fn template(owner: &mut Value, field: &str) {
    let Some(template) = make(owner, field) else { return };
    fill_empty(template, "metadata");
    if let Some(spec) = make(template, "spec") {
        pod_spec(spec);
        if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
            host_ports(spec);
        }
    }
}

fn pod_spec(spec: &mut Value) {
    fill_blank(spec, "dnsPolicy", "ClusterFirst");
    fill_blank(spec, "restartPolicy", "Always");
    fill_empty(spec, "securityContext");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_blank(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    each(spec, "volumes").for_each(volume);
    for list in CONTAINERS {
        each(spec, list).for_each(container);
    }
    resources::canonical_list(spec, "overhead");
    if let Some(own) = object(spec, "resources") {
        resources::canonical_requirements(own);
    }
}

/// The old name of the field is always written beside the new one.
fn service_account(spec: &mut Value) {
    if blank(spec, "serviceAccountName") && !blank(spec, "serviceAccount") {
        let name = spec.get("serviceAccount").cloned().unwrap_or_default();
        put(spec, "serviceAccountName", name);
    }
    if !blank(spec, "serviceAccountName") {
        let name = spec.get("serviceAccountName").cloned().unwrap_or_default();
        put(spec, "serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    if blank(container, "imagePullPolicy") {
        let policy = pull_policy(container.get("image"));
        put(container, "imagePullPolicy", policy);
    }
    fill_blank(container, "terminationMessagePath", "/dev/termination-log");
    fill_blank(container, "terminationMessagePolicy", "File");
    fill_empty(container, "resources");
    if let Some(own) = object(container, "resources") {
        resources::canonical_requirements(own);
    }
    each(container, "ports").for_each(|port| fill_blank(port, "protocol", "TCP"));
    each(container, "env").for_each(|env| {
        let Some(from) = object(env, "valueFrom") else { return };
        field_ref(from);
        if let Some(resource) = object(from, "resourceFieldRef") {
            fill(resource, "divisor", "0");
        }
        if let Some(file) = object(from, "fileKeyRef") {
            fill(file, "optional", false);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = object(container, name) {
            probe(found);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = object(lifecycle, name) {
                http_get(handler);
            }
        }
    }
}

fn pull_policy(image: Option<&Value>) -> &'static str {
    let name = image.and_then(Value::as_str).unwrap_or_default();
    if image::is_latest(name) { "Always" } else { "IfNotPresent" }
}

fn field_ref(holder: &mut Value) {
    if let Some(field) = object(holder, "fieldRef") {
        fill_blank(field, "apiVersion", "v1");
    }
}

fn probe(probe: &mut Value) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = object(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = object(handler, "httpGet") {
        fill_blank(get, "path", "/");
        fill_blank(get, "scheme", "HTTP");
    }
}

/// Names of the volume sources; a volume without one is an `emptyDir`.
pub const VOLUME_SOURCES: [&str; 31] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
    "",
];

fn volume(volume: &mut Value) {
    if VOLUME_SOURCES.iter().all(|source| source.is_empty() || missing(volume, source)) {
        put(volume, "emptyDir", Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(found) = object(volume, source) {
            fill(found, "defaultMode", 0o644);
        }
    }
    if let Some(host) = object(volume, "hostPath") {
        fill(host, "type", "");
    }
    if let Some(api) = object(volume, "downwardAPI") {
        downward_items(api);
    }
    if let Some(projected) = object(volume, "projected") {
        each(projected, "sources").for_each(projection);
    }
    if let Some(image) = object(volume, "image")
        && blank(image, "pullPolicy")
    {
        let policy = pull_policy(image.get("reference"));
        put(image, "pullPolicy", policy);
    }
    if let Some(template) = object(volume, "ephemeral").and_then(|source| object(source, "volumeClaimTemplate")) {
        fill_empty(template, "metadata");
        if let Some(spec) = make(template, "spec") {
            fill(spec, "volumeMode", "Filesystem");
            fill_empty(spec, "resources");
        }
    }
    network_volume(volume);
}

/// Volume sources of other systems.
pub fn network_volume(volume: &mut Value) {
    if let Some(iscsi) = object(volume, "iscsi") {
        fill_blank(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object(volume, "rbd") {
        fill_blank(rbd, "pool", "rbd");
        fill_blank(rbd, "user", "admin");
        fill_blank(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = object(volume, "azureDisk") {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
        fill(disk, "kind", "Shared");
    }
    if let Some(scale) = object(volume, "scaleIO") {
        fill_blank(scale, "storageMode", "ThinProvisioned");
        fill_blank(scale, "fsType", "xfs");
    }
}

fn projection(source: &mut Value) {
    if let Some(api) = object(source, "downwardAPI") {
        downward_items(api);
    }
    if let Some(token) = object(source, "serviceAccountToken") {
        fill(token, "expirationSeconds", 3600);
    }
    if let Some(certificate) = object(source, "podCertificate") {
        fill(certificate, "maxExpirationSeconds", 86400);
    }
}

fn downward_items(api: &mut Value) {
    each(api, "items").for_each(|item| {
        field_ref(item);
        if let Some(resource) = object(item, "resourceFieldRef") {
            fill(resource, "divisor", "0");
        }
    });
}

/// A limit without a request is the request as well. Pods only: templates keep what was written.
fn requests_from_limits(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let Some(own) = object(container, "resources") else { continue };
            let Some(limits) = own.get("limits").and_then(Value::as_object).cloned() else { continue };
            let Some(requests) = make(own, "requests") else { continue };
            for (name, limit) in limits {
                fill(requests, &name, limit);
            }
            if requests.as_object().is_some_and(Map::is_empty) {
                remove(own, "requests");
            }
        }
    }
}

/// KEP-2837: requests (and huge page limits) of the pod as a whole follow from its containers and its limits.
fn pod_level_resources(spec: &mut Value) {
    let Some(own) = spec.get("resources").filter(|own| own.is_object()).cloned() else { return };
    let has = |field: &str| own.get(field).and_then(Value::as_object).is_some_and(|list| !list.is_empty());
    let mut limits = own.get("limits").cloned().unwrap_or_else(|| json!({}));
    if has("limits") || has("requests") {
        for (name, total) in resources::container_total(spec, "limits") {
            if name.starts_with("hugepages-") {
                fill(&mut limits, &name, total.to_string());
            }
        }
    }
    let mut requests = own.get("requests").cloned().unwrap_or_else(|| json!({}));
    if limits.as_object().is_some_and(|list| !list.is_empty()) {
        for (name, total) in resources::container_total(spec, "requests") {
            if matches!(name.as_str(), "cpu" | "memory") {
                fill(&mut requests, &name, total.to_string());
            }
        }
        for (name, limit) in limits.as_object().cloned().unwrap_or_default() {
            if resources::is_pod_level(&name) {
                fill(&mut requests, &name, limit);
            }
        }
    }
    let Some(target) = object(spec, "resources") else { return };
    for (field, list) in [("limits", limits), ("requests", requests)] {
        if list.as_object().is_some_and(|list| !list.is_empty()) {
            put(target, field, list);
        }
    }
}

fn host_ports(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            for port in each(container, "ports") {
                let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                if number != 0 {
                    fill_zero(port, "hostPort", number);
                }
            }
        }
    }
}
