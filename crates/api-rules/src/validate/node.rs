//! Nodes.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, names};
use serde_json::json;

use super::pod::requirements::resource_value;
use super::pod::scheduling::EFFECTS;
use crate::at::{At, Errors};
use crate::formats::cidr_legacy;
use crate::meta::label_name;
use crate::same::same;

pub fn node(node: &At<'_>, errors: &mut Errors) {
    // Upstream names `metadata.taints`.
    let taints = node.get("metadata").get("taints").with(node.dig("spec.taints").value());
    check_taints(&taints, errors);
    resources(node, errors);
    let cidrs = node.dig("spec.podCIDRs");
    for cidr in cidrs.items() {
        cidr.invalid_all(errors, cidr_legacy(cidr.str()));
    }
    let sixes = cidrs.strings().iter().filter(|cidr| cidr.contains(':')).count();
    if cidrs.len() > 1 && (cidrs.len() > 2 || sixes != 1) {
        cidrs.invalid(errors, "may specify no more than one CIDR for each IP family");
    }
}

/// The path of these is `status.capacity.cpu`, with no brackets.
fn resources(node: &At<'_>, errors: &mut Errors) {
    for list in ["capacity", "allocatable"].map(|list| node.get("status").get(list)) {
        for (name, _) in list.entries() {
            resource_value(name, &list.get(name), errors);
        }
    }
}

pub(crate) fn check_taints(taints: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        label_name(&taint.get("key"), taint.text("key"), errors);
        let texts = names::is_label_value(taint.text("value"));
        if !texts.is_empty() {
            taint.get("value").invalid_as(errors, taint.text("value"), texts.join(";"));
        }
        taint.get("effect").required_one_of(errors, EFFECTS);
        if !seen.insert((taint.text("effect"), taint.text("key"))) {
            // Upstream prints its internal type.
            let shown = json!({"Key": taint.text("key"), "Value": taint.text("value"), "Effect": taint.text("effect"),
                "TimeAdded": taint.get("timeAdded").value()});
            let mut error = FieldError::duplicate(&taint.path(), shown);
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
}

pub fn update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    addresses(new, errors);
    let (cidrs, before) = (new.dig("spec.podCIDRs"), old.dig("spec.podCIDRs"));
    if !before.is_empty() && !same(cidrs.value(), before.value()) {
        cidrs.forbidden(errors, "node updates may not change podCIDR except from \"\" to valid");
    }
    let (id, before) = (new.dig("spec.providerID"), old.dig("spec.providerID"));
    if !before.is_empty() && id.str() != before.str() {
        id.forbidden(errors, "node updates may not change providerID except from \"\" to valid");
    }
    let (id, before) = (new.dig("spec.externalID"), old.dig("spec.externalID"));
    if id.str() != before.str() {
        id.forbidden(errors, "may not be updated");
    }
}

fn addresses(node: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for address in node.dig("status.addresses").items() {
        if !seen.insert((address.text("type"), address.text("address"))) {
            address.duplicate(errors);
        }
    }
}

pub fn status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    resources(new, errors);
    addresses(new, errors);
}
