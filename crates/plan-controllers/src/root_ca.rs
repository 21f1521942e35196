//! Every namespace has the cluster's CA in a config map. Source: `pkg/controller/certificates/rootcacertpublisher`.

use std::collections::BTreeMap;

use coracle_api_types::Object;
use coracle_plan_core::{Action, Plan};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

#[must_use]
pub fn plan(namespace: &Namespace, existing: Option<&ConfigMap>, ca_pem: &str) -> Plan {
    if namespace.is_deleting() {
        return Plan::nothing();
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), ca_pem.to_owned())]);
    let annotation = (DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    match existing {
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(namespace.name().to_owned()),
                    annotations: Some(BTreeMap::from([annotation])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            Plan::from(vec![Action::ensure(&map)])
        }
        Some(map) if map.data.as_ref() == Some(&data) && map.annotation(DESCRIPTION).is_some() => Plan::nothing(),
        Some(map) => {
            let mut map = map.clone();
            map.data = Some(data);
            map.metadata.annotations.get_or_insert_default().insert(annotation.0, annotation.1);
            Plan::from(vec![Action::update(&map)])
        }
    }
}
