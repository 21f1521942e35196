//! May they: the group `system:masters`, then the authorizers of the configuration, one after the other.
//! Source: `k8s.io/apiserver/pkg/authorization/union`, `pkg/endpoints/filters/authorization.go`.

mod nodes;
mod webhook;

use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api_access::{Attributes, Rbac, RbacObjects, Requirement, Selectors, node};
use coracle_api_meta::{FieldSelector, LabelSelector, Status, Value, selector};
use coracle_store::Store;

use super::Ctx;
use super::query::Query;
use super::request_info::RequestInfo;
use crate::access::{Authorization, Mode};
use crate::config::StartError;
use crate::derived::Derived;
use nodes::Graph;
use webhook::Webhook;

pub(crate) struct Authorizer {
    rbac: Derived<Rbac>,
    graph: Graph,
    chain: ArcSwap<Vec<Link>>,
}

/// One authorizer of the chain.
enum Link {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Arc<Webhook>),
}

/// What authorizers say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow(String),
    Deny(String),
    /// With what was said on the way, and what went wrong.
    NoOpinion {
        reason: String,
        error: Option<String>,
    },
}

impl Verdict {
    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
const ROLES: &str = "rbac.authorization.k8s.io/roles";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

pub(crate) fn objects(store: &dyn Store, collection: &str) -> Vec<Value> {
    store.local_range(collection, "").iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect()
}

fn links(configuration: &Authorization) -> Result<Vec<Link>, String> {
    let link = |mode: &Mode| {
        Ok(match mode {
            Mode::AlwaysAllow => Link::AlwaysAllow,
            Mode::AlwaysDeny => Link::AlwaysDeny,
            Mode::Node => Link::Node,
            Mode::Rbac => Link::Rbac,
            Mode::Webhook(mode) => Link::Webhook(Arc::new(Webhook::new(mode)?)),
        })
    };
    configuration.modes.iter().map(link).collect()
}

impl Authorizer {
    pub(crate) fn new(configuration: &Authorization) -> Result<Self, StartError> {
        let rbac = Derived::new(&[CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS], |store| {
            Rbac::new(&RbacObjects {
                cluster_roles: objects(store, CLUSTER_ROLES),
                cluster_role_bindings: objects(store, CLUSTER_ROLE_BINDINGS),
                roles: objects(store, ROLES),
                role_bindings: objects(store, ROLE_BINDINGS),
            })
        });
        let chain = ArcSwap::from_pointee(links(configuration).map_err(StartError::Access)?);
        Ok(Self { rbac, graph: Graph::default(), chain })
    }

    /// Takes another configuration for the requests from now on.
    pub(crate) fn configure(&self, configuration: &Authorization) -> Result<(), String> {
        self.chain.store(Arc::new(links(configuration)?));
        Ok(())
    }

    pub(crate) fn rbac(&self, store: &dyn Store) -> Arc<Rbac> {
        self.rbac.get(store)
    }

    /// What the chain says. The first that has an opinion decides.
    pub(crate) async fn decide(&self, store: &dyn Store, attributes: &Attributes<'_>) -> Verdict {
        let mut chain = Chain::default();
        if let Some(verdict) = chain.privileged(attributes) {
            return verdict;
        }
        let links = self.chain.load_full();
        for link in links.iter() {
            let verdict = match link {
                Link::Webhook(webhook) => webhook.decide(attributes).await,
                local => self.local(local, store, attributes),
            };
            if let Some(verdict) = chain.hear(verdict) {
                return verdict;
            }
        }
        chain.end()
    }

    /// As [`Authorizer::decide`], where the caller cannot wait: a webhook is then asked by a thread of its own.
    pub(crate) fn decide_now(&self, store: &dyn Store, attributes: &Attributes<'_>) -> Verdict {
        let mut chain = Chain::default();
        if let Some(verdict) = chain.privileged(attributes) {
            return verdict;
        }
        let links = self.chain.load_full();
        for link in links.iter() {
            let verdict = match link {
                Link::Webhook(webhook) => webhook.decide_now(attributes),
                local => self.local(local, store, attributes),
            };
            if let Some(verdict) = chain.hear(verdict) {
                return verdict;
            }
        }
        chain.end()
    }

    /// Why it is allowed, or `None`.
    pub(crate) fn allows(&self, store: &dyn Store, attributes: &Attributes<'_>) -> Option<String> {
        match self.decide_now(store, attributes) {
            Verdict::Allow(reason) => Some(reason),
            _ => None,
        }
    }

    fn local(&self, link: &Link, store: &dyn Store, attributes: &Attributes<'_>) -> Verdict {
        let quiet = |reason: String| Verdict::NoOpinion { reason, error: None };
        match link {
            Link::AlwaysAllow => Verdict::Allow(String::new()),
            Link::AlwaysDeny => quiet("Everything is forbidden.".to_owned()),
            Link::Node => match node::node_name(attributes.user) {
                Some(name) => match node::decide(name, attributes, &self.graph.of(store)) {
                    Ok(()) => Verdict::Allow(String::new()),
                    Err(why) => quiet(why),
                },
                None => quiet(String::new()),
            },
            Link::Rbac => self.rbac(store).decide(attributes).map_or_else(quiet, Verdict::Allow),
            Link::Webhook(_) => quiet(String::new()),
        }
    }

    /// Whether rules that somebody has can be told in full: not where others than RBAC decide.
    pub(crate) fn untold(&self, attributes: &Attributes<'_>) -> Vec<String> {
        let told = |link: &Link| match link {
            Link::Node if node::node_name(attributes.user).is_some() => {
                Some("node authorizer does not support user rule resolution".to_owned())
            }
            Link::Webhook(_) => Some("webhook authorizer does not support user rule resolution".to_owned()),
            _ => None,
        };
        self.chain.load().iter().filter_map(told).collect()
    }
}

/// What was said so far.
#[derive(Default)]
struct Chain {
    reasons: Vec<String>,
    errors: Vec<String>,
}

impl Chain {
    fn privileged(&self, attributes: &Attributes<'_>) -> Option<Verdict> {
        attributes.user.in_group("system:masters").then(|| Verdict::Allow(String::new()))
    }

    fn hear(&mut self, verdict: Verdict) -> Option<Verdict> {
        match verdict {
            Verdict::NoOpinion { reason, error } => {
                self.reasons.extend(Some(reason).filter(|reason| !reason.is_empty()));
                self.errors.extend(error);
                None
            }
            decided => Some(decided),
        }
    }

    fn end(self) -> Verdict {
        let error = match self.errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            all => Some(format!("[{}]", all.join(", "))),
        };
        Verdict::NoOpinion { reason: self.reasons.join("\n"), error }
    }
}

/// The selectors of a request that has some. Those that cannot be read are left to the handler.
pub(crate) fn selectors(info: &RequestInfo, query: &Query) -> Option<Selectors> {
    if !info.is_resource || !matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
        return None;
    }
    let (field, label) = (query.get("fieldSelector"), query.get("labelSelector"));
    if field.is_empty() && label.is_empty() {
        return None;
    }
    Some(Selectors {
        field: FieldSelector::parse(field).map(|selector| field_terms(&selector)).unwrap_or_default(),
        label: LabelSelector::parse(label).map(|selector| label_terms(&selector)).unwrap_or_default(),
    })
}

pub(crate) fn field_terms(selector: &FieldSelector) -> Vec<Requirement> {
    let term = |term: &selector::FieldTerm| Requirement {
        key: term.field.clone(),
        operator: if term.equal { "In" } else { "NotIn" },
        values: vec![term.value.clone()],
    };
    selector.terms.iter().map(term).collect()
}

pub(crate) fn label_terms(selector: &LabelSelector) -> Vec<Requirement> {
    use selector::Requirement as Label;
    let term = |term: &Label| {
        let (operator, values) = match term {
            Label::Equals(_, value) => ("In", vec![value.clone()]),
            Label::NotEquals(_, value) => ("NotIn", vec![value.clone()]),
            Label::In(_, values) => ("In", values.iter().cloned().collect()),
            Label::NotIn(_, values) => ("NotIn", values.iter().cloned().collect()),
            Label::Exists(_) => ("Exists", Vec::new()),
            Label::NotExists(_) => ("DoesNotExist", Vec::new()),
            // Authorizers know no order of values.
            Label::GreaterThan(..) | Label::LessThan(..) => return None,
        };
        Some(Requirement { key: term.key().to_owned(), operator, values })
    };
    selector.requirements.iter().filter_map(term).collect()
}

/// What a request asks, as authorizers see it.
pub(crate) fn attributes(ctx: &Ctx) -> Attributes<'_> {
    attributes_of(&ctx.info, &ctx.user, ctx.selectors.as_ref())
}

pub(crate) fn attributes_of<'a>(
    info: &'a RequestInfo,
    user: &'a coracle_api_meta::UserInfo,
    selectors: Option<&'a Selectors>,
) -> Attributes<'a> {
    if !info.is_resource {
        return Attributes { path: Some(&info.path), ..Attributes::resource(user, &info.verb, "", "") };
    }
    Attributes {
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        version: &info.version,
        selectors,
        ..Attributes::resource(user, &info.verb, &info.group, &info.resource)
    }
}

pub(crate) fn forbidden(attributes: &Attributes<'_>) -> Status {
    forbidden_for(attributes, "")
}

/// The refusal, with the reason of the authorizer that gave one. Source: `responsewriters.ForbiddenStatusError`.
fn forbidden_for(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = attributes.refusal();
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if attributes.path.is_some() {
        let mut status = Status::failure(403, coracle_api_meta::reason::FORBIDDEN, format!("forbidden: {why}"));
        status.details = Some(Default::default());
        return status;
    }
    let gvr = coracle_api_meta::Gvr::new(attributes.group, "", attributes.resource);
    Status::forbidden(&gvr, attributes.name, &why)
}

/// Lets a request pass, or says why not.
pub(crate) async fn check(ctx: &Ctx) -> Result<(), Status> {
    let attributes = attributes(ctx);
    let verdict = ctx.server.authorizer.decide(&*ctx.server.store, &attributes).await;
    let note = |decision: &str, reason: &str| {
        ctx.annotate("authorization.k8s.io/decision", decision);
        ctx.annotate("authorization.k8s.io/reason", reason);
    };
    match verdict {
        Verdict::Allow(reason) => {
            note("allow", &reason);
            Ok(())
        }
        Verdict::NoOpinion { error: Some(error), .. } => {
            ctx.annotate("authorization.k8s.io/reason", "internal error");
            Err(Status::failure(500, "InternalError", format!("Internal Server Error: {:?}: {error}", ctx.info.path)))
        }
        Verdict::Deny(reason) | Verdict::NoOpinion { reason, error: None } => {
            note("forbid", &reason);
            Err(forbidden_for(&attributes, &reason))
        }
    }
}
