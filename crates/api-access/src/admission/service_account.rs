//! ServiceAccount: pods get an account and its token. Source: `plugin/pkg/admission/serviceaccount`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use super::{Lookup, MIRROR_POD, Operation, Request, annotation, list, push, set};
use crate::node::references;

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Kubelets renew such tokens, and old clients get a year. Source: `WarnOnlyBoundTokenExpirationSeconds`.
const EXPIRATION_SECONDS: i64 = 60 * 60 + 7;
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

fn account(request: &Request<'_>, name: &str, lookup: &dyn Lookup) -> Result<Arc<Value>, Status> {
    let namespace = request.namespace;
    lookup.find("", "serviceaccounts", namespace, name).ok_or_else(|| {
        request.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let has_spec = pod.get("spec").is_some_and(Value::is_object);
    if !request.is_new("", "pods") || annotation(pod, MIRROR_POD).is_some() || !has_spec {
        return Ok(());
    }
    // `serviceAccount` is the older name of the field; conversion keeps both the same.
    let given = ["serviceAccountName", "serviceAccount"].map(|field| pod.str_at(&["spec", field]).to_owned());
    let name = given.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT.to_owned());
    let account = account(request, &name, lookup)?;
    if let Some(spec) = pod.get_mut("spec") {
        set(spec, "serviceAccountName", name.as_str());
        set(spec, "serviceAccount", name.as_str());
    }
    if wants_token(pod, &account) {
        mount(pod, lookup);
    }
    let secrets: Vec<Value> =
        list(&account, &["imagePullSecrets"]).map(|secret| json!({"name": secret.str_at(&["name"])})).collect();
    let own = list(pod, &["spec", "imagePullSecrets"]).next().is_some();
    if let Some(spec) = pod.get_mut("spec").filter(|_| !own && !secrets.is_empty()) {
        set(spec, "imagePullSecrets", secrets);
    }
    Ok(())
}

fn wants_token(pod: &Value, account: &Value) -> bool {
    let own = pod.at(&["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    own.or_else(|| account.get("automountServiceAccountToken").and_then(Value::as_bool)).unwrap_or(true)
}

fn mount(pod: &mut Value, lookup: &dyn Lookup) {
    let is_token = |volume: &&Value| volume.str_at(&["name"]).starts_with(VOLUME_PREFIX);
    let existing = list(pod, &["spec", "volumes"]).find(is_token).map(|volume| volume.str_at(&["name"]).to_owned());
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", lookup.suffix()));
    let Some(spec) = pod.get_mut("spec") else { return };
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            if list(container, &["volumeMounts"]).any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            used = true;
        }
    }
    if used && existing.is_none() {
        push(spec, "volumes", volume(&name));
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

pub(super) fn validate(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let ephemeral = request.is_any("", "pods")
        && request.subresource == "ephemeralcontainers"
        && request.operation == Operation::Update;
    if !request.is_new("", "pods") && !ephemeral {
        return Ok(());
    }
    let name = pod.str_at(&["spec", "serviceAccountName"]);
    if !ephemeral && annotation(pod, MIRROR_POD).is_some() {
        return mirror(request, pod, name);
    }
    if name.is_empty() {
        let why = format!("no service account specified for pod {}/{}", request.namespace, pod.name());
        return Err(request.forbidden(&why));
    }
    let account = account(request, name, lookup)?;
    let enforced = annotation(&account, ENFORCE_SECRETS);
    if !enforced.is_some_and(|text| matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")) {
        return Ok(());
    }
    match forbidden_secret(pod, &account, ephemeral) {
        Some(why) => Err(request.forbidden(&why)),
        None => Ok(()),
    }
}

fn mirror(request: &Request<'_>, pod: &Value, account: &str) -> Result<(), Status> {
    if !account.is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    if references(pod).iter().any(|(resource, _)| *resource == "secrets") {
        return Err(request.forbidden("a mirror pod may not reference secrets"));
    }
    let mut sources = list(pod, &["spec", "volumes"]).flat_map(|volume| list(volume, &["projected", "sources"]));
    if sources.any(|source| source.get("serviceAccountToken").is_some()) {
        return Err(request.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// The first use of a secret that the account does not list. Source: `limitSecretReferences`.
fn forbidden_secret(pod: &Value, account: &Value, ephemeral: bool) -> Option<String> {
    let named = |field| list(account, &[field]).map(|item| item.str_at(&["name"]).to_owned()).collect::<Vec<_>>();
    let (mountable, pullable, owner) = (named("secrets"), named("imagePullSecrets"), account.name());
    let refused = |name: &str| !name.is_empty() && !mountable.iter().any(|own| own == name);
    let tail = |name: &str| {
        format!(
            "secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
        )
    };
    let kinds: &[(&str, &str)] = if ephemeral {
        &[("ephemeralContainers", "ephemeral container")]
    } else {
        let mut volumes = list(pod, &["spec", "volumes"]).map(|volume| volume.str_at(&["secret", "secretName"]));
        if let Some(name) = volumes.find(|name| refused(name)) {
            return Some(format!("volume with {}", tail(name)));
        }
        &[("initContainers", "init container"), ("containers", "container")]
    };
    for (field, label) in kinds {
        for container in list(pod, &["spec", field]) {
            let start = format!("{label} {}", container.str_at(&["name"]));
            for variable in list(container, &["env"]) {
                let name = variable.str_at(&["valueFrom", "secretKeyRef", "name"]);
                if refused(name) {
                    let variable = variable.str_at(&["name"]);
                    return Some(format!("{start} with envVar {variable} referencing {}", tail(name)));
                }
            }
            let mut sources = list(container, &["envFrom"]).map(|source| source.str_at(&["secretRef", "name"]));
            if let Some(name) = sources.find(|name| refused(name)) {
                return Some(format!("{start} with envFrom referencing {}", tail(name)));
            }
        }
    }
    let pulls = list(pod, &["spec", "imagePullSecrets"]).filter(|_| !ephemeral).enumerate();
    pulls.map(|(index, secret)| (index, secret.str_at(&["name"]))).find(|(_, name)| !pullable.iter().any(|own| own == name)).map(
        |(index, name)| {
            format!("imagePullSecrets[{index}].name=\"{name}\" is not allowed because service account {owner} does not reference that imagePullSecret")
        },
    )
}
