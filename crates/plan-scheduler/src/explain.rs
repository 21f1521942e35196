//! Refusals in upstream's words. Source: `pkg/scheduler/framework/types.go FitError`.

use std::collections::BTreeMap;

use crate::framework::Diagnosis;
use crate::status::Rejection;

/// `note` is what preemption says about it.
#[must_use]
pub fn fit_error(nodes: usize, diagnosis: &Diagnosis, note: &str) -> String {
    let mut message = format!("0/{nodes} nodes are available:");
    match &diagnosis.pre_filter {
        Some(rejection) => message.push_str(&format!(" {}.", rejection.reasons.join(", "))),
        None => message.push_str(&histogram(diagnosis.by_node.values())),
    }
    if !note.is_empty() {
        message.push(' ');
        message.push_str(note);
    }
    message
}

/// ` 1 Insufficient cpu, 2 node(s) were unschedulable.`, sorted as text.
pub fn histogram<'a>(rejections: impl Iterator<Item = &'a Rejection>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in rejections.flat_map(|rejection| &rejection.reasons) {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    if parts.is_empty() { String::new() } else { format!(" {}.", parts.join(", ")) }
}
