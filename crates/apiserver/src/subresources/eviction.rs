//! Eviction: deletion of a pod that disruption budgets may refuse. Source: `pkg/registry/core/pod/storage/eviction.go`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, Gvk, LabelSelector, Status, StatusDetails, Value};
use http::StatusCode;
use serde_json::json;

use super::set_condition;
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply, reply};
use crate::registry::admit::{Attempt, Operation};
use crate::registry::options::{DeleteOptions, FieldValidation, WriteOptions};
use crate::registry::resources::item_name;
use crate::registry::{Target, admit, delete, objects, storage, update};
use crate::time;

/// Pods on their way out that a budget remembers.
const DISRUPTED_PODS_MAX: usize = 2000;

pub(super) async fn handle(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let gvk = Gvk::new("policy", "v1", "Eviction");
    let mut eviction = objects::decode(ctx, content_type(&ctx.headers), &body, &gvk, None, FieldValidation::Warn)?;
    if !eviction.name().is_empty() && eviction.name() != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = match eviction.get("deleteOptions") {
        Some(value) => DeleteOptions::from_value(value)?,
        None => DeleteOptions::default(),
    };
    options.dry_run |= ctx.dry_run()?;
    let item = item_name(&target.namespace, &target.name);
    let entry = storage::load(&ctx.server, &target.resource, &item).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&target.resource.gvr(), &target.name))?;
    let pod = storage::object(&target.resource, &entry)?;
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Create,
        subresource: "eviction",
        name: &target.name,
        old: None,
        dry_run: options.dry_run,
    };
    admit::mutate(&attempt, &mut eviction).await?;
    admit::validate(&attempt, &eviction).await?;
    if !ignores_budgets(&pod) {
        ask_budget(ctx, target, &pod, &options).await?;
    }
    if !options.dry_run {
        let marked = mark(ctx, target, &pod, &options).await?;
        options.resource_version = options.resource_version.map(|_| marked);
    }
    delete::delete_object(ctx, target, &options).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::bytes(StatusCode::CREATED, "application/json", status.to_string()))
}

/// Says in the pod's conditions why it ends, and gives back the version that this makes.
async fn mark(ctx: &Ctx, target: &Target, pod: &Value, options: &DeleteOptions) -> Result<String, Status> {
    delete::check_preconditions(target, options, pod)?;
    let uid = pod.uid().to_owned();
    let mut change = |current: &Value| {
        if current.uid() != uid {
            return Err(Status::not_found(&target.resource.gvr(), &target.name));
        }
        let mut next = current.clone();
        let why = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
        set_condition(&mut next, why, &time::now_text());
        Ok(next)
    };
    let bytes = update::apply(ctx, target, "status", &write_options(false), &mut change).await?;
    Ok(storage::parse(&bytes)?.resource_version().to_owned())
}

fn write_options(dry_run: bool) -> WriteOptions {
    WriteOptions { dry_run, validation: FieldValidation::Ignore, field_manager: "coracle".to_owned(), force: false }
}

/// Pods that serve nobody.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || !pod.meta_str("deletionTimestamp").is_empty()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|own| own.str_at(&["type"]) == "Ready" && own.str_at(&["status"]) == "True")
}

async fn ask_budget(ctx: &Ctx, target: &Target, pod: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let resource =
        ctx.server.resources().find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let prefix = format!("{}/", target.namespace);
    let budgets = ctx.server.store.local_range(&resource.collection, &prefix);
    let budgets = budgets.iter().filter_map(|entry| storage::object(&resource, entry).ok());
    let covers = |budget: &Value| {
        let selector = budget.at(&["spec", "selector"]).cloned().unwrap_or_default();
        LabelSelector::from_value(&selector).is_ok_and(|selector| selector.matches(pod.labels()))
    };
    let matching: Vec<Value> = budgets.filter(covers).collect();
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let healthy_enough = {
        let number = |field: &str| budget.at(&["status", field]).and_then(Value::as_i64).unwrap_or(0);
        let always = budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        let enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        !is_ready(pod) && (always || enough)
    };
    if healthy_enough {
        return Ok(());
    }
    let place = Target { resource, namespace: target.namespace.clone(), name: budget.name().to_owned() };
    let mut change = |current: &Value| take_one(current, &target.name);
    update::apply(ctx, &place, "status", &write_options(options.dry_run), &mut change).await.map(|_| ())
}

fn refuse(message: &str, cause: String) -> Status {
    let mut status = Status::too_many_requests(message, 0);
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message: cause, field: String::new() };
    status.details = Some(StatusDetails { causes: vec![cause], ..StatusDetails::default() });
    status
}

/// The budget with one disruption less and the pod noted.
fn take_one(budget: &Value, pod: &str) -> Result<Value, Status> {
    const MESSAGE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let number = |path: &[&str]| budget.at(path).and_then(Value::as_i64).unwrap_or(0);
    let name = budget.name();
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        let mut status =
            refuse(MESSAGE, format!("The disruption budget {name} is still being processed by the server."));
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 10;
        }
        return Err(status);
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    let disrupted = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object).map_or(0, |pods| pods.len());
    if disrupted > DISRUPTED_PODS_MAX {
        return Err(Status::forbidden(
            &coracle_api_meta::Gvr::new("policy", "v1", "poddisruptionbudgets"),
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed <= 0 {
        let (desired, current) = (number(&["status", "desiredHealthy"]), number(&["status", "currentHealthy"]));
        return Err(refuse(
            MESSAGE,
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently"),
        ));
    }
    let mut next = budget.clone();
    next["status"]["disruptionsAllowed"] = (allowed - 1).into();
    next["status"]["disruptedPods"][pod] = time::now_text().into();
    Ok(next)
}
