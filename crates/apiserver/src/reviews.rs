//! Kinds that are asked and never stored: token and access reviews, bindings, component statuses.

use std::sync::Arc;

use coracle_api_access::{Attributes, PolicyRule, Requirement, Selectors};
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldSelector, LabelSelector, Status, UserInfo, Value};
use coracle_api_rules::subresource::validate_access_review;
use coracle_client::Body;
use http::{Request, StatusCode};
use serde_json::json;

use crate::http::authz::{self, Verdict};
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply, body, reply};
use crate::registry::options::WriteOptions;
use crate::registry::{Target, objects};
use crate::subresources;

pub(crate) async fn handle(ctx: &Arc<Ctx>, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    let plural = target.resource.plural.as_str();
    if plural == "componentstatuses" {
        return component_statuses(ctx, target);
    }
    let accept = ctx.accept_without_table()?;
    let body = body::read_whole(request.into_body()).await?;
    if plural == "bindings" {
        return subresources::bind(ctx, target, body).await;
    }
    let options = WriteOptions::read(ctx)?;
    let mut review =
        objects::decode(ctx, content_type(&ctx.headers), &body, &target.resource.gvk(), None, options.validation)?;
    match plural {
        "tokenreviews" => token(ctx, &mut review).await?,
        "selfsubjectreviews" => {
            review.set_meta("creationTimestamp", crate::time::now_text());
            review["status"] = json!({"userInfo": ctx.user});
        }
        "selfsubjectrulesreviews" => rules(ctx, &mut review)?,
        "selfsubjectaccessreviews" => {
            check(target, &review, true)?;
            access(ctx, &mut review, &ctx.user.clone()).await;
        }
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            check(target, &review, false)?;
            if plural == "localsubjectaccessreviews" {
                let namespace = review.str_at(&["spec", "resourceAttributes", "namespace"]);
                if namespace != target.namespace {
                    return Err(Status::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {}",
                        target.namespace
                    )));
                }
            }
            let user = subject(&review);
            access(ctx, &mut review, &user).await;
        }
        _ => return Err(Status::no_such_path()),
    }
    reply::encoded(StatusCode::CREATED, &accept, review.to_string().into())
}

fn check(target: &Target, review: &Value, own: bool) -> Result<(), Status> {
    let errors = validate_access_review(review, own);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&target.resource.gvk(), "", &errors)) }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(review: &Value) -> UserInfo {
    let extra = review.at(&["spec", "extra"]).and_then(Value::as_object);
    UserInfo {
        username: review.str_at(&["spec", "user"]).to_owned(),
        uid: review.str_at(&["spec", "uid"]).to_owned(),
        groups: texts(review.at(&["spec", "groups"])),
        extra: extra.into_iter().flatten().map(|(key, values)| (key.clone(), texts(Some(values)))).collect(),
    }
}

async fn access(ctx: &Ctx, review: &mut Value, user: &UserInfo) {
    let empty = Value::Null;
    let resource = review.at(&["spec", "resourceAttributes"]).filter(|value| value.is_object());
    let other = review.at(&["spec", "nonResourceAttributes"]).unwrap_or(&empty);
    let (selectors, mut error) = resource.map(asked_selectors).unwrap_or_default();
    let attributes = match resource {
        Some(asked) => Attributes {
            subresource: asked.str_at(&["subresource"]),
            namespace: asked.str_at(&["namespace"]),
            name: asked.str_at(&["name"]),
            version: asked.str_at(&["version"]),
            selectors: selectors.as_ref(),
            ..Attributes::resource(user, asked.str_at(&["verb"]), asked.str_at(&["group"]), asked.str_at(&["resource"]))
        },
        None => Attributes {
            path: Some(other.str_at(&["path"])),
            ..Attributes::resource(user, other.str_at(&["verb"]), "", "")
        },
    };
    let verdict = ctx.server.authorizer.decide(&*ctx.server.store, &attributes).await;
    let mut status = json!({"allowed": verdict.is_allowed()});
    let reason = match verdict {
        Verdict::Allow(reason) => reason,
        Verdict::Deny(reason) => {
            status["denied"] = true.into();
            reason
        }
        Verdict::NoOpinion { reason, error: failed } => {
            error.extend(failed);
            reason
        }
    };
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if !error.is_empty() {
        status["evaluationError"] = error.join(", ").into();
    }
    review["status"] = status;
}

/// The selectors that a review asks with, and what could not be read of them.
/// Source: `pkg/registry/authorization/util/helpers.go`.
fn asked_selectors(asked: &Value) -> (Option<Selectors>, Vec<String>) {
    let mut errors = Vec::new();
    let mut selectors = Selectors::default();
    let field = asked.get("fieldSelector").filter(|value| value.is_object());
    let label = asked.get("labelSelector").filter(|value| value.is_object());
    if let Some(field) = field {
        match FieldSelector::parse(field.str_at(&["rawSelector"])) {
            Ok(raw) => selectors.field = authz::field_terms(&raw),
            Err(error) => {
                errors.push(format!("failed to parse spec.resourceAttributes.fieldSelector.rawSelector: {error}"))
            }
        }
        selectors.field.extend(asked_terms(field, &["In", "NotIn"], &mut errors));
    }
    if let Some(label) = label {
        match LabelSelector::parse(label.str_at(&["rawSelector"])) {
            Ok(raw) => selectors.label = authz::label_terms(&raw),
            Err(error) => {
                errors.push(format!("failed to parse spec.resourceAttributes.labelSelector.rawSelector: {error}"))
            }
        }
        selectors.label.extend(asked_terms(label, &["In", "NotIn", "Exists", "DoesNotExist"], &mut errors));
    }
    ((field.is_some() || label.is_some()).then_some(selectors), errors)
}

fn asked_terms(selector: &Value, known: &[&'static str], errors: &mut Vec<String>) -> Vec<Requirement> {
    let mut terms = Vec::new();
    for term in selector.get("requirements").and_then(Value::as_array).into_iter().flatten() {
        let operator = term.str_at(&["operator"]);
        match known.iter().find(|own| **own == operator) {
            Some(operator) => terms.push(Requirement {
                key: term.str_at(&["key"]).to_owned(),
                operator,
                values: texts(term.get("values")),
            }),
            None => errors.push(format!("{operator:?} is not a valid selector operator")),
        }
    }
    terms
}

async fn token(ctx: &Ctx, review: &mut Value) -> Result<(), Status> {
    let token = review.str_at(&["spec", "token"]).to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let config = &ctx.server.config;
    let asked = texts(review.at(&["spec", "audiences"]));
    let audiences: Vec<&str> =
        if asked.is_empty() { config.audiences() } else { asked.iter().map(String::as_str).collect() };
    review["status"] = match ctx.server.authenticator.token(&ctx.server, &token, &audiences).await {
        Ok(identity) => json!({"authenticated": true, "user": identity.user, "audiences": identity.audiences}),
        Err(why) => json!({"user": {}, "error": why}),
    };
    Ok(())
}

fn rules(ctx: &Ctx, review: &mut Value) -> Result<(), Status> {
    let namespace = review.str_at(&["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut all = ctx.server.authorizer.rbac(&*ctx.server.store).rules_for(&ctx.user, &namespace);
    if ctx.user.in_group("system:masters") {
        let star = || vec!["*".to_owned()];
        all.push(PolicyRule { verbs: star(), api_groups: star(), resources: star(), ..PolicyRule::default() });
        all.push(PolicyRule { verbs: star(), non_resource_urls: star(), ..PolicyRule::default() });
    }
    let (other, resource): (Vec<PolicyRule>, Vec<PolicyRule>) =
        all.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let values = |rules: Vec<PolicyRule>| rules.iter().map(PolicyRule::to_value).collect::<Vec<_>>();
    // Rules are RBAC's; what other authorizers allow is not told.
    let asking = Attributes::resource(&ctx.user, "", "", "");
    let mut untold = ctx.server.authorizer.untold(&asking);
    let incomplete = !untold.is_empty();
    untold.extend(ctx.server.authorizer.rbac(&*ctx.server.store).missing_for(&ctx.user, &namespace));
    review["status"] =
        json!({"resourceRules": values(resource), "nonResourceRules": values(other), "incomplete": incomplete});
    if !untold.is_empty() {
        review["status"]["evaluationError"] = untold.join(", ").into();
    }
    Ok(())
}

fn component_statuses(ctx: &Ctx, target: &Target) -> Result<Reply, Status> {
    let status = |name: &str| {
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    };
    ctx.warn("v1 ComponentStatus is deprecated in v1.19+");
    let all: Vec<Value> = ["controller-manager", "scheduler", "etcd-0"].map(status).to_vec();
    let value = if target.name.is_empty() {
        json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {"resourceVersion": ""}, "items": all})
    } else {
        let found = all.into_iter().find(|own| own.name() == target.name);
        found.ok_or_else(|| Status::not_found(&target.resource.gvr(), &target.name))?
    };
    if target.name.is_empty() || ctx.accept()?.form == crate::http::negotiate::Form::Whole {
        return Ok(reply::json(&value));
    }
    crate::registry::forms::one(ctx, &target.resource, StatusCode::OK, value.to_string().into())
}
