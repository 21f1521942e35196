//! A small cluster for the tests of plugins.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvr, Status, UserInfo, Value};
use serde_json::json;

use super::{Lookup, Notes, Operation, Request, mutate, validate};
use crate::Attributes;

/// Objects by their resource.
#[derive(Default)]
pub(super) struct Cluster(pub(super) Vec<(&'static str, Value)>);

impl Cluster {
    /// With the namespace `n`, its default account, and these objects.
    pub(super) fn with(objects: &[(&'static str, Value)]) -> Self {
        let mut all = vec![
            ("namespaces", json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}})),
            ("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "n"}})),
        ];
        all.extend_from_slice(objects);
        Self(all)
    }
}

impl Lookup for Cluster {
    fn find(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        // The last of a name stands for all: tests may replace what is there by default.
        let all = self.0.iter().rev().filter(|(own, _)| *own == resource).map(|(_, object)| object);
        all.into_iter().find(|object| object.namespace() == namespace && object.name() == name).cloned().map(Arc::new)
    }

    fn all(&self, _: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let all = self.0.iter().filter(|(own, object)| *own == resource && object.namespace() == namespace);
        all.map(|(_, object)| Arc::new(object.clone())).collect()
    }

    fn allows(&self, _: &Attributes<'_>) -> bool {
        true
    }

    fn suffix(&self) -> String {
        "abcde".to_owned()
    }
}

/// A write that passes both rounds.
pub(super) struct Write {
    pub(super) user: UserInfo,
    pub(super) operation: Operation,
    pub(super) gvr: Gvr,
    pub(super) subresource: &'static str,
    pub(super) namespace: &'static str,
    pub(super) old: Option<Value>,
}

impl Write {
    pub(super) fn create(group: &str, resource: &str) -> Self {
        let global = matches!(resource, "nodes" | "namespaces" | "persistentvolumes" | "priorityclasses");
        Self {
            user: UserInfo::authenticated("ann", &[]),
            operation: Operation::Create,
            gvr: Gvr::new(group, "v1", resource),
            subresource: "",
            namespace: if global { "" } else { "n" },
            old: None,
        }
    }

    pub(super) fn update(group: &str, resource: &str, old: Value) -> Self {
        Self { operation: Operation::Update, old: Some(old), ..Self::create(group, resource) }
    }

    pub(super) fn by_node(mut self, node: &str) -> Self {
        self.user = UserInfo::authenticated(&format!("system:node:{node}"), &["system:nodes"]);
        self
    }

    pub(super) fn on(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    pub(super) fn request<'a>(&'a self, object: &'a Value) -> Request<'a> {
        let object = if object.is_null() { self.old.as_ref().unwrap_or(object) } else { object };
        Request {
            user: &self.user,
            operation: self.operation,
            gvr: &self.gvr,
            kind: "",
            subresource: self.subresource,
            namespace: self.namespace,
            name: object.name(),
            old: self.old.as_ref(),
        }
    }

    /// The object as it would be stored, and what is said of it.
    pub(super) fn run(&self, cluster: &Cluster, object: &Value) -> Result<(Value, Notes), Status> {
        let request = self.request(object);
        let mut admitted = object.clone();
        if self.operation != Operation::Delete {
            mutate(&request, &mut admitted, cluster)?;
        }
        let notes = validate(&request, &admitted, cluster)?;
        Ok((admitted, notes))
    }

    /// Why it is refused.
    pub(super) fn refusal(&self, cluster: &Cluster, object: &Value) -> String {
        match self.run(cluster, object) {
            Ok(_) => "admitted".to_owned(),
            Err(status) => format!("{} {}", status.code, status.message),
        }
    }
}
