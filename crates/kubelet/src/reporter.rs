//! Sends the status of one pod to the API, and removes the pod at its end.

use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_client::{Api, Client, DeleteParams, Patch, PatchParams};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Map, Value};
use tokio::sync::watch;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What the API should know.
#[derive(Debug, Clone, Default)]
struct Wanted {
    status: Option<Arc<PodStatus>>,
    /// The object as a watch brought it.
    seen: Option<(u64, Arc<Value>)>,
    /// All resources are freed; the object may go.
    delete: bool,
}

/// Hands statuses to a task of the pod. Only the latest counts.
pub(crate) struct Reporter {
    wanted: watch::Sender<Wanted>,
    task: tokio::task::JoinHandle<()>,
}

impl Reporter {
    pub(crate) fn start(client: &Client, pod: &Pod) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let sender = Sender {
            api: Api::namespaced(client, pod.namespace()),
            name: pod.name().to_owned(),
            uid: Some(pod.uid().to_owned()),
            version: 0,
            known: serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap_or_default(),
        };
        Self { wanted, task: tokio::spawn(sender.run(receiver)) }
    }

    /// For a static pod: its mirror has a uid of its own, and comes and goes.
    pub(crate) fn for_mirror(client: &Client, pod: &Pod) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let sender = Sender {
            api: Api::namespaced(client, pod.namespace()),
            name: pod.name().to_owned(),
            uid: None,
            version: 0,
            known: Value::Null,
        };
        Self { wanted, task: tokio::spawn(sender.run(receiver)) }
    }

    pub(crate) fn report(&self, status: &PodStatus) {
        self.wanted.send_modify(|wanted| wanted.status = Some(Arc::new(status.clone())));
    }

    /// The API's view, so that what others changed in the kubelet's part is put right.
    pub(crate) fn seen(&self, pod: &Pod) {
        let Ok(version) = pod.resource_version().parse::<u64>() else { return };
        let status = serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap_or_default();
        self.wanted.send_modify(|wanted| wanted.seen = Some((version, Arc::new(status))));
    }

    /// Removes the object once its last status is written.
    pub(crate) fn delete(&self) {
        self.wanted.send_modify(|wanted| wanted.delete = true);
    }

    /// Waits until everything is written and the object, if so asked, is removed.
    pub(crate) async fn finish(self) {
        drop(self.wanted);
        let _ = self.task.await;
    }
}

struct Sender {
    api: Api<Pod>,
    name: String,
    uid: Option<String>,
    /// As the API has it, and the resource version of the last write.
    known: Value,
    version: u64,
}

impl Sender {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let mut retry = RETRY_FIRST;
        loop {
            let now = wanted.borrow_and_update().clone();
            match self.bring_about(&now).await {
                Ok(()) if now.delete => return,
                Ok(()) => {
                    retry = RETRY_FIRST;
                    if wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    // Gone, or another pod of this name: nothing to tell any more.
                    tracing::debug!(pod = self.name, %error, "report a pod's status");
                    if now.delete || wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(pod = self.name, %error, "report a pod's status");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                    if wanted.has_changed().is_err() && retry == RETRY_MAX {
                        return;
                    }
                }
            }
        }
    }

    async fn bring_about(&mut self, wanted: &Wanted) -> coracle_client::Result<()> {
        if let Some((version, seen)) = &wanted.seen
            && *version > self.version
        {
            self.version = *version;
            self.known = seen.as_ref().clone();
        }
        if let Some(status) = &wanted.status {
            let new = serde_json::to_value(status.as_ref()).unwrap_or_default();
            if let Some(patch) = status_patch(&self.known, &new) {
                let mut body = serde_json::json!({"status": patch});
                if let Some(uid) = &self.uid {
                    body["metadata"] = serde_json::json!({"uid": uid});
                }
                let written =
                    self.api.patch_status(&self.name, &Patch::Strategic(body), &PatchParams::default()).await?;
                self.version = written.resource_version().parse().unwrap_or(self.version);
                self.known = new;
            }
        }
        if wanted.delete {
            let uid = self.uid.as_deref().unwrap_or_default();
            self.api.delete(&self.name, &DeleteParams::uid(uid).grace(0)).await?;
        }
        Ok(())
    }
}

/// The strategic merge patch between two statuses; `None` when they are equal.
fn status_patch(old: &Value, new: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (field, value) in new {
        if old.get(field) == Some(value) {
            continue;
        }
        let change = match field.as_str() {
            "conditions" | "podIPs" => {
                let key = if field == "podIPs" { "ip" } else { "type" };
                let list = merged_list(old.get(field), value, key);
                if list.as_array().is_some_and(Vec::is_empty) {
                    continue;
                }
                list
            }
            "resources" | "allocatedResources" => map_patch(old.get(field), value),
            _ => value.clone(),
        };
        patch.insert(field.clone(), change);
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Items that differ, and deletions of those that are gone. Conditions of others stay untouched.
fn merged_list(old: Option<&Value>, new: &Value, key: &str) -> Value {
    let ours = |item: &&Value| match item.get("type").and_then(Value::as_str) {
        Some(kind) => coracle_plan_pods::is_kubelet_condition(kind),
        None => true,
    };
    let items = |list: Option<&Value>| -> Vec<Value> {
        list.and_then(Value::as_array).into_iter().flatten().filter(ours).cloned().collect()
    };
    let (old, new) = (&items(old), &items(Some(new)));
    let find = |list: &[Value], item: &Value| list.iter().find(|other| other.get(key) == item.get(key)).cloned();
    let mut changes: Vec<Value> = Vec::new();
    for item in new {
        match find(old, item) {
            Some(before) if before == *item => {}
            Some(before) => changes.push(with_nulls(&before, item)),
            None => changes.push(item.clone()),
        }
    }
    for item in old.iter().filter(|item| find(new, item).is_none()) {
        changes.push(serde_json::json!({"$patch": "delete", key: item.get(key)}));
    }
    Value::Array(changes)
}

fn with_nulls(old: &Value, new: &Value) -> Value {
    let mut merged = new.clone();
    let (Some(old), Some(fields)) = (old.as_object(), merged.as_object_mut()) else { return merged };
    for field in old.keys() {
        fields.entry(field.clone()).or_insert(Value::Null);
    }
    merged
}

fn map_patch(old: Option<&Value>, new: &Value) -> Value {
    let Some(old) = old.filter(|old| old.is_object()) else { return new.clone() };
    let mut merged = with_nulls(old, new);
    if let (Some(old), Some(fields)) = (old.as_object(), merged.as_object_mut()) {
        for (name, value) in fields.iter_mut() {
            if let (Some(before), true) = (old.get(name), value.is_object()) {
                *value = map_patch(Some(before), value);
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_hold_only_what_changed() {
        let old = json!({"phase": "Pending", "reason": "x", "conditions": [
            {"type": "Ready", "status": "False", "reason": "r"}, {"type": "Other", "status": "True"}]});
        let new = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}]});
        assert_eq!(
            status_patch(&old, &new),
            Some(json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "reason": null}], "reason": null}))
        );
        assert_eq!(status_patch(&new, &new), None);
        let ips = |ip: &str| json!({"podIPs": [{"ip": ip}]});
        assert_eq!(
            status_patch(&ips("1"), &ips("2")),
            Some(json!({"podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]}))
        );
    }
}
