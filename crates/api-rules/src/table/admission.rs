//! Admission configuration, flow control and API services.

use coracle_api_meta::{LabelSelector, ObjectExt, Value};
use jiff::Timestamp;

use super::Column;
use super::duration::age;
use super::rows::{AGE, NAME, Table, condition, count, int, integer, text, text_or};

const WEBHOOKS: &[Column] = &[NAME, integer("Webhooks"), AGE];
const BINDING: &[Column] = &[NAME, text("PolicyName"), text("ParamRef"), AGE];

pub(crate) fn table(kind: &str) -> Option<Table> {
    Some(match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => (WEBHOOKS, webhooks),
        "ValidatingAdmissionPolicy" => {
            (const { &[NAME, integer("Validations"), text("ParamKind"), AGE] }, validating_policy)
        }
        "MutatingAdmissionPolicy" => (const { &[NAME, integer("Mutations"), text("ParamKind"), AGE] }, mutating_policy),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => (BINDING, binding),
        "FlowSchema" => (
            const {
                &[
                    NAME,
                    text("PriorityLevel"),
                    text("MatchingPrecedence"),
                    text("DistinguisherMethod"),
                    AGE,
                    text("MissingPL"),
                ]
            },
            flow_schema,
        ),
        "PriorityLevelConfiguration" => (
            const {
                &[
                    NAME,
                    text("Type"),
                    text("NominalConcurrencyShares"),
                    text("Queues"),
                    text("HandSize"),
                    text("QueueLengthLimit"),
                    AGE,
                ]
            },
            priority_level,
        ),
        "APIService" => (const { &[NAME, text("Service"), text("Available"), AGE] }, api_service),
        _ => return None,
    })
}

fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), count(object, &["webhooks"]).into(), age(object, now).into()]
}

fn policy(object: &Value, list: &str, now: Timestamp) -> Vec<Value> {
    let param = object.at(&["spec", "paramKind"]).filter(|param| param.is_object());
    let param = param.map(|param| format!("{}/{}", param.str_at(&["apiVersion"]), param.str_at(&["kind"])));
    vec![
        object.name().into(),
        count(object, &["spec", list]).into(),
        param.unwrap_or_else(|| "<unset>".to_owned()).into(),
        age(object, now).into(),
    ]
}

fn validating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "validations", now)
}

fn mutating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "mutations", now)
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let param = object.at(&["spec", "paramRef"]).unwrap_or(&Value::Null);
    let (name, namespace) = (param.str_at(&["name"]), text_or(param, &["namespace"], "*"));
    let selector = param.get("selector").filter(|selector| selector.is_object());
    let shown = match selector {
        _ if !name.is_empty() => format!("{namespace}/{name}"),
        Some(selector) => LabelSelector::from_value(selector).map(|found| found.to_string()).unwrap_or_default(),
        None => "<unset>".to_owned(),
    };
    vec![object.name().into(), object.str_at(&["spec", "policyName"]).into(), shown.into(), age(object, now).into()]
}

fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.str_at(&["spec", "priorityLevelConfiguration", "name"]).into(),
        int(object, &["spec", "matchingPrecedence"]).into(),
        text_or(object, &["spec", "distinguisherMethod", "type"], "<none>").into(),
        age(object, now).into(),
        condition(object, "Dangling").map_or("?", |found| found.str_at(&["status"])).into(),
    ]
}

fn priority_level(object: &Value, now: Timestamp) -> Vec<Value> {
    let limited = |path: &[&str]| -> Value {
        let found = object.at(&["spec", "limited"]).and_then(|limited| limited.at(path));
        found.filter(|value| !value.is_null()).cloned().unwrap_or_else(|| "<none>".into())
    };
    vec![
        object.name().into(),
        object.str_at(&["spec", "type"]).into(),
        limited(&["nominalConcurrencyShares"]),
        limited(&["limitResponse", "queuing", "queues"]),
        limited(&["limitResponse", "queuing", "handSize"]),
        limited(&["limitResponse", "queuing", "queueLengthLimit"]),
        age(object, now).into(),
    ]
}

fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = object.at(&["spec", "service"]).filter(|service| service.is_object());
    let service = service.map(|service| format!("{}/{}", service.str_at(&["namespace"]), service.str_at(&["name"])));
    let available = condition(object, "Available").map_or_else(
        || "Unknown".to_owned(),
        |found| match found.str_at(&["status"]) {
            "True" => "True".to_owned(),
            status => format!("{status} ({})", found.str_at(&["reason"])),
        },
    );
    vec![
        object.name().into(),
        service.unwrap_or_else(|| "Local".to_owned()).into(),
        available.into(),
        age(object, now).into(),
    ]
}
