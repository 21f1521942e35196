//! What the identity of a node may do. Source: `plugin/pkg/auth/authorizer/node`, KEP "node authorizer".

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};

use crate::Attributes;

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// The node that a user is, if it is one.
#[must_use]
pub fn node_name(user: &UserInfo) -> Option<&str> {
    user.username.strip_prefix(USER_PREFIX).filter(|name| !name.is_empty() && user.in_group(GROUP))
}

/// Objects that a pod makes its node read: `(resource, name)`, in the pod's namespace.
#[must_use]
pub fn references(pod: &Value) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let list = |path: &[&str]| pod.at(path).and_then(Value::as_array).into_iter().flatten();
    let name_at = |value: &'_ Value, path: &[&str]| value.at(path).and_then(Value::as_str).is_some();
    let account = pod.str_at(&["spec", "serviceAccountName"]);
    if !account.is_empty() {
        found.push(("serviceaccounts", account));
    }
    for secret in list(&["spec", "imagePullSecrets"]) {
        found.push(("secrets", secret.str_at(&["name"])));
    }
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&["spec", kind]) {
            container_references(container, &mut found);
        }
    }
    for volume in list(&["spec", "volumes"]) {
        volume_references(volume, &mut found);
        if let Some(sources) = volume.at(&["projected", "sources"]).and_then(Value::as_array) {
            for source in sources {
                let pairs: [(&'static str, &[&str]); 2] =
                    [("secrets", &["secret", "name"]), ("configmaps", &["configMap", "name"])];
                for (resource, path) in pairs {
                    if name_at(source, path) {
                        found.push((resource, source.str_at(path)));
                    }
                }
            }
        }
    }
    for claim in list(&["status", "resourceClaimStatuses"]) {
        found.push(("resourceclaims", claim.str_at(&["resourceClaimName"])));
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn container_references<'a>(container: &'a Value, found: &mut Vec<(&'static str, &'a str)>) {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    for source in list("envFrom") {
        found.push(("secrets", source.str_at(&["secretRef", "name"])));
        found.push(("configmaps", source.str_at(&["configMapRef", "name"])));
    }
    for variable in list("env") {
        found.push(("secrets", variable.str_at(&["valueFrom", "secretKeyRef", "name"])));
        found.push(("configmaps", variable.str_at(&["valueFrom", "configMapKeyRef", "name"])));
    }
}

fn volume_references<'a>(volume: &'a Value, found: &mut Vec<(&'static str, &'a str)>) {
    found.push(("secrets", volume.str_at(&["secret", "secretName"])));
    found.push(("configmaps", volume.str_at(&["configMap", "name"])));
    found.push(("persistentvolumeclaims", volume.str_at(&["persistentVolumeClaim", "claimName"])));
    for driver in ["cephfs", "flexVolume", "rbd", "scaleIO", "storageos", "csi"] {
        found.push(("secrets", volume.str_at(&[driver, "secretRef", "name"])));
        found.push(("secrets", volume.str_at(&[driver, "nodePublishSecretRef", "name"])));
    }
}

/// Whether a request of a node is about something it may only reach through its own pods, and then through which resource.
#[must_use]
pub fn needs_reference(attributes: &Attributes<'_>) -> bool {
    let by_reference = match attributes.group {
        "" => matches!(attributes.resource, "secrets" | "configmaps" | "persistentvolumeclaims" | "serviceaccounts"),
        "resource.k8s.io" => attributes.resource == "resourceclaims",
        _ => false,
    };
    by_reference && attributes.path.is_none()
}

/// What a node may do whatever its pods are. Source: `bootstrappolicy.NodeRules`.
#[must_use]
pub fn allows_always(attributes: &Attributes<'_>) -> bool {
    let (verb, subresource) = (attributes.verb, attributes.subresource);
    let read = matches!(verb, "get" | "list" | "watch");
    let Some(node) = node_name(attributes.user) else { return false };
    match (attributes.group, attributes.resource) {
        _ if attributes.path.is_some() => false,
        ("", "services")
        | ("node.k8s.io", "runtimeclasses")
        | ("storage.k8s.io", "csidrivers" | "volumeattachments") => read,
        ("", "nodes") => {
            let own = attributes.name == node || attributes.name.is_empty();
            read || (own && matches!(verb, "create" | "update" | "patch") && matches!(subresource, "" | "status"))
        }
        ("", "pods") => match subresource {
            "" => read || matches!(verb, "create" | "delete"),
            "status" => matches!(verb, "get" | "update" | "patch"),
            "eviction" => verb == "create",
            _ => false,
        },
        ("", "persistentvolumes") => read,
        ("" | "events.k8s.io", "events") => matches!(verb, "create" | "update" | "patch"),
        ("authentication.k8s.io", "tokenreviews") => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews") => verb == "create",
        ("certificates.k8s.io", "certificatesigningrequests") => read || verb == "create",
        ("certificates.k8s.io", "clustertrustbundles") => read,
        ("coordination.k8s.io", "leases") => {
            attributes.namespace == "kube-node-lease"
                && (attributes.name == node || (attributes.name.is_empty() && verb == "create"))
                && matches!(verb, "get" | "create" | "update" | "patch" | "delete")
        }
        ("storage.k8s.io", "csinodes") => attributes.name == node || verb == "create",
        ("resource.k8s.io", "resourceslices") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_lead_to_what_they_mention() {
        let pod = json!({"spec": {"serviceAccountName": "sa", "containers": [
            {"env": [{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s1"}}}], "envFrom": [{"configMapRef": {"name": "c1"}}]}],
            "volumes": [{"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"persistentVolumeClaim": {"claimName": "p"}}]}});
        assert_eq!(
            references(&pod),
            [
                ("serviceaccounts", "sa"),
                ("configmaps", "c1"),
                ("secrets", "s1"),
                ("configmaps", "kube-root-ca.crt"),
                ("persistentvolumeclaims", "p")
            ]
        );
    }

    #[test]
    fn nodes_keep_to_themselves() {
        let user = UserInfo::authenticated("system:node:a", &["system:nodes"]);
        let ask = |verb, resource, name| {
            allows_always(&Attributes {
                name,
                subresource: "status",
                ..Attributes::resource(&user, verb, "", resource)
            })
        };
        assert!(ask("patch", "nodes", "a") && !ask("patch", "nodes", "b") && ask("patch", "pods", "x"));
        assert!(!ask("get", "secrets", "x"));
    }
}
