//! Kinds that are asked and never stored: token and access reviews, bindings, component statuses.

use std::sync::Arc;

use coracle_api_access::{Attributes, PolicyRule};
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, UserInfo, Value};
use coracle_api_rules::subresource::validate_access_review;
use coracle_client::Body;
use http::{Request, StatusCode};
use serde_json::json;

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
        "tokenreviews" => token(ctx, &mut review)?,
        "selfsubjectreviews" => {
            review.set_meta("creationTimestamp", crate::time::now_text());
            review["status"] = json!({"userInfo": ctx.user});
        }
        "selfsubjectrulesreviews" => rules(ctx, &mut review)?,
        "selfsubjectaccessreviews" => {
            check(target, &review, true)?;
            access(ctx, &mut review, &ctx.user.clone());
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
            access(ctx, &mut review, &user);
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

fn access(ctx: &Ctx, review: &mut Value, user: &UserInfo) {
    let empty = Value::Null;
    let resource = review.at(&["spec", "resourceAttributes"]).filter(|value| value.is_object());
    let other = review.at(&["spec", "nonResourceAttributes"]).unwrap_or(&empty);
    let attributes = match resource {
        Some(asked) => Attributes {
            subresource: asked.str_at(&["subresource"]),
            namespace: asked.str_at(&["namespace"]),
            name: asked.str_at(&["name"]),
            ..Attributes::resource(user, asked.str_at(&["verb"]), asked.str_at(&["group"]), asked.str_at(&["resource"]))
        },
        None => Attributes {
            path: Some(other.str_at(&["path"])),
            ..Attributes::resource(user, other.str_at(&["verb"]), "", "")
        },
    };
    let allowed = ctx.server.authorizer.allows(&*ctx.server.store, &attributes);
    let mut status = json!({"allowed": allowed.is_some()});
    if let Some(reason) = allowed.filter(|reason| !reason.is_empty()) {
        status["reason"] = reason.into();
    }
    review["status"] = status;
}

fn token(ctx: &Ctx, review: &mut Value) -> Result<(), Status> {
    let token = review.str_at(&["spec", "token"]).to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let config = &ctx.server.config;
    let asked = texts(review.at(&["spec", "audiences"]));
    let audiences: Vec<&str> =
        if asked.is_empty() { vec![config.issuer.as_str()] } else { asked.iter().map(String::as_str).collect() };
    review["status"] = match ctx.server.authenticator.token(config, &*ctx.server.store, &token, &audiences) {
        Ok(identity) => {
            let audiences: Vec<String> =
                identity.audiences.into_iter().filter(|audience| audiences.contains(&audience.as_str())).collect();
            json!({"authenticated": true, "user": identity.user, "audiences": audiences})
        }
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
    review["status"] =
        json!({"resourceRules": values(resource), "nonResourceRules": values(other), "incomplete": false});
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
