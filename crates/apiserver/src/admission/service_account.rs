//! ServiceAccount: pods get an account and its token. Source: `plugin/pkg/admission/serviceaccount`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use super::{annotation, find, is_new_pod};
use crate::registry::admit::Attempt;
use crate::time;

const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const EXPIRATION_SECONDS: i64 = 3607;

pub(super) fn mutate(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_new_pod(attempt) || !annotation(pod, MIRROR).is_empty() || !pod["spec"].is_object() {
        return Ok(());
    }
    if pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        let old_name = pod.str_at(&["spec", "serviceAccount"]).to_owned();
        let name = if old_name.is_empty() { "default".to_owned() } else { old_name };
        pod["spec"]["serviceAccountName"] = name.as_str().into();
    }
    let name = pod.str_at(&["spec", "serviceAccountName"]).to_owned();
    pod["spec"]["serviceAccount"] = name.as_str().into();
    let account = find(attempt.ctx, "serviceaccounts", &attempt.target.namespace, &name).ok_or_else(|| {
        let namespace = &attempt.target.namespace;
        attempt.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })?;
    if wants_token(pod, &account) {
        mount(pod);
    }
    let own = pod.at(&["spec", "imagePullSecrets"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if let Some(secrets) = account.get("imagePullSecrets").filter(|_| !own) {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

fn wants_token(pod: &Value, account: &Value) -> bool {
    let own = pod.at(&["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    own.or_else(|| account.get("automountServiceAccountToken").and_then(Value::as_bool)).unwrap_or(true)
}

fn mount(pod: &mut Value) {
    let list = pod.at(&["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten();
    let existing = list.map(|volume| volume.str_at(&["name"])).find(|name| name.starts_with(VOLUME_PREFIX));
    let existing = existing.map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", time::random_suffix(5)));
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            if mounts.into_iter().flatten().any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            push(container, "volumeMounts", mount);
            used = true;
        }
    }
    if used && existing.is_none() {
        push(&mut pod["spec"], "volumes", volume(&name));
    }
}

fn push(place: &mut Value, field: &str, item: Value) {
    match place.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => place[field] = json!([item]),
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

pub(super) fn validate(attempt: &Attempt<'_>, pod: &Value) -> Result<(), Status> {
    if !is_new_pod(attempt) || annotation(pod, MIRROR).is_empty() {
        return Ok(());
    }
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Err(attempt.forbidden("a mirror pod may not reference service accounts"));
    }
    Ok(())
}
