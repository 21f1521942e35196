//! ResourceQuota: what a write would use of its namespace's quotas.
//!
//! [`check`] answers with the quotas as they have to be stored for the write to count. Whoever asks holds a lock for the
//! namespace or stores the answer by compare-and-swap, and asks again when it lost.
//! Source: `k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go`.

mod scopes;
#[cfg(test)]
mod tests;
mod usage;

pub use scopes::matches_scopes;
pub use usage::{Evaluator, evaluator};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Map, Status, Value};

use super::{Amounts, Operation, Request, list};

/// Kinds that no quota counts. Source: `pkg/quota/v1/install`.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("", "events"),
    ("events.k8s.io", "events"),
];

/// Whether a write may use quota at all: worth looking for quotas.
#[must_use]
pub fn counts(request: &Request<'_>, object: &Value) -> bool {
    let gvr = request.gvr;
    let ignored = IGNORED.contains(&(gvr.group.as_str(), gvr.resource.as_str()));
    !ignored && !request.namespace.is_empty() && evaluator(&gvr.group, &gvr.resource).handles(request, object)
}

/// A quota that the write falls under.
struct Interesting<'a> {
    quota: &'a Value,
    hard: Amounts,
    used: Amounts,
}

/// The quotas of the namespace that change, as they become; refused when one is exceeded.
pub fn check(request: &Request<'_>, object: &Value, quotas: &[Value]) -> Result<Vec<Value>, Status> {
    if !counts(request, object) {
        return Ok(Vec::new());
    }
    let evaluator = evaluator(&request.gvr.group, &request.gvr.resource);
    let mut interesting = Vec::new();
    for quota in quotas {
        if let Some(found) = interest(request, object, quota, &evaluator)? {
            interesting.push(found);
        }
    }
    let usage = evaluator.usage(object);
    if usage.iter().any(|(_, amount)| amount.is_negative()) {
        let mut negative = usage;
        negative.retain(|_, amount| amount.is_negative());
        let names: Vec<&str> = negative.names().collect();
        return Err(request.forbidden(&format!("quota usage is negative for resource(s): {}", names.join(","))));
    }
    let mut changed = Vec::new();
    for found in &interesting {
        let mut delta = match request.old.filter(|_| request.operation == Operation::Update) {
            Some(old) if matches(found.quota, old, &evaluator) => usage.minus(&evaluator.usage(old)),
            _ => usage.clone(),
        };
        delta.retain(|name, amount| !amount.is_zero() && found.hard.contains(name));
        if !delta.is_empty() {
            changed.push(charge(request, found, &delta)?);
        }
    }
    Ok(changed)
}

fn matches(quota: &Value, object: &Value, evaluator: &Evaluator) -> bool {
    let hard = Amounts::at(quota, &["status", "hard"]);
    hard.names().any(|name| evaluator.counts(name)) && matches_scopes(quota, object, evaluator)
}

fn interest<'a>(
    request: &Request<'_>,
    object: &Value,
    quota: &'a Value,
    evaluator: &Evaluator,
) -> Result<Option<Interesting<'a>>, Status> {
    if !matches(quota, object, evaluator) {
        return Ok(None);
    }
    let hard = Amounts::at(quota, &["status", "hard"]);
    let used = Amounts::at(quota, &["status", "used"]);
    let restricted: Vec<&str> = hard.names().filter(|name| evaluator.counts(name)).collect();
    if let Some(why) = evaluator.constraints(&restricted, object) {
        return Err(request.forbidden(&format!("failed quota: {}: {why}", quota.name())));
    }
    if restricted.iter().any(|name| !used.contains(name)) {
        let why = format!("status unknown for quota: {}, resources: {}", quota.name(), restricted.join(","));
        return Err(request.forbidden(&why));
    }
    Ok(Some(Interesting { quota, hard, used }))
}

/// The quota with `delta` used.
fn charge(request: &Request<'_>, found: &Interesting<'_>, delta: &Amounts) -> Result<Value, Status> {
    let mut used = found.used.clone();
    used.add(delta);
    let exceeds = |name: &str| {
        delta.contains(name) && found.hard.get(name).zip(used.get(name)).is_some_and(|(most, used)| used > most)
    };
    let exceeded = found.hard.only(exceeds);
    if !exceeded.is_empty() && request.subresource != "status" {
        let why = format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            found.quota.name(),
            delta.only(exceeds).shown(),
            found.used.only(exceeds).shown(),
            exceeded.shown()
        );
        return Err(request.forbidden(&why));
    }
    let mut quota = found.quota.clone();
    if let Some(status) = super::fields(&mut quota, "status") {
        status.insert("used".to_owned(), used.to_value());
    }
    Ok(quota)
}

/// The `status` that a quota has when these objects are all that there is: what the quota controller writes.
/// Each object comes with its group and resource.
#[must_use]
pub fn status<'a>(quota: &Value, objects: impl IntoIterator<Item = (&'a str, &'a str, &'a Value)>) -> Value {
    let hard = Amounts::at(quota, &["spec", "hard"]);
    let zero = hard.names().map(|name| (name.to_owned(), coracle_api_meta::Quantity::ZERO));
    let mut used: Amounts = zero.collect();
    for (group, resource, object) in objects {
        let evaluator = evaluator(group, resource);
        if matches_scopes(quota, object, &evaluator) {
            used.add(&evaluator.usage(object).only(|name| hard.contains(name)));
        }
    }
    let mut status = Map::new();
    status.insert("hard".to_owned(), hard.to_value());
    status.insert("used".to_owned(), used.to_value());
    Value::Object(status)
}

/// Groups and resources whose objects a quota counts, of all that there are.
pub fn counted<'a>(quota: &Value, resources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let hard = Amounts::at(quota, &["spec", "hard"]);
    let wanted = |(group, resource): &(&str, &str)| {
        let evaluator = evaluator(group, resource);
        !IGNORED.contains(&(*group, *resource)) && hard.names().any(|name| evaluator.counts(name))
    };
    resources.into_iter().filter(wanted).collect()
}

fn selectors(quota: &Value) -> Vec<(&str, &str, Vec<&str>)> {
    let plain = list(quota, &["spec", "scopes"]).filter_map(Value::as_str).map(|scope| (scope, "Exists", Vec::new()));
    let written = list(quota, &["spec", "scopeSelector", "matchExpressions"]).map(|selector| {
        let values = list(selector, &["values"]).filter_map(Value::as_str).collect();
        (selector.str_at(&["scopeName"]), selector.str_at(&["operator"]), values)
    });
    plain.chain(written).collect()
}
