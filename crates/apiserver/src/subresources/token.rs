//! Tokens of service accounts. Source: `pkg/registry/core/serviceaccount/storage/token.go`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Gvr, Status, Value};
use coracle_api_rules::subresource::{default_token_request, validate_token_request};
use coracle_pki::{KubernetesClaims, ObjectRef, TokenRef};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::json;

use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply, reply};
use crate::registry::admit::{Attempt, Operation};
use crate::registry::options::WriteOptions;
use crate::registry::resources::item_name;
use crate::registry::{Target, admit, objects, storage};
use crate::time;

/// Kubelets ask for 3607 s and get a year, with a warning after what they asked for. Source: `WarnOnlyBoundTokenExpirationPeriod`.
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

pub(super) async fn handle(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = WriteOptions::read(ctx)?;
    let gvk = Gvk::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = objects::decode(ctx, content_type(&ctx.headers), &body, &gvk, None, options.validation)?;
    default_token_request(&mut request);
    let errors = validate_token_request(&request);
    if !errors.is_empty() {
        return Err(Status::invalid(&gvk, "", &errors));
    }
    let item = item_name(&target.namespace, &target.name);
    let entry = storage::load(&ctx.server, &target.resource, &item).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&target.resource.gvr(), &target.name))?;
    let account = storage::object(&target.resource, &entry)?;
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Create,
        subresource: "token",
        name: &target.name,
        old: None,
        dry_run: options.dry_run,
    };
    admit::mutate(&attempt, &mut request).await?;
    admit::validate(&attempt, &request).await?;
    let claims = claims(ctx, target, &account, &request)?;
    let config = &ctx.server.config;
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let list = request.at(&["spec", "audiences"]).and_then(Value::as_array).into_iter().flatten();
    let mut audiences: Vec<String> = list.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(config.issuer.clone());
        request["spec"]["audiences"] = json!(audiences);
    }
    let asked = request.at(&["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(3600);
    let extend = asked == WARN_ONLY_SECONDS && claims.pod.is_some() && audiences.contains(&config.issuer);
    let now = time::now();
    let warnafter = extend.then(|| now.as_second() + asked);
    let token = TokenRef {
        issuer: &config.issuer,
        audiences,
        claims: KubernetesClaims { warnafter, ..claims },
        jti: time::uid(),
        now,
        valid_for_seconds: if extend { EXTENDED_SECONDS } else { asked },
    };
    let signed = config.token_key.sign(&token).map_err(Status::internal)?;
    let expires = now.checked_add(SignedDuration::from_secs(asked)).map_err(Status::internal)?;
    request["status"] = json!({"token": signed, "expirationTimestamp": time::rfc3339(expires)});
    request.set_meta("name", target.name.as_str());
    request.set_meta("namespace", target.namespace.as_str());
    request.set_meta("creationTimestamp", time::rfc3339(now));
    reply::encoded(StatusCode::CREATED, &ctx.accept()?, request.to_string().into())
}

/// What the token speaks for, checked to be there.
fn claims(ctx: &Ctx, target: &Target, account: &Value, request: &Value) -> Result<KubernetesClaims, Status> {
    let mut claims = KubernetesClaims {
        namespace: target.namespace.clone(),
        serviceaccount: ObjectRef { name: target.name.clone(), uid: account.uid().to_owned() },
        ..KubernetesClaims::default()
    };
    let Some(bound) = request.at(&["spec", "boundObjectRef"]).filter(|bound| bound.is_object()) else {
        return Ok(claims);
    };
    let (kind, name) = (bound.str_at(&["kind"]), bound.str_at(&["name"]));
    let plural = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount to object of type {}, Kind={kind}",
                bound.str_at(&["apiVersion"])
            )));
        }
    };
    let gvr = Gvr::new("", "v1", plural);
    let namespace = if plural == "nodes" { "" } else { &target.namespace };
    let resource = ctx.server.resources().find("", "v1", plural).ok_or_else(Status::no_such_path)?;
    let found = ctx.server.store.local_get(&storage::key(&resource, &item_name(namespace, name)));
    let found = found.ok_or_else(|| Status::not_found(&gvr, name))?;
    let object = storage::object(&resource, &found)?;
    let uid = bound.str_at(&["uid"]);
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&gvr, name, &why));
    }
    let reference = ObjectRef { name: name.to_owned(), uid: object.uid().to_owned() };
    match kind {
        "Pod" => {
            if object.str_at(&["spec", "serviceAccountName"]) != target.name {
                let own = object.str_at(&["spec", "serviceAccountName"]);
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    target.name
                )))
                .inspect_err(|_| tracing::debug!(own, "token for another account's pod"));
            }
            claims.pod = Some(reference);
            claims.node = node_of(ctx, object.str_at(&["spec", "nodeName"]));
        }
        "Secret" => claims.secret = Some(reference),
        _ => claims.node = Some(reference),
    }
    Ok(claims)
}

fn node_of(ctx: &Ctx, name: &str) -> Option<ObjectRef> {
    if name.is_empty() {
        return None;
    }
    let entry = ctx.server.store.local_get(&coracle_store::Key::new("nodes", name));
    let uid = entry.and_then(|entry| storage::parse(&entry.value).ok()).map(|node| node.uid().to_owned());
    Some(ObjectRef { name: name.to_owned(), uid: uid.unwrap_or_default() })
}
