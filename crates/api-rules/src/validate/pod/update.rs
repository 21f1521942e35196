//! What may change in a pod.

use coracle_api_meta::{FieldError, FieldPath, ObjectExt, Value, names};

use super::{annotations_and_spec, is_mirror, is_sidecar, scheduling};
use crate::at::{At, Errors};
use crate::diff::diff;
use crate::edit::{copy, each, object, put, remove};
use crate::formats::{in_range, ip_legacy};
use crate::same::same;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    annotations_and_spec(new, errors);
    annotation_changes(new, old, errors);
    let (spec, old_spec) = (new.get("spec"), old.get("spec"));
    for list in ["containers", "initContainers"] {
        if !images(&spec.get(list), &old_spec.get(list), errors) {
            return;
        }
    }
    if !deadline(&spec.get("activeDeadlineSeconds"), &old_spec.get("activeDeadlineSeconds"), errors) {
        return;
    }
    added_tolerations(&spec.get("tolerations"), &old_spec.get("tolerations"), errors);
    removed_gates(&spec.get("schedulingGates"), &old_spec.get("schedulingGates"), errors);
    if same(spec.value(), old_spec.value()) {
        return;
    }
    let mut munged = spec.value().clone();
    allow_updatable(&mut munged, old_spec.value());
    if !old_spec.get("schedulingGates").is_empty() {
        gated(&spec, &old_spec, &mut munged, errors);
    }
    if !same(&munged, old_spec.value()) {
        let changes = diff(old_spec.value(), &munged);
        spec.forbidden(errors, format!("pod updates may not change fields other than {UPDATABLE}\n{changes}"));
    }
}

fn annotation_changes(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (new, old) = (new.dig("metadata.annotations"), old.dig("metadata.annotations"));
    let what = |key: &str| match key {
        "kubernetes.io/config.mirror" => Some("mirror pod annotation"),
        _ if key.starts_with("container.apparmor.security.beta.kubernetes.io/") => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in old.entries() {
        if let Some(what) = what(key).filter(|_| new.key(key).value() != value.value()) {
            new.key(key).forbidden(errors, format!("may not remove or update {what}"));
        }
    }
    for (key, place) in new.entries() {
        if let Some(what) = what(key).filter(|_| !old.has(key)) {
            place.forbidden(errors, format!("may not add {what}"));
        }
    }
}

fn images(new: &At<'_>, old: &At<'_>, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        new.forbidden(errors, "pod updates may not add or remove containers");
        return false;
    }
    for image in new.items().iter().map(|container| container.get("image")) {
        if image.is_empty() {
            image.required(errors, "");
        }
        if image.str().trim() != image.str() {
            image.invalid(errors, "must not have leading or trailing whitespace");
        }
    }
    true
}

/// From nothing to something, or downwards.
fn deadline(new: &At<'_>, old: &At<'_>, errors: &mut Errors) -> bool {
    match (new.opt_int(), old.opt_int()) {
        (Some(seconds), before) => {
            let texts = in_range(seconds, 0, i64::from(i32::MAX));
            if !texts.is_empty() {
                new.invalid_all(errors, texts);
                return false;
            }
            if before.is_some_and(|before| before < seconds) {
                new.invalid(errors, "must be less than or equal to previous value");
                return false;
            }
        }
        (None, Some(_)) => {
            new.invalid_as(errors, Value::Null, "must not update from a positive integer to nil value");
        }
        (None, None) => {}
    }
    true
}

fn added_tolerations(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let bare = |toleration: &At<'_>| {
        let mut bare = toleration.value().clone();
        remove(&mut bare, "tolerationSeconds");
        bare
    };
    let kept: Vec<Value> = new.items().iter().map(bare).collect();
    if old.items().iter().any(|before| !kept.iter().any(|now| same(now, &bare(before)))) {
        return new.forbidden(errors, "existing toleration can not be modified except its tolerationSeconds");
    }
    scheduling::tolerations(new, errors);
}

fn removed_gates(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let known: Vec<&str> = old.items().iter().map(|gate| gate.text("name")).collect();
    for gate in new.items().iter().filter(|gate| !known.contains(&gate.text("name"))) {
        let text = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
        gate.get("name").forbidden(errors, text);
    }
}

/// Takes back what may change, so that the rest can be compared.
fn allow_updatable(munged: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        let before = old.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        for (container, before) in each(munged, list).zip(&before) {
            copy(container, before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy(munged, old, field);
    }
    let seconds = |spec: &Value| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if seconds(old).is_some_and(|before| before < 0) && seconds(munged) == Some(1) {
        copy(munged, old, "terminationGracePeriodSeconds");
    }
}

/// A pod that waits behind gates may become pickier about nodes.
fn gated(new: &At<'_>, old: &At<'_>, munged: &mut Value, errors: &mut Errors) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    if before.entries().iter().any(|(key, value)| selector.key(key).value() != value.value()) {
        selector.invalid(errors, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
    copy(munged, old.value(), "nodeSelector");
    let (affinity, before) = (new.dig("affinity.nodeAffinity"), old.dig("affinity.nodeAffinity"));
    if same(affinity.value(), before.value()) {
        return;
    }
    node_affinity(&affinity, &before, errors);
    let empty = |field: &str| new.get("affinity").get(field).is_empty();
    if !old.has("affinity") && empty("podAffinity") && empty("podAntiAffinity") {
        remove(munged, "affinity");
    } else if let Some(affinity) = crate::edit::make(munged, "affinity") {
        match before.value() {
            Value::Null => remove(affinity, "nodeAffinity"),
            kept => put(affinity, "nodeAffinity", kept.clone()),
        }
    }
}

fn node_affinity(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let before = old.get(REQUIRED).get("nodeSelectorTerms").items();
    if before.is_empty() {
        return;
    }
    let now = new.get(REQUIRED).get("nodeSelectorTerms");
    if now.len() != before.len() {
        let shown = now.value().clone();
        return now.invalid_as(errors, shown, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    }
    for (term, before) in now.items().iter().zip(&before) {
        let grows = ["matchExpressions", "matchFields"].iter().all(|list| {
            let (now, before) = (term.get(list).items(), before.get(list).items());
            now.len() >= before.len() && now.iter().zip(&before).all(|(now, before)| same(now.value(), before.value()))
        });
        let was_empty = before.get("matchExpressions").is_empty() && before.get("matchFields").is_empty();
        let is_empty = term.get("matchExpressions").is_empty() && term.get("matchFields").is_empty();
        if !grows || (was_empty && !is_empty) {
            term.invalid(errors, "only additions are allowed (no mutations or deletions)");
        }
    }
}

// Status.

pub fn status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    annotation_changes(new, old, errors);
    let (status, before) = (new.get("status"), old.get("status"));
    for condition in status.get("conditions").items() {
        if condition.number("observedGeneration") < 0 {
            condition.get("observedGeneration").invalid(errors, "must be a non-negative integer");
        }
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            for text in names::is_qualified_name(kind) {
                condition.get("Type").invalid_as(errors, kind, text);
            }
        }
    }
    let nominated = status.get("nominatedNodeName");
    if !nominated.is_empty() && nominated.str() != before.text("nominatedNodeName") {
        nominated.invalid_all(errors, names::is_dns1123_subdomain(nominated.str()));
        if !old.dig("spec.nodeName").is_empty() {
            nominated.forbidden(errors, "may not be set on pods that are already bound to a node");
        }
    }
    if status.number("observedGeneration") < 0 {
        status.get("observedGeneration").invalid(errors, "must be a non-negative integer");
    }
    status.get("qosClass").immutable(errors, &before.get("qosClass"));
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        transitions(list, &status.get(list), &before.get(list), &old.get("spec"), errors);
    }
    claim_statuses(&status.get("resourceClaimStatuses"), &new.dig("spec.resourceClaims"), errors);
    addresses(&status.get("podIPs"), &before.get("podIPs"), errors);
    let hosts = status.get("hostIPs");
    if let Some(first) = hosts.items().first() {
        if first.text("ip") != status.text("hostIP") {
            first.get("ip").invalid(errors, "must be equal to `hostIP`");
        }
        addresses(&hosts, &before.get("hostIPs"), errors);
    }
}

/// What has ended for good does not come back.
fn transitions(list: &str, new: &At<'_>, old: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    let specs = match list {
        "containerStatuses" => spec.get("containers").items(),
        "initContainerStatuses" => spec.get("initContainers").items(),
        _ => Vec::new(),
    };
    let restarts_all = |container: &At<'_>| {
        container.get("restartPolicyRules").items().iter().any(|rule| rule.text("action") == "RestartAllContainers")
    };
    let everywhere = super::all_containers(spec).iter().any(restarts_all);
    for before in old.items() {
        let ended = before.dig("state.terminated");
        let back = |now: &At<'_>| now.text("name") == before.text("name") && !now.get("state").has("terminated");
        if !ended.exists() || everywhere || !new.items().iter().any(back) {
            continue;
        }
        let own = specs.iter().find(|container| container.text("name") == before.text("name"));
        if !own.is_some_and(|container| may_restart(container, spec, ended.number("exitCode"))) {
            before.get("state").forbidden(errors, "may not be transitioned to non-terminated state");
        }
    }
}

fn may_restart(container: &At<'_>, spec: &At<'_>, code: i64) -> bool {
    for rule in container.get("restartPolicyRules").items() {
        let codes = rule.get("exitCodes");
        let listed = codes.get("values").items().iter().any(|value| value.int() == code);
        if (codes.text("operator") == "In") == listed {
            return true;
        }
    }
    if is_sidecar(container) {
        return true;
    }
    let own = container.text("restartPolicy");
    match if own.is_empty() { spec.text("restartPolicy") } else { own } {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claim_statuses(statuses: &At<'_>, claims: &At<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for status in statuses.items() {
        let name = status.get("name");
        if !claims.items().iter().any(|claim| claim.text("name") == name.str()) {
            name.invalid(errors, "must match the name of an entry in `spec.resourceClaims`");
        }
        if seen.contains(&name.str()) {
            name.duplicate(errors);
        }
        seen.push(name.str());
        let claim = status.get("resourceClaimName");
        if claim.exists() {
            claim.invalid_all(errors, names::is_dns1123_subdomain(claim.str()));
        }
    }
}

fn addresses(ips: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let known: Vec<&str> = old.items().iter().map(|ip| ip.text("ip")).collect();
    let items = ips.items();
    for ip in items.iter().filter(|ip| !known.contains(&ip.text("ip"))) {
        for text in ip_legacy(ip.text("ip")) {
            ip.invalid_as(errors, ip.text("ip"), text);
        }
    }
    let sixes = items.iter().filter(|ip| ip.text("ip").contains(':')).count();
    if items.len() > 1 && (items.len() > 2 || sixes != 1) {
        ips.invalid(errors, "may specify no more than one IP for each IP family");
    }
}

// Other subresources.

fn at_nothing(errors: &mut Errors, text: &str) {
    errors.clear();
    errors.push(FieldError::forbidden(&FieldPath::new(""), text));
}

pub fn ephemeral_containers(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    annotations_and_spec(new, errors);
    annotation_changes(new, old, errors);
    if is_mirror(old.value()) {
        return at_nothing(errors, "static pods do not support ephemeral containers");
    }
    let list = new.dig("spec.ephemeralContainers");
    for before in old.dig("spec.ephemeralContainers").items() {
        let name = before.text("name");
        match list.items().iter().find(|now| now.text("name") == name) {
            None => list.forbidden(errors, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if !same(now.value(), before.value()) => {
                let changes = diff(before.value(), now.value());
                list.forbidden(errors, format!("existing ephemeral containers {name:?} may not be changed\n{changes}"));
            }
            Some(_) => {}
        }
    }
}

pub fn resize(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    annotations_and_spec(new, errors);
    if is_mirror(old.value()) {
        return at_nothing(errors, "static pods cannot be resized");
    }
    if old.dig("spec.os.name").str() == "windows" {
        return at_nothing(errors, "windows pods cannot be resized");
    }
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let class = match old.dig("status.qosClass").str() {
        "" => crate::qos::class(old.value()),
        class => class,
    };
    if class != crate::qos::class(new.value()) {
        let shown = new.value().str_at(&["status", "qosClass"]);
        spec.invalid_as(errors, shown, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.dig("status.containerStatuses").items();
    let running = running.iter().find(|status| status.get("state").has("running"));
    if running.is_some_and(|status| !status.has("resources")) {
        spec.forbidden(errors, "Pod running on node without support for resize");
    }
    pod_resize(&spec.get("resources"), &before.get("resources"), errors);
    if !same_order(&spec, &before, errors) {
        return;
    }
    let mut munged = spec.value().clone();
    container_resizes(&spec, &before, &mut munged, errors);
    if errors.is_empty() {
        if let (Some(own), Some(old)) = (object(&mut munged, "resources"), before.value().get("resources")) {
            keep_compute(own, old);
        }
        if !same(&munged, before.value()) {
            spec.forbidden(errors, "only cpu and memory resources are mutable");
        }
    }
}

fn removed(new: &At<'_>, old: &At<'_>, list: &str) -> bool {
    old.get(list).entries().iter().any(|(name, _)| !new.get(list).has(name))
}

fn pod_resize(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if !old.exists() {
        return;
    }
    if !new.exists() {
        return new.forbidden(errors, "pod-level resources cannot be removed");
    }
    for list in ["requests", "limits"].into_iter().filter(|list| removed(new, old, list)) {
        new.get(list).forbidden(errors, format!("pod-level resource {list} cannot be removed"));
    }
}

fn same_order(new: &At<'_>, old: &At<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, then) = (new.get(list), old.get(list));
        if now.len() != then.len() {
            now.forbidden(errors, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (now, then) in now.items().iter().zip(&then.items()) {
            if now.text("name") != then.text("name") {
                now.get("name").forbidden(errors, format!("{list} may not be renamed or reordered on resize"));
            }
        }
    }
    errors.len() == before
}

fn container_resizes(new: &At<'_>, old: &At<'_>, munged: &mut Value, errors: &mut Errors) {
    for list in ["initContainers", "containers"] {
        for (now, then) in new.get(list).items().iter().zip(&old.get(list).items()) {
            let (now, then) = (now.get("resources"), then.get("resources"));
            for kind in ["requests", "limits"].into_iter().filter(|kind| removed(&now, &then, kind)) {
                now.get(kind).forbidden(errors, format!("resource {kind} cannot be removed"));
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let then = old.get(list).items();
        for ((index, container), then) in each(munged, list).enumerate().zip(&then) {
            let changed = !same(container, then.value());
            if let (Some(own), Some(before)) = (object(container, "resources"), then.value().get("resources")) {
                keep_compute(own, before);
            }
            if !same(container, then.value()) {
                match list {
                    "containers" => new.forbidden(errors, "only cpu and memory resources are mutable"),
                    _ => new
                        .get(list)
                        .index(index)
                        .forbidden(errors, "only cpu and memory resources for init or sidecar containers are mutable"),
                }
            }
            let restarts = |policy: &At<'_>| policy.text("restartPolicy") == "RestartContainer";
            if list == "initContainers"
                && changed
                && !is_sidecar(then)
                && then.get("resizePolicy").items().iter().any(restarts)
            {
                let text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                new.get(list).index(index).forbidden(errors, text);
            }
        }
    }
}

/// Puts back what was there of cpu and memory.
fn keep_compute(own: &mut Value, before: &Value) {
    for list in ["requests", "limits"] {
        let then = before.get(list).cloned().unwrap_or_default();
        let Some(now) = crate::edit::make(own, list) else { continue };
        for name in ["cpu", "memory"] {
            copy(now, &then, name);
        }
    }
}
