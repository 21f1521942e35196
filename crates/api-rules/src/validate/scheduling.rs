//! Priority classes and runtime classes.

use std::collections::BTreeSet;

use coracle_api_meta::names;

use super::pod::{requirements, scheduling};
use crate::at::{At, Errors};

const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub fn priority_class(class: &At<'_>, errors: &mut Errors) {
    let (name, value) = (class.dig("metadata.name"), class.get("value"));
    if name.str().starts_with("system-") {
        if let Some(text) = not_system(name.str(), value.int(), class.flag("globalDefault")) {
            let reserved = "priority class names with 'system-' prefix are reserved for system use only. error";
            name.forbidden(errors, format!("{reserved}: {text}"));
        }
    } else if value.int() > USER_VALUE_MAX {
        value.forbidden(errors, format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}"));
    }
    let preemption = class.get("preemptionPolicy");
    if preemption.exists() {
        preemption.required_one_of(errors, &["PreemptLowerPriority", "Never"]);
    }
}

fn not_system(name: &str, value: i64, is_default: bool) -> Option<String> {
    let Some((_, known)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if *known != value {
        return Some(format!("value of {name} PriorityClass must be {known}"));
    }
    is_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

pub fn priority_class_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    // The rules of creation do not hold for a changed class.
    errors.retain(|error| {
        error.path.as_str().starts_with("metadata.") && !error.detail.starts_with("priority class names")
    });
    if new.number("value") != old.number("value") {
        new.get("value").forbidden(errors, "may not be changed in an update.");
    }
    new.get("preemptionPolicy").immutable(errors, &old.get("preemptionPolicy"));
}

pub fn runtime_class(class: &At<'_>, errors: &mut Errors) {
    let handler = class.get("handler");
    if handler.is_empty() {
        handler.required(errors, "");
    } else {
        handler.invalid_all(errors, names::is_dns1123_label(handler.str()));
    }
    let fixed = class.dig("overhead.podFixed");
    // The path of these is that of limits of a container.
    let limits = class.get("overhead").get("limits").with(fixed.value());
    for (name, amount) in limits.sorted_entries() {
        requirements::container_resource(name, &amount, errors);
    }
    let place = class.get("scheduling");
    crate::meta::labels(&place.get("nodeSelector"), errors);
    let tolerations = place.get("tolerations");
    scheduling::tolerations(&tolerations, errors);
    let mut seen = BTreeSet::new();
    for toleration in tolerations.items() {
        if !seen.insert(["key", "operator", "value", "effect"].map(|field| toleration.text(field))) {
            toleration.duplicate(errors);
        }
    }
}

pub fn runtime_class_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.get("handler").immutable(errors, &old.get("handler"));
}
