//! May they: the group `system:masters`, then what nodes may, then RBAC.

use std::sync::Arc;

use coracle_api_access::{Attributes, Rbac, RbacObjects, node};
use coracle_api_meta::{Status, Value};
use coracle_store::Store;

use super::Ctx;
use crate::derived::Derived;

pub(crate) struct Authorizer {
    rbac: Derived<Rbac>,
    /// `(pod namespace, resource, name)` by node, for what nodes may read.
    references: Derived<std::collections::HashMap<String, std::collections::HashSet<(String, String, String)>>>,
}

const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
const ROLES: &str = "rbac.authorization.k8s.io/roles";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

pub(crate) fn objects(store: &dyn Store, collection: &str) -> Vec<Value> {
    store.local_range(collection, "").iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect()
}

impl Authorizer {
    pub(crate) fn new() -> Self {
        let rbac = Derived::new(&[CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS], |store| {
            Rbac::new(&RbacObjects {
                cluster_roles: objects(store, CLUSTER_ROLES),
                cluster_role_bindings: objects(store, CLUSTER_ROLE_BINDINGS),
                roles: objects(store, ROLES),
                role_bindings: objects(store, ROLE_BINDINGS),
            })
        });
        Self { rbac, references: Derived::new(&["pods"], node_references) }
    }

    pub(crate) fn rbac(&self, store: &dyn Store) -> Arc<Rbac> {
        self.rbac.get(store)
    }

    /// Why it is allowed, or `None`.
    pub(crate) fn allows(&self, store: &dyn Store, attributes: &Attributes<'_>) -> Option<String> {
        if attributes.user.in_group("system:masters") {
            return Some(String::new());
        }
        if let Some(name) = node::node_name(attributes.user)
            && self.node_allows(store, attributes, name)
        {
            return Some("node".to_owned());
        }
        self.rbac(store).allows(attributes)
    }

    fn node_allows(&self, store: &dyn Store, attributes: &Attributes<'_>, name: &str) -> bool {
        if !node::needs_reference(attributes) {
            return node::allows_always(attributes);
        }
        let token = attributes.resource == "serviceaccounts" && attributes.subresource == "token";
        let read = matches!(attributes.verb, "get" | "list" | "watch") && attributes.subresource.is_empty();
        let status = attributes.resource == "persistentvolumeclaims" && attributes.subresource == "status";
        if !(read || (token && attributes.verb == "create") || status) || attributes.name.is_empty() {
            return false;
        }
        let wanted = (attributes.namespace.to_owned(), attributes.resource.to_owned(), attributes.name.to_owned());
        self.references.get(store).get(name).is_some_and(|known| known.contains(&wanted))
    }
}

fn node_references(
    store: &dyn Store,
) -> std::collections::HashMap<String, std::collections::HashSet<(String, String, String)>> {
    use coracle_api_meta::object::ObjectExt;
    let mut by_node = std::collections::HashMap::<String, std::collections::HashSet<_>>::new();
    for pod in objects(store, "pods") {
        let node_name = pod.str_at(&["spec", "nodeName"]);
        if node_name.is_empty() {
            continue;
        }
        let known = by_node.entry(node_name.to_owned()).or_default();
        for (resource, name) in node::references(&pod) {
            known.insert((pod.namespace().to_owned(), resource.to_owned(), name.to_owned()));
        }
    }
    by_node
}

/// What a request asks, as authorizers see it.
pub(crate) fn attributes(ctx: &Ctx) -> Attributes<'_> {
    let info = &ctx.info;
    if !info.is_resource {
        return Attributes { path: Some(&info.path), ..Attributes::resource(&ctx.user, &info.verb, "", "") };
    }
    Attributes {
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        ..Attributes::resource(&ctx.user, &info.verb, &info.group, &info.resource)
    }
}

pub(crate) fn forbidden(attributes: &Attributes<'_>) -> Status {
    let why = attributes.refusal();
    if let Some(path) = attributes.path {
        let mut status = Status::failure(403, coracle_api_meta::reason::FORBIDDEN, format!("forbidden: {why}"));
        let _ = path;
        status.details = Some(Default::default());
        return status;
    }
    let gvr = coracle_api_meta::Gvr::new(attributes.group, "", attributes.resource);
    Status::forbidden(&gvr, attributes.name, &why)
}

pub(crate) fn check(ctx: &Ctx) -> Result<(), Status> {
    let attributes = attributes(ctx);
    match ctx.server.authorizer.allows(&*ctx.server.store, &attributes) {
        Some(_) => Ok(()),
        None => Err(forbidden(&attributes)),
    }
}
