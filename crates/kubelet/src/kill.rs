//! Stopping containers: hook, signal, patience, SIGKILL; sidecars after the others.

use std::sync::Arc;
use std::time::Duration;

use coracle_cri::ContainerState;
use coracle_plan_pods::{KillReason, MINIMUM_GRACE_SECONDS, RuntimePod, grace_seconds, stop_order};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container::from_ephemeral;
use crate::context::Ctx;
use crate::fieldpath::find_container;
use crate::hooks;

/// One container to stop.
#[derive(Clone)]
struct Victim {
    id: String,
    name: String,
    container: Container,
    message: String,
}

/// Stops one container of a pod that goes on living. Returns when it has exited.
pub(crate) async fn kill_one(
    ctx: &Ctx,
    pod: &Arc<Pod>,
    id: &str,
    name: &str,
    message: &str,
    reason: KillReason,
    pod_ip: &str,
) {
    let container = container_of(pod, name);
    let seconds = grace_seconds(pod, Some(&container), reason);
    let victim = Victim { id: id.to_owned(), name: name.to_owned(), container, message: message.to_owned() };
    let (_sender, deadline) = watch::channel(deadline_in(seconds));
    stop(ctx.clone(), pod.clone(), victim, pod_ip.to_owned(), deadline, None).await;
}

pub(crate) fn deadline_in(seconds: i64) -> Instant {
    Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn container_of(pod: &Pod, name: &str) -> Container {
    let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let ephemeral = ephemeral.filter(|container| container.name == name).map(from_ephemeral).next();
    let unknown = || Container { name: name.to_owned(), ..Container::default() };
    find_container(pod, name).cloned().or(ephemeral).unwrap_or_else(unknown)
}

/// Stops every running container of a pod, in order, then its sandboxes. The deadline may be moved meanwhile.
pub(crate) async fn kill_pod(
    ctx: &Ctx,
    pod: &Arc<Pod>,
    runtime: &RuntimePod,
    pod_ip: &str,
    deadline: watch::Receiver<Instant>,
) -> coracle_cri::Result<()> {
    let alive = |state: ContainerState| matches!(state, ContainerState::Running | ContainerState::Unknown);
    let running: Vec<_> = runtime.containers.iter().filter(|container| alive(container.state)).collect();
    let names: Vec<String> = running.iter().map(|container| container.metadata.name.clone()).collect();
    let mut tasks = JoinSet::new();
    let mut before: Option<CancellationToken> = None;
    for group in stop_order(pod, &names) {
        let done = CancellationToken::new();
        let mut members = JoinSet::new();
        for container in running.iter().filter(|container| group.contains(&container.metadata.name)) {
            let name = container.metadata.name.clone();
            let message = format!("Stopping container {name}");
            let victim = Victim { id: container.id.clone(), container: container_of(pod, &name), name, message };
            let turn = before.clone();
            members.spawn(stop(ctx.clone(), pod.clone(), victim, pod_ip.to_owned(), deadline.clone(), turn));
        }
        let finished = done.clone();
        tasks.spawn(async move {
            while members.join_next().await.is_some() {}
            finished.cancel();
        });
        before = Some(done);
    }
    while tasks.join_next().await.is_some() {}
    for sandbox in &runtime.sandboxes {
        ctx.runtime.stop_pod_sandbox(&sandbox.id).await?;
    }
    Ok(())
}

/// `turn`: what has to be over before the signal is sent.
async fn stop(
    ctx: Ctx,
    pod: Arc<Pod>,
    victim: Victim,
    pod_ip: String,
    mut deadline: watch::Receiver<Instant>,
    turn: Option<CancellationToken>,
) {
    ctx.normal(&pod, Some(&victim.container), "Killing", &victim.message);
    let lifecycle = victim.container.lifecycle.as_ref();
    if let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
        let run = hooks::run(&ctx, &pod, &victim.container, &victim.id, &pod_ip, hook);
        tokio::select! {
            result = run => if let Err(error) = result {
                tracing::debug!(error, container = victim.name, "preStop hook");
                ctx.warning(&pod, Some(&victim.container), "FailedPreStopHook", "PreStopHook failed");
            },
            () = passed(deadline.clone()) => {}
        }
    }
    if let Some(turn) = turn {
        tokio::select! {
            () = turn.cancelled() => {}
            () = passed(deadline.clone()) => {}
        }
    }
    loop {
        let patience = patience(*deadline.borrow_and_update());
        let (runtime, id) = (ctx.runtime.clone(), victim.id.clone());
        // A task of its own: the call must come to its end even when the deadline moves.
        let call = tokio::spawn(async move { runtime.stop_container(&id, patience).await });
        tokio::select! {
            result = call => {
                if let Ok(Err(error)) = result {
                    tracing::warn!(%error, container = victim.name, id = victim.id, "stop a container");
                }
                return;
            }
            () = moved_earlier(&mut deadline, patience) => {}
        }
    }
}

fn patience(deadline: Instant) -> Duration {
    let least = Duration::from_secs(MINIMUM_GRACE_SECONDS.unsigned_abs());
    deadline.saturating_duration_since(Instant::now()).max(least)
}

/// Waits until a deadline, wherever it moves.
async fn passed(mut deadline: watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                tokio::time::sleep_until(at).await;
                return;
            }
        }
    }
}

async fn moved_earlier(deadline: &mut watch::Receiver<Instant>, given: Duration) {
    let before = Instant::now() + given;
    loop {
        if deadline.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if *deadline.borrow_and_update() < before {
            return;
        }
    }
}
