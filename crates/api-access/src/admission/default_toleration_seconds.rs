//! DefaultTolerationSeconds: pods stay five minutes on nodes that went away.
//! Source: `plugin/pkg/admission/defaulttolerationseconds`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use serde_json::json;

use super::{Request, list, push};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    if !request.is("", "pods") || !request.writes() {
        return;
    }
    let tolerates = |pod: &Value, taint: &str| {
        list(pod, &["spec", "tolerations"]).any(|own| {
            let (key, effect) = (own.str_at(&["key"]), own.str_at(&["effect"]));
            (key == taint || key.is_empty()) && matches!(effect, "" | "NoExecute")
        })
    };
    let missing: Vec<&str> = TAINTS.into_iter().filter(|taint| !tolerates(pod, taint)).collect();
    let Some(spec) = pod.get_mut("spec") else { return };
    for key in missing {
        let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
        push(spec, "tolerations", toleration);
    }
}
