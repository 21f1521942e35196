//! What the identity of a node may do. Source: `plugin/pkg/auth/authorizer/node`, KEP "node authorizer".

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};

use crate::Attributes;

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASE_NAMESPACE: &str = "kube-node-lease";

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

/// What leads from objects to the nodes that may read them.
pub trait Paths {
    /// Whether something that runs on the node, or is the node's, leads to this object.
    fn lead(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool;
}

type Answer = Result<(), String>;

/// Whether a node may do what it asks for; otherwise why not, which may be empty.
/// Source: `NodeAuthorizer.Authorize`.
pub fn decide(node: &str, attributes: &Attributes<'_>, paths: &dyn Paths) -> Answer {
    let asked = Asked { node, attributes, paths };
    if attributes.path.is_some() {
        return no("");
    }
    match (attributes.group, attributes.resource) {
        ("", "secrets" | "configmaps") => asked.read_namespaced(),
        ("", "persistentvolumeclaims") if attributes.subresource == "status" => asked.update_status(),
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("resource.k8s.io", "resourceclaims")
        | ("storage.k8s.io", "volumeattachments") => asked.get(),
        ("", "serviceaccounts") => asked.service_account(),
        ("coordination.k8s.io", "leases") => asked.lease(),
        ("storage.k8s.io", "csinodes") => asked.csi_node(),
        ("resource.k8s.io", "resourceslices") => asked.resource_slice(),
        ("", "nodes") => asked.own_node(),
        ("", "pods") => asked.pod(),
        ("certificates.k8s.io", "podcertificaterequests") => asked.pod_certificate(),
        _ if by_rule(attributes) => Ok(()),
        _ => no(""),
    }
}

fn no(why: &str) -> Answer {
    Err(why.to_owned())
}

/// What all nodes may do alike. Source: `bootstrappolicy.NodeRules`.
fn by_rule(attributes: &Attributes<'_>) -> bool {
    let verb = attributes.verb;
    let read = matches!(verb, "get" | "list" | "watch");
    if !attributes.subresource.is_empty() {
        return false;
    }
    match (attributes.group, attributes.resource) {
        ("authentication.k8s.io", "tokenreviews")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews") => verb == "create",
        ("", "services")
        | ("storage.k8s.io", "csidrivers")
        | ("node.k8s.io", "runtimeclasses")
        | ("certificates.k8s.io", "clustertrustbundles") => read,
        ("" | "events.k8s.io", "events") => matches!(verb, "create" | "update" | "patch"),
        ("", "endpoints") => verb == "get",
        ("certificates.k8s.io", "certificatesigningrequests") => read || verb == "create",
        _ => false,
    }
}

/// One question.
struct Asked<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    paths: &'a dyn Paths,
}

impl Asked<'_> {
    fn verb_in(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.attributes.verb)
    }

    fn related(&self) -> Answer {
        let attributes = self.attributes;
        if attributes.name.is_empty() {
            return no("No Object name found");
        }
        if self.paths.lead(self.node, attributes.resource, attributes.namespace, attributes.name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{}' and this object", self.node))
    }

    /// Limited to objects of this node.
    fn selects(&self, field: &str) -> bool {
        self.attributes.selectors.is_some_and(|selectors| selectors.requires(field, self.node))
    }

    fn read_namespaced(&self) -> Answer {
        if !self.verb_in(&["get", "list", "watch"]) {
            return no("can only read resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.attributes.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related()
    }

    fn get(&self) -> Answer {
        if self.attributes.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related()
    }

    fn update_status(&self) -> Answer {
        if self.verb_in(&["update", "patch"]) { self.related() } else { no("can only get/update/patch this type") }
    }

    fn service_account(&self) -> Answer {
        if self.attributes.verb == "get" && self.attributes.subresource.is_empty() {
            return self.read_namespaced();
        }
        if self.attributes.verb != "create" || self.attributes.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if self.attributes.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related()
    }

    fn lease(&self) -> Answer {
        if !self.verb_in(&["get", "create", "update", "patch", "delete"]) {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if self.attributes.namespace != LEASE_NAMESPACE {
            return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
        }
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return no("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn csi_node(&self) -> Answer {
        if !self.verb_in(&["get", "create", "update", "patch", "delete"]) {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.attributes.subresource.is_empty() {
            return no("cannot authorize CSINode subresources");
        }
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return no("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn resource_slice(&self) -> Answer {
        if !self.attributes.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.attributes.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(),
            "watch" | "list" | "deletecollection" if self.selects("spec.nodeName") => Ok(()),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn own_node(&self) -> Answer {
        let (node, name) = (self.node, self.attributes.name);
        match (self.attributes.subresource, self.attributes.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if name == node => Ok(()),
            ("", "get" | "list" | "watch") if name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => no(""),
        }
    }

    fn pod(&self) -> Answer {
        match (self.attributes.subresource, self.attributes.verb) {
            ("", "get") => self.related(),
            ("", "list" | "watch") if self.selects("spec.nodeName") => Ok(()),
            ("", "list" | "watch") if !self.attributes.name.is_empty() => self.related(),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // Admission limits these to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        }
    }

    fn pod_certificate(&self) -> Answer {
        if !self.attributes.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match self.attributes.verb {
            "create" => Ok(()),
            "get" => self.related(),
            "list" | "watch" if self.selects("spec.nodeName") => Ok(()),
            "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
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

    struct Only(&'static str);

    impl Paths for Only {
        fn lead(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
            node == "a" && format!("{resource}/{namespace}/{name}") == self.0
        }
    }

    #[test]
    fn nodes_keep_to_themselves() {
        let user = UserInfo::authenticated("system:node:a", &["system:nodes"]);
        let mine = crate::Selectors {
            field: vec![crate::Requirement {
                key: "spec.nodeName".to_owned(),
                operator: "In",
                values: vec!["a".to_owned()],
            }],
            ..crate::Selectors::default()
        };
        let ask = |verb, resource, subresource, name, selectors| {
            let base = Attributes::resource(&user, verb, "", resource);
            let attributes = Attributes { name, subresource, namespace: "n", selectors, ..base };
            match decide("a", &attributes, &Only("secrets/n/known")) {
                Ok(()) => "yes".to_owned(),
                Err(why) => why,
            }
        };
        assert_eq!(ask("patch", "nodes", "status", "a", None), "yes");
        assert_eq!(ask("get", "nodes", "", "b", None), "node 'a' cannot read 'b', only its own Node object");
        assert_eq!(ask("list", "nodes", "", "", None), "node 'a' cannot read all nodes, only its own Node object");
        assert_eq!(ask("get", "secrets", "", "known", None), "yes");
        assert_eq!(ask("get", "secrets", "", "other", None), "no relationship found between node 'a' and this object");
        assert_eq!(ask("list", "secrets", "", "", None), "No Object name found");
        assert_eq!(ask("update", "secrets", "", "known", None), "can only read resources of this type");
        assert_eq!(ask("watch", "pods", "", "", Some(&mine)), "yes");
        assert_eq!(ask("watch", "pods", "", "", None), "can only list/watch pods with spec.nodeName field selector");
        assert_eq!(ask("list", "services", "", "", None), "yes");
        assert_eq!(ask("list", "deployments", "", "", None), "");
    }
}
