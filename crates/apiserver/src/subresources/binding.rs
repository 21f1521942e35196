//! Binding of a pod to its node. Source: `pkg/registry/core/pod/storage/storage.go`, `BindingREST`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Gvr, Status, Value};
use coracle_api_rules::subresource::validate_binding;
use http::StatusCode;
use serde_json::json;

use super::set_condition;
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply, reply};
use crate::registry::options::WriteOptions;
use crate::registry::{Target, objects, update};
use crate::time;

/// POST of `pods/<name>/binding`.
pub(super) async fn pod(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = WriteOptions::read(ctx)?;
    let gvk = Gvk::new("", "v1", "Binding");
    let binding = objects::decode(ctx, content_type(&ctx.headers), &body, &gvk, None, options.validation)?;
    bind(ctx, target, &binding, &options).await
}

/// POST of the resource `bindings`.
pub(crate) async fn collection(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = WriteOptions::read(ctx)?;
    let binding =
        objects::decode(ctx, content_type(&ctx.headers), &body, &target.resource.gvk(), None, options.validation)?;
    let pods = ctx.server.resources().find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let pod = Target { resource: pods, namespace: target.namespace.clone(), name: binding.name().to_owned() };
    bind(ctx, &pod, &binding, &options).await
}

async fn bind(ctx: &Ctx, target: &Target, binding: &Value, options: &WriteOptions) -> Result<Reply, Status> {
    let gvk = Gvk::new("", "v1", "Binding");
    if !binding.name().is_empty() && binding.name() != target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let errors = validate_binding(binding);
    if !errors.is_empty() {
        return Err(Status::invalid(&gvk, binding.name(), &errors));
    }
    let node = binding.str_at(&["target", "name"]).to_owned();
    let conflict = |why: String| Status::conflict(&Gvr::new("", "v1", "pods/binding"), &target.name, &why);
    let mut change = |current: &Value| {
        if !binding.uid().is_empty() && binding.uid() != current.uid() {
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                binding.uid(),
                current.uid()
            )));
        }
        if !current.meta_str("deletionTimestamp").is_empty() {
            return Err(conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name)));
        }
        let bound = current.str_at(&["spec", "nodeName"]);
        if !bound.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node {bound:?}", target.name)));
        }
        if current.at(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
            return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", target.name)));
        }
        let mut next = current.clone();
        next["spec"]["nodeName"] = node.as_str().into();
        for (map, empty) in [(binding.annotations(), "annotations"), (binding.labels(), "labels")] {
            for (key, value) in map.into_iter().flatten() {
                next["metadata"][empty][key] = value.clone();
            }
        }
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null});
        set_condition(&mut next, scheduled, &time::now_text());
        Ok(next)
    };
    update::apply(ctx, target, "binding", options, &mut change).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::bytes(StatusCode::CREATED, "application/json", status.to_string()))
}
