//! PodResizeValidator: pods do not grow beyond their node. Source: `plugin/pkg/admission/podresize`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, Quantity, Status, Value};

use super::{Amounts, Lookup, Operation, PodAmounts, Request, pod_requests};

const UNSUPPORTED_PLATFORM: &str = "UnsupportedPlatform";
const NODE_CAPACITY: &str = "NodeCapacity";

pub(super) fn validate(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let resize =
        request.operation == Operation::Update && request.is_any("", "pods") && request.subresource == "resize";
    let node_name = pod.str_at(&["spec", "nodeName"]);
    if !resize || node_name.is_empty() || request.old.is_some_and(|old| old.get("spec") == pod.get("spec")) {
        return Ok(());
    }
    let node = lookup.find("", "nodes", "", node_name);
    let node = node.ok_or_else(|| request.forbidden(&format!("node {node_name:?} not found")))?;
    let system = node.labels().and_then(|labels| labels.get("kubernetes.io/os")).and_then(Value::as_str);
    if let Some(system) = system.filter(|system| *system != "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {node_name:?} is {system:?}");
        return Err(refused(request, &why, UNSUPPORTED_PLATFORM));
    }
    let (asked, room) = (pod_requests(pod, PodAmounts::Effective), Amounts::at(&node, &["status", "allocatable"]));
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let mut parts = Vec::new();
    for (name, number) in [("cpu", Quantity::milli_value as fn(&Quantity) -> i64), ("memory", Quantity::value)] {
        let (asked, room) = (of(&asked, name), of(&room, name));
        if asked > room {
            parts.push(format!("{name}, requested: {}, allocatable: {}", number(&asked), number(&room)));
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", parts.join("; "));
    Err(refused(request, &why, NODE_CAPACITY))
}

fn refused(request: &Request<'_>, why: &str, reason: &str) -> Status {
    let mut status = request.forbidden(why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: reason.to_owned(), ..Cause::default() });
    }
    status
}
