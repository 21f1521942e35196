//! PodTopologyLabels: pods say in which zone they run. Source: `plugin/pkg/admission/podtopologylabels`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::{Lookup, Operation, Request, fields};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) fn mutate(request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) {
    if !request.is_any("", "pods") {
        return;
    }
    // A binding comes as the pod that it makes.
    let node = match (request.subresource, request.operation) {
        ("", Operation::Create) | ("binding", _) => object.str_at(&["spec", "nodeName"]),
        _ => return,
    };
    let Some(node) = Some(node).filter(|name| !name.is_empty()).and_then(|name| lookup.find("", "nodes", "", name))
    else {
        return;
    };
    for key in LABELS {
        let value = node.labels().and_then(|labels| labels.get(key));
        if let (Some(value), Some(meta)) = (value, object.get_mut("metadata"))
            && let Some(labels) = fields(meta, "labels")
        {
            labels.insert(key.to_owned(), value.clone());
        }
    }
}
