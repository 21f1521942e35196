//! Priority and fairness.

use std::collections::BTreeSet;

use coracle_api_meta::{Value, names};
use serde_json::json;

use crate::at::{At, Errors};
use crate::same::same;

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
const HASH_BITS_MAX: u32 = 60;
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub fn flow_schema(schema: &At<'_>, errors: &mut Errors) {
    let (spec, name) = (schema.get("spec"), schema.get("metadata").text("name"));
    let precedence = spec.get("matchingPrecedence");
    if precedence.int() <= 0 {
        precedence.invalid_as(errors, precedence.int(), "must be a positive value");
    }
    if precedence.int() > PRECEDENCE_MAX {
        precedence.invalid(errors, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence.int() == 1 && name != "exempt" {
        precedence.invalid(errors, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if method.exists() {
        let kinds = ["ByNamespace", "ByUser"];
        if !kinds.contains(&method.text("type")) {
            let at = method.get("type").with(method.value());
            at.unsupported(errors, &kinds);
        }
    }
    let level = spec.dig("priorityLevelConfiguration.name");
    if level.is_empty() {
        level.required(errors, "must reference a priority level");
    } else {
        level.invalid_all(errors, names::is_dns1123_subdomain(level.str()));
    }
    spec.get("rules").items().iter().for_each(|one| rule(one, errors));
    if mandatory_schema(name).is_some_and(|fixed| !same(&fixed, spec.value())) {
        spec.invalid(errors, format!("spec of '{name}' must equal the fixed value"));
    }
    conditions(schema, errors);
}

fn mandatory_schema(name: &str) -> Option<Value> {
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let (precedence, method, subjects) = match name {
        "exempt" => (1, Value::Null, vec![group("system:masters")]),
        "catch-all" => (
            PRECEDENCE_MAX,
            json!({"type": "ByUser"}),
            vec![group("system:unauthenticated"), group("system:authenticated")],
        ),
        _ => return None,
    };
    Some(json!({
        "matchingPrecedence": precedence,
        "distinguisherMethod": method,
        "priorityLevelConfiguration": {"name": name},
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    }))
}

fn conditions(object: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in object.dig("status.conditions").items() {
        let kind = condition.get("type");
        if !seen.insert(kind.str()) {
            kind.duplicate(errors);
        }
        if kind.is_empty() {
            kind.required(errors, "");
        }
    }
}

fn rule(rule: &At<'_>, errors: &mut Errors) {
    let subjects = rule.get("subjects");
    if subjects.is_empty() {
        subjects.required(errors, "subjects must contain at least one value");
    }
    subjects.items().iter().for_each(|one| subject(one, errors));
    let (resources, urls) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        rule.required(errors, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    resources.items().iter().for_each(|one| resource_rule(one, errors));
    urls.items().iter().for_each(|one| url_rule(one, errors));
}

fn subject(subject: &At<'_>, errors: &mut Errors) {
    let known = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.get("kind");
    let Some((kind, field)) = known.into_iter().find(|(known, _)| *known == kind.str()) else {
        return kind.unsupported(errors, &["Group", "ServiceAccount", "User"]);
    };
    let who = subject.get(field);
    if !who.exists() {
        who.required(errors, format!("{field} is required when subject kind is '{kind}'"));
    } else {
        let (name, namespace) = (who.get("name"), who.get("namespace"));
        let account = kind == "ServiceAccount";
        if name.is_empty() {
            name.required(errors, "");
        } else if account && name.str() != "*" {
            name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
        }
        if account && namespace.is_empty() {
            namespace.required(errors, "must specify namespace for service account");
        } else if account {
            namespace.invalid_all(errors, names::is_dns1123_label(namespace.str()));
        }
    }
    let others: &[(&str, &str)] = match kind {
        "ServiceAccount" => &[("User", "user"), ("Group", "group")],
        "User" => &[("ServiceAccount", "serviceAccount"), ("Group", "group")],
        _ => &[("ServiceAccount", "serviceAccount"), ("User", "user")],
    };
    for (other, field) in others {
        let part = subject.get(field);
        if part.exists() {
            part.forbidden(errors, format!("{field} is forbidden when subject kind is not '{other}'"));
        }
    }
}

/// Reports an empty list, and `*` beside others. Whether the list names things one by one.
fn named(list: &At<'_>, empty: &str, other: &str, errors: &mut Errors) -> bool {
    let values = list.strings();
    if values.is_empty() {
        list.required(errors, empty);
        return false;
    }
    if !values.contains(&"*") {
        return true;
    }
    if values.len() > 1 {
        list.invalid(errors, format!("if '*' is present, must not specify other {other}"));
    }
    false
}

fn verbs(rule: &At<'_>, errors: &mut Errors) {
    let verbs = rule.get("verbs");
    let named = named(&verbs, "verbs must contain at least one value", "verbs", errors);
    if named && verbs.strings().iter().any(|verb| !VERBS.contains(verb)) {
        verbs.unsupported(errors, VERBS);
    }
}

fn url_rule(rule: &At<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let urls = rule.get("nonResourceURLs");
    if named(&urls, "nonResourceURLs must contain at least one value", "non-resource URLs", errors) {
        for url in urls.items() {
            if let Some(detail) = url_path(url.str()) {
                url.invalid(errors, detail);
            }
        }
    }
}

fn url_path(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !path.ends_with("/*") => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn resource_rule(rule: &At<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    named(&rule.get("apiGroups"), "resource rules must supply at least one api group", "api groups", errors);
    named(&rule.get("resources"), "resource rules must supply at least one resource", "resources", errors);
    let namespaces = rule.get("namespaces");
    if namespaces.is_empty() && rule.flag("clusterScope") {
        return;
    }
    let empty = "resource rules that are not cluster scoped must supply at least one namespace";
    if named(&namespaces, empty, "namespaces", errors) {
        for namespace in namespaces.items() {
            for detail in names::is_dns1123_label(namespace.str()) {
                let intro = "each member of this list must be '*' or a DNS-1123 label; ";
                namespace.invalid(errors, format!("{intro}{detail}"));
            }
        }
    }
}

pub fn priority_level(level: &At<'_>, errors: &mut Errors) {
    let (spec, name) = (level.get("spec"), level.get("metadata").text("name"));
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (name == "exempt") != (kind.str() == "Exempt") {
        kind.invalid(errors, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.str() {
        "Exempt" => {
            if limited.exists() {
                limited.forbidden(errors, "must be nil if the type is not Limited");
            }
            shares(&exempt, errors);
            lendable(&exempt, errors);
        }
        "Limited" => {
            if exempt.exists() {
                exempt.forbidden(errors, "must be nil if the type is Limited");
            }
            if limited.exists() {
                self::limited(&limited, errors);
            } else {
                limited.required(errors, "must not be empty when type is Limited");
            }
        }
        _ => kind.unsupported(errors, &["Exempt", "Limited"]),
    }
    mandatory_level(&spec, name, errors);
    conditions(level, errors);
}

fn mandatory_level(spec: &At<'_>, name: &str, errors: &mut Errors) {
    match name {
        "exempt" if spec.text("type") != "Exempt" || spec.has("limited") => {
            spec.invalid(errors, "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value");
        }
        "catch-all" => {
            let fixed = json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }});
            if !same(&fixed, spec.value()) {
                spec.invalid(errors, "spec of 'catch-all' must equal the fixed value");
            }
        }
        _ => {}
    }
}

fn shares(part: &At<'_>, errors: &mut Errors) {
    let shares = part.get("nominalConcurrencyShares");
    if shares.int() < 0 {
        shares.invalid(errors, "must be a non-negative integer");
    }
}

fn lendable(part: &At<'_>, errors: &mut Errors) {
    let percent = part.get("lendablePercent");
    if !(0..=100).contains(&percent.int()) {
        percent.invalid(errors, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &At<'_>, errors: &mut Errors) {
    shares(limited, errors);
    let response = limited.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.str() {
        "Reject" if queuing.exists() => {
            queuing.forbidden(errors, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if !queuing.exists() => {
            queuing.required(errors, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => self::queuing(&queuing, errors),
        _ => kind.unsupported(errors, &["Queue", "Reject"]),
    }
    lendable(limited, errors);
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.int() < 0 {
        borrowing.invalid(errors, "if specified, must be a non-negative integer");
    }
}

fn queuing(queuing: &At<'_>, errors: &mut Errors) {
    let positive = "must be positive";
    let (length, queues) = (queuing.get("queueLengthLimit"), queuing.get("queues"));
    if length.int() <= 0 {
        length.invalid_as(errors, length.int(), positive);
    }
    if queues.int() <= 0 {
        queues.invalid_as(errors, queues.int(), positive);
    } else if queues.int() > QUEUES_MAX {
        queues.invalid(errors, format!("must not be greater than {QUEUES_MAX}"));
    }
    let hand = queuing.get("handSize");
    let (queues, size) = (queues.int(), hand.int());
    if size <= 0 {
        hand.invalid_as(errors, size, positive);
    } else if size > queues {
        hand.invalid(errors, format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, size) > HASH_BITS_MAX {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {size} should not be greater than {HASH_BITS_MAX}"
        );
        hand.invalid(errors, detail);
    }
}

/// Bits of hash that deal `hand` cards of `deck`.
fn entropy_bits(deck: i64, hand: i64) -> u32 {
    let (deck, hand) = (i32::try_from(deck).unwrap_or(i32::MAX), i32::try_from(hand).unwrap_or(i32::MAX));
    let bits = (f64::from(deck).log2() * f64::from(hand)).ceil();
    // Far fewer than 2^32 bits: at most 24 × 10^7.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^32")]
    let bits = bits as u32;
    bits
}
