//! TaintNodesByCondition: new nodes get no pods before they are ready. Source: `plugin/pkg/admission/nodetaint`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use serde_json::json;

use super::{Request, fields, list, push};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) fn mutate(request: &Request<'_>, node: &mut Value) {
    if !request.is_new("", "nodes") {
        return;
    }
    let same = |taint: &Value| taint.str_at(&["key"]) == NOT_READY && taint.str_at(&["effect"]) == EFFECT;
    if list(node, &["spec", "taints"]).any(same) || fields(node, "spec").is_none() {
        return;
    }
    if let Some(spec) = node.get_mut("spec") {
        push(spec, "taints", json!({"key": NOT_READY, "effect": EFFECT}));
    }
}
