//! Pods made from templates, and their hashes.

use std::collections::BTreeMap;

use coracle_plan_core::hash::short_hash;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Label of a deployment's replica sets and their pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Longest prefix that leaves room for a generated suffix.
const GENERATE_NAME_BYTES_MAX: usize = 63 - 5;

/// A pod of the template under a generated name.
#[must_use]
pub fn pod(template: &PodTemplateSpec, namespace: &str, owner: &OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut prefix = format!("{}-", owner.name);
    prefix.truncate(GENERATE_NAME_BYTES_MAX);
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[must_use]
pub fn labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref()
}

/// The hash that tells templates apart.
#[must_use]
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_vec(template).unwrap_or_default();
    short_hash(&json, collisions)
}

/// The template with one more label.
#[must_use]
pub fn with_label(template: &PodTemplateSpec, key: &str, value: &str) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    template
}

#[must_use]
pub fn selector_with_label(selector: &LabelSelector, key: &str, value: &str) -> LabelSelector {
    let mut selector = selector.clone();
    selector.match_labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    selector
}

/// Whether the templates are equal but for the hash label.
#[must_use]
pub fn equal_but_hash(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    fn bare(template: &PodTemplateSpec) -> PodTemplateSpec {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(POD_TEMPLATE_HASH);
            }
            meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
            meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
            meta.creation_timestamp = None;
        }
        template.metadata = template.metadata.take().filter(|meta| *meta != ObjectMeta::default());
        template
    }
    bare(a) == bare(b)
}

/// A number, or a share of `total`. `None` for what cannot be read.
#[must_use]
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(count) => Some(*count),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent * i64::from(total);
            let scaled = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            scaled.try_into().ok()
        }
    }
}
