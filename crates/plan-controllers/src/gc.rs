//! Garbage collection by owner. Source: `pkg/controller/garbagecollector`.
//!
//! [`Graph`] keeps who owns whom by uid, over all resources. Changes of objects say which objects are to be looked at
//! again ([`Work`]); what to do about one is decided from its latest state and that of its owners.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api_meta::{Gvr, ObjectKey};
use coracle_plan_core::{Action, Plan, PlannedPatch, Propagation, Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// What counts of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub gvr: Gvr,
    pub key: ObjectKey,
    pub uid: String,
    pub resource_version: String,
    pub deleting: bool,
    pub finalizers: Vec<String>,
    pub owners: Vec<OwnerReference>,
}

impl Item {
    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|own| own == name)
    }

    /// Waits until its dependents are gone.
    #[must_use]
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    fn waits_for_orphaning(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    fn target(&self) -> Target {
        Target::new(self.gvr.clone(), self.key.clone())
    }

    fn owner(&self, uid: &str) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.uid == uid)
    }
}

/// An object to look at, by uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Does it still have a reason to be? Does anything still hold it?
    Examine(String),
    /// Its dependents are to lose their reference to it.
    Orphan(String),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Examine(uid) => write!(f, "examine {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    Solid,
    Absent,
    /// It is being deleted in the foreground.
    Waiting,
}

/// Who owns whom.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    items: BTreeMap<String, Item>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Uids of all objects of a resource.
    #[must_use]
    pub fn of_resource(&self, gvr: &Gvr) -> Vec<String> {
        self.items.values().filter(|item| item.gvr == *gvr).map(|item| item.uid.clone()).collect()
    }

    /// Objects of a resource in a namespace.
    #[must_use]
    pub fn count(&self, gvr: &Gvr, namespace: &str) -> usize {
        self.items.values().filter(|item| item.gvr == *gvr && item.key.namespace == namespace).count()
    }

    fn dependents(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    /// An object came or changed.
    pub fn set(&mut self, item: Item) -> Vec<Work> {
        let mut work = Vec::new();
        let uid = item.uid.clone();
        let before = self.items.get(&uid).cloned();
        for owner in before.iter().flat_map(|before| &before.owners) {
            let now = item.owner(&owner.uid);
            if now.is_none()
                && let Some(dependents) = self.dependents.get_mut(&owner.uid)
            {
                dependents.remove(&uid);
            }
            let unblocked = owner.block_owner_deletion == Some(true)
                && now.is_none_or(|now| now.block_owner_deletion != Some(true));
            if unblocked && self.items.get(&owner.uid).is_some_and(Item::waits_for_dependents) {
                work.push(Work::Examine(owner.uid.clone()));
            }
        }
        let mut doubtful = false;
        for owner in &item.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            let known = before.as_ref().is_some_and(|before| before.owner(&owner.uid).is_some());
            let going = self.items.get(&owner.uid).is_none_or(Item::waits_for_dependents);
            doubtful |= !known && going;
        }
        let waits = item.waits_for_dependents();
        let began_waiting = waits && before.as_ref().is_none_or(|before| !before.waits_for_dependents());
        let orphaning =
            item.waits_for_orphaning() && before.as_ref().is_none_or(|before| !before.waits_for_orphaning());
        self.items.insert(uid.clone(), item);
        if orphaning {
            work.push(Work::Orphan(uid.clone()));
        }
        if began_waiting {
            work.extend(self.dependents(&uid).map(|dependent| Work::Examine(dependent.uid.clone())));
        }
        if began_waiting || doubtful {
            work.push(Work::Examine(uid));
        }
        work
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(item) = self.items.remove(uid) else { return Vec::new() };
        let mut work: Vec<Work> = self.dependents(uid).map(|dependent| Work::Examine(dependent.uid.clone())).collect();
        for owner in &item.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self.items.get(&owner.uid).is_some_and(Item::waits_for_dependents) {
                work.push(Work::Examine(owner.uid.clone()));
            }
        }
        work
    }

    /// Every object that may have lost its owners or waits for something, for the beginning.
    #[must_use]
    pub fn all_work(&self) -> Vec<Work> {
        let mut work = Vec::new();
        for item in self.items.values() {
            if item.waits_for_orphaning() {
                work.push(Work::Orphan(item.uid.clone()));
            }
            let owners_go =
                item.owners.iter().any(|owner| self.items.get(&owner.uid).is_none_or(Item::waits_for_dependents));
            if item.waits_for_dependents() || owners_go {
                work.push(Work::Examine(item.uid.clone()));
            }
        }
        work
    }

    /// State of an owner as far as the graph knows it.
    #[must_use]
    pub fn owner_state(&self, uid: &str) -> Option<OwnerState> {
        let item = self.items.get(uid)?;
        Some(if item.waits_for_dependents() { OwnerState::Waiting } else { OwnerState::Solid })
    }

    /// What to do about an object, given its latest state and that of its owners. The second answer is work on others.
    #[must_use]
    pub fn examine(&self, latest: &Item, owners: impl Fn(&OwnerReference) -> OwnerState) -> (Plan, Vec<Work>) {
        if latest.deleting && !latest.waits_for_dependents() {
            return (Plan::nothing(), Vec::new());
        }
        if latest.waits_for_dependents() {
            return self.examine_waiting(latest);
        }
        if latest.owners.is_empty() {
            return (Plan::nothing(), Vec::new());
        }
        let states: Vec<(&OwnerReference, OwnerState)> =
            latest.owners.iter().map(|owner| (owner, owners(owner))).collect();
        let solid = states.iter().any(|(_, state)| *state == OwnerState::Solid);
        let waiting = states.iter().any(|(_, state)| *state == OwnerState::Waiting);
        let mut plan = Plan::nothing();
        if solid {
            if states.iter().any(|(_, state)| *state != OwnerState::Solid) {
                let kept =
                    states.iter().filter(|(_, state)| *state == OwnerState::Solid).map(|(own, _)| (*own).clone());
                plan.because("drop references", "some owners are gone or going, others are not");
                plan.push(set_owners(latest, kept.collect()));
            }
            return (plan, Vec::new());
        }
        if waiting && self.dependents(&latest.uid).next().is_some() {
            // A circle of objects that wait for each other is broken by no longer blocking.
            if self.dependents(&latest.uid).any(Item::waits_for_dependents) {
                let unblocked = latest.owners.iter().cloned().map(|mut owner| {
                    owner.block_owner_deletion = owner.block_owner_deletion.map(|_| false);
                    owner
                });
                plan.push(set_owners(latest, unblocked.collect()));
            }
            plan.because("delete in the foreground", "its owner waits for it, and it has dependents of its own");
            plan.push(delete(latest, Propagation::Foreground));
            return (plan, Vec::new());
        }
        let policy = if latest.has_finalizer(ORPHAN) {
            Propagation::Orphan
        } else if latest.has_finalizer(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        plan.because("delete", "no owner is left");
        plan.push(delete(latest, policy));
        (plan, Vec::new())
    }

    fn examine_waiting(&self, latest: &Item) -> (Plan, Vec<Work>) {
        let blocks = |dependent: &&Item| {
            dependent.owner(&latest.uid).is_some_and(|owner| owner.block_owner_deletion == Some(true))
        };
        let blocking: Vec<&Item> = self.dependents(&latest.uid).filter(blocks).collect();
        if blocking.is_empty() {
            let mut plan = Plan::nothing();
            plan.because("let it go", "nothing that blocks its deletion is left");
            plan.push(drop_finalizer(latest, FOREGROUND));
            return (plan, Vec::new());
        }
        let work = blocking.into_iter().filter(|item| !item.waits_for_dependents());
        (Plan::nothing(), work.map(|item| Work::Examine(item.uid.clone())).collect())
    }

    /// Takes the references to the object from its dependents, then lets it go.
    #[must_use]
    pub fn orphan(&self, latest: &Item) -> Plan {
        let mut plan = Plan::nothing();
        if !latest.waits_for_orphaning() {
            return plan;
        }
        for dependent in self.dependents(&latest.uid) {
            let kept = dependent.owners.iter().filter(|owner| owner.uid != latest.uid).cloned().collect();
            plan.push(set_owners(dependent, kept));
        }
        plan.push(drop_finalizer(latest, ORPHAN));
        plan
    }
}

fn delete(item: &Item, policy: Propagation) -> Action {
    Action::Delete {
        target: item.target(),
        uid: item.uid.clone(),
        grace_seconds: None,
        propagation: Some(policy),
        report: None,
    }
}

/// Guarded by the version, as the list is replaced.
fn set_owners(item: &Item, owners: Vec<OwnerReference>) -> Action {
    let owners = if owners.is_empty() { serde_json::Value::Null } else { json!(owners) };
    let patch = json!({"metadata": {
        "uid": item.uid,
        "resourceVersion": item.resource_version,
        "ownerReferences": owners,
    }});
    Action::Patch { target: item.target(), subresource: "", patch: PlannedPatch::Merge(patch) }
}

fn drop_finalizer(item: &Item, name: &str) -> Action {
    let kept: Vec<&String> = item.finalizers.iter().filter(|own| *own != name).collect();
    let patch = json!({"metadata": {"resourceVersion": item.resource_version, "finalizers": kept}});
    Action::Patch { target: item.target(), subresource: "", patch: PlannedPatch::Merge(patch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uid: &str, owners: &[&str], finalizers: &[&str]) -> Item {
        let owner = |uid: &&str| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: (*uid).to_owned(),
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(true),
            controller: Some(true),
        };
        Item {
            gvr: Gvr::new("", "v1", "configmaps"),
            key: ObjectKey::new("ns", uid),
            uid: uid.to_owned(),
            resource_version: "1".to_owned(),
            deleting: !finalizers.is_empty(),
            finalizers: finalizers.iter().map(|&name| name.to_owned()).collect(),
            owners: owners.iter().map(owner).collect(),
        }
    }

    fn examine(graph: &Graph, uid: &str) -> String {
        let item = graph.get(uid).expect("item").clone();
        let (plan, work) = graph.examine(&item, |owner| graph.owner_state(&owner.uid).unwrap_or(OwnerState::Absent));
        let work: Vec<String> = work.iter().map(ToString::to_string).collect();
        format!("{plan}{}", work.join("\n"))
    }

    #[test]
    fn dependents_follow_their_owner() {
        let mut graph = Graph::default();
        assert!(graph.set(item("a", &[], &[])).is_empty());
        assert!(graph.set(item("b", &["a"], &[])).is_empty());
        assert_eq!(graph.remove("a"), [Work::Examine("b".to_owned())]);
        expect_test::expect![[r"
            delete configmaps ns/b Background
            because delete: no owner is left
        "]]
        .assert_eq(&examine(&graph, "b"));
    }

    #[test]
    fn foreground_waits_for_those_that_block() {
        let mut graph = Graph::default();
        graph.set(item("a", &[], &[]));
        graph.set(item("b", &["a"], &[]));
        let work = graph.set(item("a", &[], &[FOREGROUND]));
        assert_eq!(work, [Work::Examine("b".to_owned()), Work::Examine("a".to_owned())]);
        expect_test::expect!["examine b"].assert_eq(&examine(&graph, "a"));
        expect_test::expect![[r"
            delete configmaps ns/b Background
            because delete: no owner is left
        "]]
        .assert_eq(&examine(&graph, "b"));
        assert_eq!(graph.remove("b"), [Work::Examine("a".to_owned())]);
        expect_test::expect![[r#"
            patch configmaps ns/a  {"metadata":{"resourceVersion":"1","finalizers":[]}}
            because let it go: nothing that blocks its deletion is left
        "#]]
        .assert_eq(&examine(&graph, "a"));
    }

    #[test]
    fn an_object_with_another_owner_stays() {
        let mut graph = Graph::default();
        graph.set(item("a", &[], &[FOREGROUND]));
        graph.set(item("b", &[], &[]));
        graph.set(item("c", &["a", "b"], &[]));
        let text = examine(&graph, "c");
        assert!(text.contains(r#""uid":"b""#) && !text.contains(r#""uid":"a""#), "{text}");
        assert!(!text.contains("delete configmaps"), "{text}");
    }

    #[test]
    fn a_circle_is_broken() {
        let mut graph = Graph::default();
        graph.set(item("a", &["c"], &[]));
        graph.set(item("b", &["a"], &[]));
        graph.set(item("c", &["b"], &[]));
        graph.set(item("a", &["c"], &[FOREGROUND]));
        graph.set(item("b", &["a"], &[FOREGROUND]));
        let text = examine(&graph, "c");
        assert!(text.contains(r#""blockOwnerDeletion":false"#) && text.contains("Foreground"), "{text}");
    }

    #[test]
    fn orphans_lose_their_reference() {
        let mut graph = Graph::default();
        graph.set(item("a", &[], &[]));
        graph.set(item("b", &["a"], &[]));
        assert_eq!(graph.set(item("a", &[], &[ORPHAN])), [Work::Orphan("a".to_owned())]);
        expect_test::expect![[r#"
            patch configmaps ns/b  {"metadata":{"uid":"b","resourceVersion":"1","ownerReferences":null}}
            patch configmaps ns/a  {"metadata":{"resourceVersion":"1","finalizers":[]}}
        "#]]
        .assert_eq(&graph.orphan(graph.get("a").expect("a")).to_string());
    }
}
