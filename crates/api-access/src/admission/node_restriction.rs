//! NodeRestriction: nodes touch themselves and their pods. Source: `plugin/pkg/admission/noderestriction`.

use std::sync::Arc;

use std::collections::BTreeSet;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvr, Status, Value};

use super::{Lookup, MIRROR_POD, Operation, Request, annotation, list};
use crate::node::{node_name, references};

const LEASES: &str = "kube-node-lease";
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io";
/// Labels and label prefixes that a kubelet may set on its node. Source: `k8s.io/kubelet/pkg/apis/well_known_labels.go`.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_LABEL_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// A request of a node, with that node's name.
struct Node<'a> {
    request: &'a Request<'a>,
    name: &'a str,
    lookup: &'a dyn Lookup,
}

pub(super) fn admit(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let Some(name) = node_name(request.user) else { return Ok(()) };
    let node = Node { request, name, lookup };
    match (request.gvr.group.as_str(), request.gvr.resource.as_str()) {
        ("", "pods") => node.pod(object),
        ("", "nodes") => node.node(object),
        ("", "persistentvolumeclaims") => node.claim(object),
        ("", "serviceaccounts") => node.token(object),
        ("coordination.k8s.io", "leases") => node.lease(object),
        ("storage.k8s.io", "csinodes") => {
            node.own(object, "can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => node.slice(object),
        _ => Ok(()),
    }
}

impl Node<'_> {
    fn refuse<T>(&self, why: impl AsRef<str>) -> Result<T, Status> {
        Err(self.request.forbidden(why.as_ref()))
    }

    fn runs(&self, pod: &Value) -> bool {
        pod.str_at(&["spec", "nodeName"]) == self.name
    }

    fn existing_pod(&self, name: &str) -> Result<Arc<Value>, Status> {
        let found = self.lookup.find("", "pods", self.request.namespace, name);
        found.ok_or_else(|| Status::not_found(&Gvr::new("", "v1", "pods"), name))
    }

    fn pod(&self, object: &Value) -> Result<(), Status> {
        let (name, request) = (self.name, self.request);
        match (request.subresource, request.operation) {
            ("", Operation::Create) => self.mirror_pod(object),
            ("", Operation::Delete) => {
                let pod = match request.old {
                    Some(old) => Arc::new(old.clone()),
                    None => self.existing_pod(request.name)?,
                };
                if self.runs(&pod) {
                    return Ok(());
                }
                self.refuse(format!("node {name:?} can only delete pods with spec.nodeName set to itself"))
            }
            ("", operation) => self.refuse(format!(
                "unexpected operation {:?}, node {name:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) => self.pod_status(object),
            ("eviction", Operation::Create) => {
                let pod = if request.name.is_empty() { object.name() } else { request.name };
                if pod.is_empty() {
                    return self.refuse("could not determine pod from request data");
                }
                if self.runs(&*self.existing_pod(pod)?) {
                    return Ok(());
                }
                self.refuse(format!("node {name} can only evict pods with spec.nodeName set to itself"))
            }
            ("status" | "eviction", operation) => self.refuse(format!("unexpected operation {:?}", operation.as_str())),
            (other, _) => {
                self.refuse(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
        }
    }

    fn mirror_pod(&self, pod: &Value) -> Result<(), Status> {
        let name = self.name;
        if annotation(pod, MIRROR_POD).is_none() {
            return self.refuse(format!(
                "pod does not have {MIRROR_POD:?} annotation, node {name:?} can only create mirror pods"
            ));
        }
        if !self.runs(pod) {
            return self.refuse(format!("node {name:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners: Vec<&Value> = list(pod, &["metadata", "ownerReferences"]).collect();
        let [owner] = owners.as_slice() else {
            let which = if owners.is_empty() { "an owner reference" } else { "a single owner reference" };
            return self.refuse(format!("node {name:?} can only create pods with {which} set to itself"));
        };
        self.owner(owner)?;
        match api_reference(pod) {
            Some(resource) => self.refuse(format!("node {name:?} can not create pods that reference {resource}")),
            None => Ok(()),
        }
    }

    fn owner(&self, owner: &Value) -> Result<(), Status> {
        let name = self.name;
        let is_true = |field: &str| owner.get(field) == Some(&Value::Bool(true));
        if (owner.api_version(), owner.kind(), owner.str_at(&["name"])) != ("v1", "Node", name) {
            return self.refuse(format!("node {name:?} can only create pods with an owner reference set to itself"));
        }
        if !is_true("controller") {
            return self
                .refuse(format!("node {name:?} can only create pods with a controller owner reference set to itself"));
        }
        if is_true("blockOwnerDeletion") {
            return self.refuse(format!("node {name:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let node = self.lookup.find("", "nodes", "", name);
        let node = node.ok_or_else(|| Status::not_found(&Gvr::new("", "v1", "nodes"), name))?;
        let (asked, uid) = (owner.str_at(&["uid"]), node.uid());
        if asked == uid {
            return Ok(());
        }
        self.refuse(format!("node {name} UID mismatch: expected {asked} got {uid}"))
    }

    fn pod_status(&self, pod: &Value) -> Result<(), Status> {
        let (name, old) = (self.name, self.request.old.unwrap_or(&Value::Null));
        if !self.runs(old) {
            return self
                .refuse(format!("node {name:?} can only update pod status for pods with spec.nodeName set to itself"));
        }
        let labels = |pod: &Value| pod.labels().filter(|labels| !labels.is_empty()).cloned();
        if labels(pod) != labels(old) {
            return self.refuse(format!("node {name:?} cannot update labels through pod status"));
        }
        let claims = |pod: &Value| {
            let all = list(pod, &["status", "resourceClaimStatuses"]);
            let pair = |claim: &Value| (claim.str_at(&["name"]).to_owned(), claim.get("resourceClaimName").cloned());
            all.map(pair).collect::<Vec<_>>()
        };
        if claims(pod) != claims(old) {
            return self.refuse(format!("node {name:?} cannot update resource claim statues"));
        }
        let extended = |pod: &Value| pod.at(&["status", "extendedResourceClaimStatus"]).cloned();
        if extended(pod) != extended(old) {
            return self.refuse(format!("node {name:?} cannot update extended resource claim status"));
        }
        Ok(())
    }

    fn claim(&self, claim: &Value) -> Result<(), Status> {
        if self.request.subresource != "status" {
            return self.refuse("may only update PVC status");
        }
        if self.request.operation != Operation::Update {
            return self.refuse(format!("unexpected operation {:?}", self.request.operation.as_str()));
        }
        let bare = |claim: &Value| {
            let mut claim = claim.clone();
            claim.remove_meta("resourceVersion");
            claim.remove_meta("managedFields");
            if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
                for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                    status.shift_remove(field);
                }
            }
            claim
        };
        if self.request.old.is_some_and(|old| bare(old) == bare(claim)) {
            return Ok(());
        }
        self.refuse(format!(
            "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
            self.name
        ))
    }

    fn node(&self, node: &Value) -> Result<(), Status> {
        let (name, request) = (self.name, self.request);
        if request.name != name {
            return self.refuse(format!("node {name:?} is not allowed to modify node {:?}", request.name));
        }
        match (request.operation, request.old) {
            (Operation::Create, _) => {
                let labels = forbidden_labels(node, &Value::Null);
                if labels.is_empty() {
                    return Ok(());
                }
                self.refuse(format!("node {name:?} is not allowed to set the following labels: {}", labels.join(", ")))
            }
            (Operation::Update, Some(old)) => {
                let items = |node: &Value, path: &[&str]| list(node, path).cloned().collect::<Vec<_>>();
                let changed = |path: &[&str]| items(node, path) != items(old, path);
                if changed(&["spec", "taints"]) {
                    return self.refuse(format!("node {name:?} is not allowed to modify taints"));
                }
                if changed(&["metadata", "ownerReferences"]) {
                    return self.refuse(format!("node {name:?} is not allowed to modify ownerReferences"));
                }
                let labels = forbidden_labels(node, old);
                if labels.is_empty() {
                    return Ok(());
                }
                self.refuse(format!("is not allowed to modify labels: {}", labels.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn token(&self, review: &Value) -> Result<(), Status> {
        if self.request.operation != Operation::Create || self.request.subresource != "token" {
            return Ok(());
        }
        let reference = review.at(&["spec", "boundObjectRef"]).unwrap_or(&Value::Null);
        let (pod_name, uid) = (reference.str_at(&["name"]), reference.str_at(&["uid"]));
        if (reference.api_version(), reference.kind()) != ("v1", "Pod") || pod_name.is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.existing_pod(pod_name)?;
        if pod.uid() != uid {
            return self.refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if self.runs(&pod) {
            return Ok(());
        }
        self.refuse("node requested token bound to a pod scheduled on a different node")
    }

    fn lease(&self, lease: &Value) -> Result<(), Status> {
        if self.request.namespace != LEASES {
            return self.refuse(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        self.own(lease, "can only access node lease with the same name as the requesting node")
    }

    /// The object has the name of the node.
    fn own(&self, object: &Value, why: &str) -> Result<(), Status> {
        let create = self.request.operation == Operation::Create;
        let name = if create { object.name() } else { self.request.name };
        if name == self.name { Ok(()) } else { self.refuse(why) }
    }

    fn slice(&self, slice: &Value) -> Result<(), Status> {
        let on_node = |slice: &Value| slice.str_at(&["spec", "nodeName"]) == self.name;
        match self.request.operation {
            Operation::Create if !on_node(slice) => {
                self.refuse("can only create ResourceSlice with the same NodeName as the requesting node")
            }
            Operation::Delete if !self.request.old.is_some_and(on_node) => {
                self.refuse("can only delete ResourceSlice with the same NodeName as the requesting node")
            }
            _ => Ok(()),
        }
    }
}

/// What of the API a pod refers to; mirror pods may not. Source: `podutil.HasAPIObjectReference`.
fn api_reference(pod: &Value) -> Option<&'static str> {
    let found = references(pod);
    for resource in ["serviceaccounts", "secrets", "configmaps"] {
        if found.iter().any(|(own, _)| *own == resource) {
            return Some(resource);
        }
    }
    if list(pod, &["spec", "resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    const VOLUMES: [(&str, &str); 5] = [
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 3] = [
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let has = |value: &Value, table: &[(&str, &'static str)]| {
        table.iter().find(|(field, _)| value.get(field).is_some_and(Value::is_object)).map(|(_, what)| *what)
    };
    list(pod, &["spec", "volumes"]).find_map(|volume| {
        let mut sources = list(volume, &["projected", "sources"]);
        has(volume, &VOLUMES).or_else(|| sources.find_map(|source| has(source, &PROJECTED)))
    })
}

/// The labels that changed and that no node may set, sorted.
fn forbidden_labels(node: &Value, old: &Value) -> Vec<String> {
    let get = |object: &Value, key: &str| object.labels().and_then(|labels| labels.get(key)).cloned();
    let keys = [node, old].into_iter().filter_map(|object| object.labels()).flat_map(|labels| labels.keys());
    let changed: BTreeSet<&String> = keys.filter(|key| get(node, key) != get(old, key)).collect();
    changed.into_iter().filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    let under = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let kubernetes = under("kubernetes.io") || under("k8s.io");
    let kubelet = KUBELET_LABELS.contains(&label) || KUBELET_LABEL_PREFIXES.iter().any(|domain| under(domain));
    under(RESTRICTED_LABELS) || (kubernetes && !kubelet)
}
