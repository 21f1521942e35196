//! The objects that configure priority and fairness, as requests are compared with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use serde_json::json;

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    User,
    Namespace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    Account(String, String),
}

/// A list where `*` stands for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn read(value: Option<&Value>) -> Self {
        let names: Vec<String> = texts(value);
        Self { all: names.iter().any(|name| name == "*"), names }
    }

    pub(crate) fn hold(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|own| own == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Holds `resource` or `resource/subresource`, without putting the two together.
    pub(crate) fn hold_resource(&self, resource: &str, subresource: &str) -> bool {
        if self.all || subresource.is_empty() {
            return self.hold(resource);
        }
        let is = |own: &str| own.strip_prefix(resource).and_then(|rest| rest.strip_prefix('/')) == Some(subresource);
        self.iter().any(is)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceRule {
    pub verbs: Names,
    pub groups: Names,
    pub resources: Names,
    pub namespaces: Names,
    pub cluster_scope: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathRule {
    pub verbs: Names,
    pub paths: Names,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub subjects: Vec<Subject>,
    pub resources: Vec<ResourceRule>,
    pub paths: Vec<PathRule>,
}

/// A FlowSchema whose priority level exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub name: Arc<str>,
    pub uid: String,
    pub level: Arc<str>,
    pub level_uid: String,
    pub precedence: i64,
    pub distinguisher: Distinguisher,
    pub(crate) rules: Vec<Rule>,
}

/// What happens to requests that find no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Every request finds one.
    Exempt,
    Reject,
    Queue {
        queues: u32,
        hand: u32,
        length_max: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelSpec {
    pub name: Arc<str>,
    pub uid: String,
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: as much as there is.
    pub borrowing_percent: Option<u32>,
    pub response: Response,
}

/// All objects together, mandatory ones included whether they exist or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// In the order they are tried.
    pub schemas: Vec<Arc<Schema>>,
    pub levels: BTreeMap<Arc<str>, LevelSpec>,
}

pub(crate) const CATCH_ALL: &str = "catch-all";
const EXEMPT: &str = "exempt";
/// Cards that are dealt to a flow: more cannot be told apart by a hash of 64 bits.
const HAND_MAX: u32 = 32;

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn number(value: Option<&Value>) -> Option<u32> {
    value.and_then(Value::as_i64).map(|number| u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn subject(value: &Value) -> Option<Subject> {
    match value.str_at(&["kind"]) {
        "User" => Some(Subject::User(value.str_at(&["user", "name"]).to_owned())),
        "Group" => Some(Subject::Group(value.str_at(&["group", "name"]).to_owned())),
        "ServiceAccount" => Some(Subject::Account(
            value.str_at(&["serviceAccount", "namespace"]).to_owned(),
            value.str_at(&["serviceAccount", "name"]).to_owned(),
        )),
        _ => None,
    }
}

fn rule(value: &Value) -> Rule {
    let resources = list(value.get("resourceRules")).map(|rule| ResourceRule {
        verbs: Names::read(rule.get("verbs")),
        groups: Names::read(rule.get("apiGroups")),
        resources: Names::read(rule.get("resources")),
        namespaces: Names::read(rule.get("namespaces")),
        cluster_scope: rule.get("clusterScope").and_then(Value::as_bool).unwrap_or(false),
    });
    let paths = list(value.get("nonResourceRules")).map(|rule| PathRule {
        verbs: Names::read(rule.get("verbs")),
        paths: Names::read(rule.get("nonResourceURLs")),
    });
    Rule {
        subjects: list(value.get("subjects")).filter_map(subject).collect(),
        resources: resources.collect(),
        paths: paths.collect(),
    }
}

fn schema(object: &Value, levels: &BTreeMap<Arc<str>, LevelSpec>) -> Option<Schema> {
    let level = levels.get(object.str_at(&["spec", "priorityLevelConfiguration", "name"]))?;
    let distinguisher = match object.str_at(&["spec", "distinguisherMethod", "type"]) {
        "ByUser" => Distinguisher::User,
        "ByNamespace" => Distinguisher::Namespace,
        _ => Distinguisher::None,
    };
    Some(Schema {
        name: object.name().into(),
        uid: object.uid().to_owned(),
        level: Arc::clone(&level.name),
        level_uid: level.uid.clone(),
        precedence: object.at(&["spec", "matchingPrecedence"]).and_then(Value::as_i64).unwrap_or(1000),
        distinguisher,
        rules: list(object.at(&["spec", "rules"])).map(rule).collect(),
    })
}

fn level(object: &Value) -> Option<LevelSpec> {
    let exempt = object.str_at(&["spec", "type"]) == "Exempt";
    if exempt != (object.name() == EXEMPT) {
        return None;
    }
    let own = object.at(&["spec", if exempt { "exempt" } else { "limited" }]).unwrap_or(&Value::Null);
    let queuing = own.at(&["limitResponse", "queuing"]);
    let response = match (exempt, queuing) {
        (true, _) => Response::Exempt,
        (false, Some(queuing)) => {
            let queues = number(queuing.get("queues")).unwrap_or(64).max(1);
            Response::Queue {
                queues,
                hand: number(queuing.get("handSize")).unwrap_or(8).clamp(1, queues.min(HAND_MAX)),
                length_max: number(queuing.get("queueLengthLimit")).unwrap_or(50).max(1),
            }
        }
        (false, None) => Response::Reject,
    };
    Some(LevelSpec {
        name: object.name().into(),
        uid: object.uid().to_owned(),
        shares: number(own.get("nominalConcurrencyShares")).unwrap_or(if exempt { 0 } else { 30 }),
        lendable_percent: number(own.get("lendablePercent")).unwrap_or(0).min(100),
        borrowing_percent: number(own.get("borrowingLimitPercent")),
        response,
    })
}

/// A level that must be there, for when its object is not.
fn mandatory(name: &str, shares: u32, response: Response) -> LevelSpec {
    LevelSpec { name: name.into(), uid: String::new(), shares, lendable_percent: 0, borrowing_percent: None, response }
}

fn everybody(name: &str, precedence: i64, groups: &[&str], level: &LevelSpec) -> Schema {
    let star = || Names { all: true, names: Vec::new() };
    Schema {
        name: name.into(),
        uid: String::new(),
        level: Arc::clone(&level.name),
        level_uid: level.uid.clone(),
        precedence,
        distinguisher: if name == EXEMPT { Distinguisher::None } else { Distinguisher::User },
        rules: vec![Rule {
            subjects: groups.iter().map(|group| Subject::Group((*group).to_owned())).collect(),
            resources: vec![ResourceRule {
                verbs: star(),
                groups: star(),
                resources: star(),
                namespaces: star(),
                cluster_scope: true,
            }],
            paths: vec![PathRule { verbs: star(), paths: star() }],
        }],
    }
}

impl Config {
    /// From all FlowSchema and all PriorityLevelConfiguration objects. Schemas of levels that do not exist are left out.
    #[must_use]
    pub fn read(schemas: &[Value], levels: &[Value]) -> Self {
        let levels = levels.iter().filter_map(level).map(|level| (Arc::clone(&level.name), level));
        let mut levels: BTreeMap<Arc<str>, LevelSpec> = levels.collect();
        levels.entry(EXEMPT.into()).or_insert_with(|| mandatory(EXEMPT, 0, Response::Exempt));
        levels.entry(CATCH_ALL.into()).or_insert_with(|| mandatory(CATCH_ALL, 5, Response::Reject));
        let mut schemas: Vec<Schema> = schemas.iter().filter_map(|object| schema(object, &levels)).collect();
        let missing = |schemas: &[Schema], name: &str| !schemas.iter().any(|schema| &*schema.name == name);
        if missing(&schemas, EXEMPT) {
            schemas.push(everybody(EXEMPT, 1, &["system:masters"], &levels[EXEMPT]));
        }
        if missing(&schemas, CATCH_ALL) {
            let all = ["system:unauthenticated", "system:authenticated"];
            schemas.push(everybody(CATCH_ALL, 10_000, &all, &levels[CATCH_ALL]));
        }
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Self { schemas: schemas.into_iter().map(Arc::new).collect(), levels }
    }
}

/// The `Dangling` condition that a FlowSchema should show, when it shows another. `time` is RFC 3339.
#[must_use]
pub fn condition(schema: &Value, level_exists: bool, time: &str) -> Option<Value> {
    let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]);
    let start = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if level_exists {
        ("False", "Found", format!("{start} and it exists"))
    } else {
        ("True", "NotFound", format!("{start} but there is no such object"))
    };
    let mut shown = list(schema.at(&["status", "conditions"]));
    let is_shown = shown.any(|own| {
        own.str_at(&["type"]) == "Dangling"
            && own.str_at(&["status"]) == status
            && own.str_at(&["reason"]) == reason
            && own.str_at(&["message"]) == message
    });
    (!is_shown).then(|| {
        json!({"type": "Dangling", "status": status, "lastTransitionTime": time, "reason": reason, "message": message})
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn mandatory_objects_are_imagined() {
        let config = Config::read(&[], &[]);
        let names: Vec<_> =
            config.schemas.iter().map(|schema| format!("{} {}", schema.precedence, schema.name)).collect();
        assert_eq!(names, ["1 exempt", "10000 catch-all"]);
        assert_eq!(config.levels["catch-all"].response, Response::Reject);
    }

    #[test]
    fn schemas_without_a_level_are_left_out_and_told_so() {
        let lost = json!({"metadata": {"name": "lost"}, "spec": {"priorityLevelConfiguration": {"name": "gone"}}});
        assert_eq!(Config::read(std::slice::from_ref(&lost), &[]).schemas.len(), 2);
        let wanted = condition(&lost, false, "2026-01-01T00:00:00Z").expect("a condition");
        expect![[r#"{"type":"Dangling","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z","reason":"NotFound","message":"This FlowSchema references the PriorityLevelConfiguration object named \"gone\" but there is no such object"}"#]]
            .assert_eq(&wanted.to_string());
        let told = json!({"spec": lost["spec"], "status": {"conditions": [wanted]}});
        assert_eq!(condition(&told, false, "2027-01-01T00:00:00Z"), None);
        assert!(condition(&told, true, "2027-01-01T00:00:00Z").is_some());
    }
}
