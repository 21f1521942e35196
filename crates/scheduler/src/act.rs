//! Calls that carry decisions out, beside the scheduler's own task.

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_client::{Api, Client, DeleteParams, EventRecorder, Patch, PatchParams, Result, reference_to};
use coracle_plan_core::pod::condition;
use coracle_plan_core::time::seconds;
use coracle_plan_scheduler::plugins::volume_binding::Choice;
use coracle_plan_scheduler::{Nomination, PodInfo, Refusal};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// What became of a call that the scheduler's state depends on.
pub enum Outcome {
    Bound { uid: String },
    BindFailed { uid: String, pod: Arc<Pod>, message: String },
}

pub struct Act {
    client: Client,
    recorder: EventRecorder,
    name: String,
    outcomes: mpsc::Sender<Outcome>,
    tasks: TaskTracker,
}

impl Act {
    pub fn new(
        client: Client,
        recorder: EventRecorder,
        name: &str,
        outcomes: mpsc::Sender<Outcome>,
        tasks: TaskTracker,
    ) -> Self {
        Self { client, recorder, name: name.to_owned(), outcomes, tasks }
    }

    pub fn bind(&self, pod: Arc<Pod>, node: String, volumes: Vec<Choice>) {
        let client = self.client.clone();
        let recorder = self.recorder.clone();
        let outcomes = self.outcomes.clone();
        self.tasks.spawn(async move {
            let uid = pod.uid().to_owned();
            let outcome = match bind(&client, &pod, &node, &volumes).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
                    recorder.normal(&reference_to(&*pod), "Scheduled", &message);
                    Outcome::Bound { uid }
                }
                Err(error) if error.is_not_found() => Outcome::Bound { uid },
                Err(error) => Outcome::BindFailed { uid, pod, message: format!("binding rejected: {error}") },
            };
            // An error means that the scheduler has stopped.
            let _ = outcomes.send(outcome).await;
        });
    }

    /// Tells the world why the pod waits and, when that was decided, ends its victims.
    pub fn refuse(&self, pod: Arc<Pod>, refusal: Refusal) {
        let client = self.client.clone();
        let recorder = self.recorder.clone();
        let name = self.name.clone();
        self.tasks.spawn(async move {
            recorder.warning(&reference_to(&*pod), "FailedScheduling", &refusal.message);
            if let Err(error) =
                set_unscheduled(&client, &pod, "Unschedulable", &refusal.message, &refusal.nomination).await
            {
                tracing::debug!(%error, pod = pod.name(), "say why the pod waits");
            }
            let Nomination::Free(preemption) = refusal.nomination else { return };
            for victim in &preemption.victims {
                if let Err(error) = evict(&client, &recorder, &name, &pod, &preemption.node, victim).await {
                    tracing::debug!(%error, pod = victim.pod.name(), "preempt");
                }
            }
        });
    }

    /// The pod could not be bound although a node was found.
    pub fn report_error(&self, pod: &Arc<Pod>, message: &str) {
        let client = self.client.clone();
        let recorder = self.recorder.clone();
        let (pod, message) = (pod.clone(), message.to_owned());
        self.tasks.spawn(async move {
            recorder.warning(&reference_to(&*pod), "FailedScheduling", &message);
            if let Err(error) = set_unscheduled(&client, &pod, "SchedulerError", &message, &Nomination::Clear).await {
                tracing::debug!(%error, pod = pod.name(), "say why the pod waits");
            }
        });
    }
}

async fn bind(client: &Client, pod: &Pod, node: &str, volumes: &[Choice]) -> Result<()> {
    for choice in volumes {
        bind_volume(client, choice, node).await?;
    }
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
        "target": {"kind": "Node", "name": node},
    });
    let api = Api::<Pod>::namespaced(client, pod.namespace());
    api.dynamic().create_subresource(pod.name(), "binding", binding.to_string().into_bytes()).await.map(drop)
}

/// The volume controller completes what is begun here.
async fn bind_volume(client: &Client, choice: &Choice, node: &str) -> Result<()> {
    match choice {
        Choice::Bind { claim, volume } => {
            let reference = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(),
                "name": claim.name(),
                "uid": claim.uid(),
            });
            let annotations = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
            let patch = json!({"metadata": {"annotations": annotations}, "spec": {"claimRef": reference}});
            let api = Api::<PersistentVolume>::all(client);
            api.patch(volume, &Patch::Merge(patch), &PatchParams::default()).await.map(drop)
        }
        Choice::Provision { claim } => {
            let patch = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
            let api = Api::<PersistentVolumeClaim>::namespaced(client, claim.namespace());
            api.patch(claim.name(), &Patch::Merge(patch), &PatchParams::default()).await.map(drop)
        }
    }
}

/// Sets `PodScheduled=False` unless it says the same already.
async fn set_unscheduled(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
    nomination: &Nomination,
) -> Result<()> {
    let before = condition(pod, "PodScheduled");
    let told = before.is_some_and(|before| {
        before.status == "False"
            && before.reason.as_deref() == Some(reason)
            && before.message.as_deref() == Some(message)
    });
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
    let renamed = match nomination {
        Nomination::Free(preemption) => Some(preemption.node.as_str()),
        Nomination::Clear if !nominated.is_empty() => Some(""),
        _ => None,
    };
    if told && renamed.is_none() {
        return Ok(());
    }
    let now = seconds(Timestamp::now());
    let since = before.filter(|before| before.status == "False").and_then(|before| before.last_transition_time.clone());
    let mut status = json!({"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "observedGeneration": pod.metadata.generation,
        "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or(now),
    }]});
    if let Some(node) = renamed {
        status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { Value::from(node) };
    }
    patch_status(client, pod, status).await
}

async fn patch_status(client: &Client, pod: &Pod, status: Value) -> Result<()> {
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    let api = Api::<Pod>::namespaced(client, pod.namespace());
    match api.patch_status(pod.name(), &patch, &PatchParams::default()).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

async fn evict(
    client: &Client,
    recorder: &EventRecorder,
    scheduler: &str,
    preemptor: &Pod,
    node: &str,
    victim: &PodInfo,
) -> Result<()> {
    let pod = &victim.pod;
    if pod.is_deleting() {
        return Ok(());
    }
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    let target = json!({"conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": message,
        "observedGeneration": pod.metadata.generation,
        "lastTransitionTime": seconds(Timestamp::now()),
    }]});
    patch_status(client, pod, target).await?;
    let api = Api::<Pod>::namespaced(client, pod.namespace());
    match api.delete(pod.name(), &DeleteParams::uid(pod.uid())).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
        _ => {}
    }
    let message = format!("Preempted by pod {} on node {node}", preemptor.uid());
    recorder.normal(&reference_to(&**pod), "Preempted", &message);
    Ok(())
}
