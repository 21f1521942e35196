//! NodeRestriction: nodes touch themselves and their pods. Source: `plugin/pkg/admission/noderestriction`.

use coracle_api_access::node::node_name;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};

use super::annotation;
use crate::registry::admit::{Attempt, Operation};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = node_name(&attempt.ctx.user) else { return Ok(()) };
    let resource = &attempt.target.resource;
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod(attempt, object, node),
        ("", "nodes") => {
            if attempt.name == node || object.name() == node {
                return Ok(());
            }
            Err(attempt.forbidden(&format!("node {node:?} is not allowed to modify node {:?}", attempt.name)))
        }
        ("coordination.k8s.io", "leases") if attempt.name != node && object.name() != node => {
            Err(attempt.forbidden("can only access node lease with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn pod(attempt: &Attempt<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let on_node = |pod: Option<&Value>| pod.map(|pod| pod.str_at(&["spec", "nodeName"])) == Some(node);
    match attempt.operation {
        Operation::Create if attempt.subresource.is_empty() => {
            if annotation(object, MIRROR).is_empty() {
                return Err(attempt.forbidden(&format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                )));
            }
            if !on_node(Some(object)) {
                return Err(
                    attempt.forbidden(&format!("node {node:?} can only create pods with spec.nodeName set to itself"))
                );
            }
            Ok(())
        }
        Operation::Update if attempt.subresource == "status" && !on_node(attempt.old) => Err(attempt
            .forbidden(&format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))),
        Operation::Delete if !on_node(attempt.old) => {
            Err(attempt.forbidden(&format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(()),
    }
}
