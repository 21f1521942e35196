//! Every namespace has a `default` service account. Source: `pkg/controller/serviceaccount`.

use coracle_api_types::Object;
use coracle_plan_core::{Action, Plan};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const NAMES: [&str; 1] = ["default"];

#[must_use]
pub fn plan(namespace: &Namespace, exists: impl Fn(&str) -> bool) -> Plan {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if namespace.is_deleting() || phase == Some("Terminating") {
        return Plan::nothing();
    }
    let account = |name: &str| ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.name().to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    let missing = NAMES.iter().filter(|name| !exists(name));
    Plan::from(missing.map(|name| Action::ensure(&account(name))).collect::<Vec<_>>())
}
