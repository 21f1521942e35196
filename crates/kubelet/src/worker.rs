//! The task of one pod: from its first sight to the removal of its last file.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_cri::{ContainerState, ContainerStatus};
use coracle_plan_pods::admission::Rejection;
use coracle_plan_pods::resize::{InProgress, Pending, is_in_progress, summary};
use coracle_plan_pods::{
    Backoff, Ended, MINIMUM_GRACE_SECONDS, Probes, Resize, RuntimePod, View, Waiting, is_sidecar, plan, pod_status,
    rejected_status,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use tokio::sync::watch;

use crate::act::Interrupted;
use crate::admission::Resized;
use crate::context::Ctx;
use crate::fieldpath::{PodFacts, find_container};
use crate::probes::{ProbeSet, Subject};
use crate::reporter::Reporter;
use crate::source::{Inbox, News};
use crate::volumes::{self, Volumes};
use crate::{kill, termination};

/// First and longest delay between attempts to set up volumes. Source: upstream's `goroutinemap` backoff.
const VOLUME_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));
/// Delay after a failed sandbox or container. Source: kubelet `backOffPeriod`.
const RETRY_SECONDS: i64 = 10;
/// Plans carried out in a row before the pod yields to others.
const PLANS_IN_A_ROW_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Living,
    /// Nothing runs any more; files may still be there.
    Ended,
}

/// What to wait for.
enum Next {
    At(Option<Timestamp>),
    Done,
}

pub(crate) struct Worker {
    pub(crate) ctx: Ctx,
    pub(crate) inbox: Arc<Inbox>,
    /// With the resources that the node granted.
    pub(crate) pod: Arc<Pod>,
    /// As the API has it, with the resources that it asks for.
    asked: Arc<Pod>,
    pub(crate) resize: Resize,
    pub(crate) runtime: RuntimePod,
    pub(crate) known_sandboxes: Vec<String>,
    pub(crate) known_containers: Vec<String>,
    pub(crate) volumes: Volumes,
    pub(crate) waiting: BTreeMap<String, Waiting>,
    pub(crate) backoff: Backoff,
    pub(crate) pull_backoff: Backoff,
    pub(crate) pull_errors: BTreeMap<String, String>,
    probes: Probes,
    probe_set: ProbeSet,
    status: PodStatus,
    reporter: Option<Reporter>,
    stage: Stage,
    ended: Option<Ended>,
    /// The node did not take the pod.
    rejected: bool,
    gone: bool,
    volumes_stale: bool,
    volume_backoff: Backoff,
    last_words: BTreeMap<String, ContainerStatus>,
    /// After a failure: nothing is tried before, unless something changes.
    retry_at: Option<Timestamp>,
    /// Ends of delays that have been told of, by container.
    pub(crate) told_holds: BTreeMap<String, Timestamp>,
}

impl Worker {
    /// `reporter`: `None` for pods that the API does not know.
    pub(crate) fn new(ctx: Ctx, inbox: Arc<Inbox>, pod: Arc<Pod>, reporter: Option<Reporter>) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        Self {
            ctx,
            inbox,
            runtime: RuntimePod::default(),
            known_sandboxes: Vec::new(),
            known_containers: Vec::new(),
            volumes: Volumes::default(),
            waiting: BTreeMap::new(),
            backoff: Backoff::default(),
            pull_backoff: Backoff::default(),
            pull_errors: BTreeMap::new(),
            probes: Probes::default(),
            probe_set: ProbeSet::default(),
            status,
            reporter,
            stage: Stage::Living,
            ended: None,
            rejected: false,
            gone: false,
            volumes_stale: true,
            volume_backoff: Backoff::new(VOLUME_BACKOFF.0, VOLUME_BACKOFF.1),
            last_words: BTreeMap::new(),
            retry_at: None,
            told_holds: BTreeMap::new(),
            resize: Resize::default(),
            asked: pod.clone(),
            pod,
        }
    }

    /// Instead of running: the pod fails at once.
    pub(crate) fn reject(&mut self, rejection: Rejection) {
        let Rejection { reason, message } = rejection;
        self.ctx.warning(&self.pod, None, &reason, &message);
        self.ended = Some(Ended { reason, message: format!("Pod was rejected: {message}"), ..Ended::default() });
        self.rejected = true;
        self.stage = Stage::Ended;
        self.publish();
    }

    /// After a restart: a pod that failed without having had a container was turned down.
    pub(crate) fn stay_rejected(&mut self) {
        let PodStatus { reason, message, container_statuses, init_container_statuses, .. } = &self.status;
        if let (Some(reason), None, None) = (reason, container_statuses, init_container_statuses) {
            let (reason, message) = (reason.clone(), message.clone().unwrap_or_default());
            self.ended = Some(Ended { reason, message, ..Ended::default() });
            self.rejected = true;
            self.stage = Stage::Ended;
            self.publish();
        }
    }

    pub(crate) async fn run(mut self) {
        let uid = self.pod.uid().to_owned();
        let stop = self.ctx.stop.clone();
        // Containers outlive the kubelet: stopping means to let go.
        let _ = stop.run_until_cancelled(self.live_and_die()).await;
        if stop.is_cancelled() {
            return;
        }
        self.ctx.config_maps.release(&uid);
        self.ctx.secrets.release(&uid);
        self.ctx.tokens.release(&uid);
        self.ctx.workers.close(&uid);
        self.ctx.admission.release(&uid);
        self.ctx.users.release(&uid);
        if let Some(reporter) = self.reporter.take() {
            if self.pod.is_deleting() && !self.gone {
                reporter.delete();
            }
            reporter.finish().await;
        }
    }

    async fn live_and_die(&mut self) {
        loop {
            self.absorb();
            let wake = match self.step().await {
                Ok(Next::Done) => return,
                Ok(Next::At(wake)) => wake,
                // The end is in the inbox.
                Err(Interrupted) => continue,
            };
            tokio::select! {
                () = self.inbox.woken() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn absorb(&mut self) {
        let News { pod, mirror, gone, sandboxes, containers, verdicts, room, evict, objects } = self.inbox.take();
        let mut meaningful = objects || !sandboxes.is_empty() || !containers.is_empty() || !verdicts.is_empty();
        if let Some(pod) = pod {
            if let Some(reporter) = &self.reporter {
                reporter.seen(&pod);
            }
            let changed = pod.metadata.labels != self.asked.metadata.labels
                || pod.metadata.annotations != self.asked.metadata.annotations
                || pod.spec != self.asked.spec;
            self.volumes_stale |= changed;
            meaningful |= changed;
            self.asked = pod;
            self.take_resources();
        } else if room {
            self.take_resources();
            meaningful = true;
        }
        if let (Some(mirror), Some(reporter)) = (mirror, &self.reporter) {
            reporter.seen(&mirror);
        }
        self.gone |= gone;
        self.volumes_stale |= objects;
        add_new(&mut self.known_sandboxes, sandboxes);
        add_new(&mut self.known_containers, containers);
        for (id, kind, success) in verdicts {
            self.probes.set(&id, kind, success);
        }
        if let (None, Some(ended)) = (&self.ended, evict) {
            self.ctx.warning(&self.pod, None, &ended.reason, &ended.message);
            self.ended = Some(ended);
        }
        if meaningful {
            self.retry_at = None;
        }
    }

    /// Takes what the node grants of the resources that the pod asks for.
    fn take_resources(&mut self) {
        if self.stage == Stage::Ended || self.asked.is_deleting() {
            self.pod = self.asked.clone();
            return;
        }
        let (granted, resized) = self.ctx.admission.resize(&self.asked);
        self.pod = granted;
        let (generation, since) = (self.asked.metadata.generation, Timestamp::now());
        match resized {
            Resized::Same => self.resize.pending = None,
            Resized::Granted => {
                self.resize =
                    Resize { pending: None, in_progress: Some(InProgress { generation, since, error: None }) };
                let message = format!("Pod resize started: {}", summary(&self.pod, generation, ""));
                self.ctx.normal(&self.pod, None, "ResizeStarted", &message);
            }
            Resized::Deferred(why) => {
                let known = self.resize.pending.as_ref().is_some_and(|pending| pending.generation == generation);
                if !known {
                    let message = format!("Pod resize Deferred: {}", summary(&self.asked, generation, &why));
                    self.ctx.warning(&self.pod, None, "ResizeDeferred", &message);
                }
                self.resize.pending = Some(Pending { message: why, generation, since });
            }
        }
    }

    /// What was granted is in force.
    fn check_resize(&mut self) {
        let done = self.resize.in_progress.is_some() && !self.with_view(is_in_progress);
        if let Some(progress) = self.resize.in_progress.take_if(|_| done) {
            let message = format!("Pod resize completed: {}", summary(&self.pod, progress.generation, ""));
            self.ctx.normal(&self.pod, None, "ResizeCompleted", &message);
        }
    }

    /// It could not be brought about, and why. Told once for each reason.
    pub(crate) fn resize_failed(&mut self, error: String) {
        let (generation, since) = (self.pod.metadata.generation, Timestamp::now());
        let progress = self.resize.in_progress.get_or_insert(InProgress { generation, since, error: None });
        if progress.error.as_ref() == Some(&error) {
            return;
        }
        let message = format!("Pod resize error: {}", summary(&self.pod, progress.generation, &error));
        progress.error = Some(error);
        self.ctx.warning(&self.pod, None, "ResizeError", &message);
    }

    fn must_end(&self) -> bool {
        self.gone || self.pod.is_deleting() || self.ended.is_some()
    }

    async fn step(&mut self) -> Result<Next, Interrupted> {
        self.gather().await;
        if self.stage == Stage::Living {
            let deadline = self.check_deadline();
            self.publish();
            let phase_ended = matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if !self.must_end() && !phase_ended {
                let wake = self.live().await?;
                return Ok(Next::At(earliest(wake, deadline)));
            }
            self.end().await;
        }
        if self.gone || self.pod.is_deleting() {
            self.clean_up().await;
            return Ok(Next::Done);
        }
        Ok(Next::At(None))
    }

    /// Source: `PodSpec.activeDeadlineSeconds`.
    fn check_deadline(&mut self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?.0;
        let deadline = start.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        if Timestamp::now() < deadline {
            return Some(deadline);
        }
        if self.ended.is_none() && !self.pod.is_deleting() {
            let message = "Pod was active on the node longer than the specified deadline";
            self.ctx.normal(&self.pod, None, "DeadlineExceeded", message);
            let (reason, message) = ("DeadlineExceeded".to_owned(), message.to_owned());
            self.ended = Some(Ended { reason, message, ..Ended::default() });
        }
        None
    }

    /// One round for a pod that is to run. Returns when it has to be looked at again by itself.
    async fn live(&mut self) -> Result<Option<Timestamp>, Interrupted> {
        if let Err(wake) = self.ensure_volumes().await? {
            return Ok(Some(wake));
        }
        if let Some(at) = self.retry_at.take_if(|at| *at > Timestamp::now()) {
            self.retry_at = Some(at);
            return Ok(earliest(Some(at), self.volumes.refresh));
        }
        self.retry_at = None;
        let mut retry = None;
        for _ in 0..PLANS_IN_A_ROW_MAX {
            let plan = self.with_view(plan);
            let holds = plan.start.iter().any(|start| start.hold.is_some());
            if plan.is_idle() && !holds {
                break;
            }
            let well = self.act(&plan).await?;
            self.gather().await;
            self.absorb();
            self.publish();
            if !well {
                self.retry_at = Some(seconds_from_now(RETRY_SECONDS));
                retry = self.retry_at;
                break;
            }
            if plan.is_idle() {
                retry = plan.wake_at();
                break;
            }
            if self.must_end() || matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                // The next step sees to it.
                return Ok(Some(Timestamp::now()));
            }
        }
        Ok(earliest(retry, self.volumes.refresh))
    }

    /// Makes volumes, and renews them when something they show has changed. `Err`: when to try again.
    async fn ensure_volumes(&mut self) -> Result<Result<(), Timestamp>, Interrupted> {
        let now = Timestamp::now();
        let due = self.volumes.refresh.is_some_and(|refresh| refresh <= now);
        if !self.volumes_stale && !due {
            return Ok(Ok(()));
        }
        let references = volumes::references(&self.pod);
        let (uid, namespace) = (self.pod.uid().to_owned(), self.pod.namespace().to_owned());
        self.ctx.config_maps.follow(&uid, &namespace, &references.config_maps);
        self.ctx.secrets.follow(&uid, &namespace, &references.secrets);
        self.volumes_stale = false;
        let (ctx, pod, facts) = (self.ctx.clone(), self.pod.clone(), self.facts());
        let (made, failures) = self.unless_ending(volumes::set_up(&ctx, &pod, &facts)).await?;
        if failures.is_empty() {
            self.volume_backoff.forget("");
            self.volumes = made;
            return Ok(Ok(()));
        }
        for failure in &failures {
            let message = format!("MountVolume.SetUp failed for volume {:?} : {}", failure.volume, failure.error);
            self.ctx.warning(&self.pod, None, "FailedMount", &message);
        }
        self.volume_backoff.raise("", now, now);
        let wake = self.volume_backoff.hold_since_raised("", now).map_or(now, |(until, _)| until);
        self.volumes_stale = true;
        // Containers that run already do not stop for it.
        if self.runtime.has_running() { Ok(Ok(())) } else { Ok(Err(wake)) }
    }

    /// Runs something that a pod which has to end does not wait for.
    pub(crate) async fn unless_ending<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::pin!(work);
        let mut woken = false;
        let result = loop {
            tokio::select! {
                biased;
                done = &mut work => break Ok(done),
                () = self.inbox.woken() => {
                    woken = true;
                    if self.inbox.has_end() {
                        break Err(Interrupted);
                    }
                }
            }
        };
        // What woke us is still in the inbox, for the main loop to see.
        if woken {
            self.inbox.post(|_| {});
        }
        result
    }

    /// Stops everything in order; status is told meanwhile, and a shorter grace is heeded.
    async fn end(&mut self) {
        let seconds = self.grace();
        let (sender, deadline) = watch::channel(kill::deadline_in(seconds));
        let (ctx, pod, runtime, pod_ip) = (self.ctx.clone(), self.pod.clone(), self.runtime.clone(), self.pod_ip());
        let killing = kill::kill_pod(&ctx, &pod, &runtime, &pod_ip, deadline);
        tokio::pin!(killing);
        loop {
            tokio::select! {
                result = &mut killing => {
                    if let Err(error) = result {
                        self.ctx.warning(&self.pod, None, "FailedKillPod", &format!("error killing pod: {error}"));
                    }
                    break;
                }
                () = self.inbox.woken() => {
                    self.absorb();
                    self.gather().await;
                    self.publish();
                    let sooner = kill::deadline_in(self.grace());
                    sender.send_if_modified(|at| {
                        let earlier = sooner < *at;
                        if earlier {
                            *at = sooner;
                        }
                        earlier
                    });
                }
            }
        }
        self.probe_set.clear();
        self.gather().await;
        self.stage = Stage::Ended;
        self.publish();
        if let Err(error) = volumes::tear_down(self.ctx.pod_dir(self.pod.uid())).await {
            tracing::warn!(%error, pod = self.pod.name(), "take down volumes");
        }
    }

    fn grace(&self) -> i64 {
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let evicted = self.ended.as_ref().and_then(|ended| ended.grace_seconds);
        let asked = self.pod.metadata.deletion_grace_period_seconds.or(evicted).or(spec).unwrap_or(30);
        // An object that is gone without a grace of its own was removed by force.
        let is_static = self.pod.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api");
        let forced = self.gone && !self.pod.is_deleting() && self.reporter.is_some() && !is_static;
        if forced { MINIMUM_GRACE_SECONDS } else { asked }
    }

    /// The pod's object goes: so does everything of it on this node.
    async fn clean_up(&mut self) {
        for container in &self.runtime.containers {
            if let Err(error) = self.ctx.runtime.remove_container(&container.id).await {
                tracing::warn!(%error, id = container.id, "remove a container");
            }
        }
        for sandbox in &self.runtime.sandboxes {
            if let Err(error) = self.ctx.runtime.remove_pod_sandbox(&sandbox.id).await {
                tracing::warn!(%error, id = sandbox.id, "remove a sandbox");
            }
        }
        if let Err(error) = volumes::tear_down(self.ctx.pod_dir(self.pod.uid())).await {
            tracing::warn!(%error, pod = self.pod.name(), "take down volumes");
        }
        if let Err(error) = coracle_host::fs::remove_all(&self.ctx.pod_log_dir(&self.pod)) {
            tracing::warn!(%error, pod = self.pod.name(), "remove logs");
        }
    }

    /// Stops everything while the pod may live on, for a new sandbox or because nothing is left to run.
    pub(crate) async fn kill_everything(&mut self) {
        let seconds = coracle_plan_pods::grace_seconds(&self.pod, None, coracle_plan_pods::KillReason::Other);
        let (_sender, deadline) = watch::channel(kill::deadline_in(seconds));
        let pod_ip = self.pod_ip();
        if let Err(error) = kill::kill_pod(&self.ctx, &self.pod, &self.runtime, &pod_ip, deadline).await {
            tracing::warn!(%error, pod = self.pod.name(), "stop a pod");
        }
    }

    /// Asks the runtime for everything known of the pod.
    pub(crate) async fn gather(&mut self) {
        let mut found = RuntimePod::default();
        let mut sandboxes = Vec::new();
        for id in std::mem::take(&mut self.known_sandboxes) {
            match self.ctx.runtime.pod_sandbox_status(&id).await {
                Ok(status) => found.sandboxes.push(status),
                Err(coracle_cri::Error::NotFound(_)) => continue,
                Err(error) => {
                    tracing::warn!(%error, id, "ask for a sandbox");
                    found.sandboxes.extend(self.runtime.sandboxes.iter().find(|sandbox| sandbox.id == id).cloned());
                }
            }
            sandboxes.push(id);
        }
        self.known_sandboxes = sandboxes;
        let mut containers = Vec::new();
        for id in std::mem::take(&mut self.known_containers) {
            match self.container_status(&id).await {
                Ok(status) => found.containers.push(status),
                Err(coracle_cri::Error::NotFound(_)) => continue,
                Err(error) => {
                    tracing::warn!(%error, id, "ask for a container");
                    found.containers.extend(self.runtime.containers.iter().find(|other| other.id == id).cloned());
                }
            }
            containers.push(id);
        }
        self.known_containers = containers;
        found.sort();
        self.runtime = found;
        self.forget_what_is_gone();
        self.collect_dead().await;
    }

    /// An exited container does not change any more, so its last words are read once.
    async fn container_status(&mut self, id: &str) -> coracle_cri::Result<ContainerStatus> {
        let mut status = self.ctx.runtime.container_status(id).await?;
        if status.state != ContainerState::Exited {
            return Ok(status);
        }
        if let Some(known) = self.last_words.get(id) {
            return Ok(known.clone());
        }
        if status.message.is_empty() {
            status.message = termination::last_words(&status).await;
        }
        self.last_words.insert(id.to_owned(), status.clone());
        Ok(status)
    }

    fn forget_what_is_gone(&mut self) {
        let known = &self.known_containers;
        self.last_words.retain(|id, _| known.contains(id));
        self.probes.retain(|id| known.iter().any(|other| other == id));
    }

    /// Of each container's dead, only the last is kept beside the present one.
    async fn collect_dead(&mut self) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut surplus = Vec::new();
        for container in &self.runtime.containers {
            let count = seen.entry(container.metadata.name.clone()).or_default();
            *count += 1;
            if *count > 2 && container.state == ContainerState::Exited {
                surplus.push((container.id.clone(), container.log_path.clone()));
            }
        }
        for (id, log_path) in surplus {
            if let Err(error) = self.ctx.runtime.remove_container(&id).await {
                tracing::warn!(%error, id, "remove a dead container");
                continue;
            }
            crate::logs::remove(std::path::Path::new(&log_path));
            self.known_containers.retain(|other| *other != id);
            self.runtime.containers.retain(|other| other.id != id);
        }
    }

    fn with_view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        look(&View {
            pod: &self.pod,
            runtime: &self.runtime,
            probes: &self.probes,
            waiting: &self.waiting,
            backoff: &self.backoff,
            resize: &self.resize,
            node: &self.ctx.facts,
            now: Timestamp::now(),
        })
    }

    /// Computes the status, hands it to the reporter, and lets probes follow it.
    pub(crate) fn publish(&mut self) {
        let terminal = self.stage == Stage::Ended;
        self.check_resize();
        let status = match &self.ended {
            Some(ended) if self.rejected => rejected_status(&self.asked, &self.status, ended, Timestamp::now()),
            ended => self.with_view(|view| pod_status(view, &self.status, terminal, ended.as_ref())),
        };
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            // Before anybody can hear of it and send another pod.
            self.ctx.admission.release(self.asked.uid());
        }
        if status != self.status || !terminal {
            if let Some(reporter) = &self.reporter {
                reporter.report(&status);
            }
            self.status = status;
        }
        self.inbox.publish(&self.pod, &self.status, &self.runtime);
        self.adjust_probes();
    }

    fn adjust_probes(&mut self) {
        let mut subjects = Vec::new();
        let pod = self.pod.clone();
        let lists = [&self.status.init_container_statuses, &self.status.container_statuses];
        for status in lists.into_iter().flat_map(|list| list.as_deref().unwrap_or_default()) {
            let Some(container) = find_container(&pod, &status.name) else { continue };
            let regular = pod.spec.iter().any(|spec| spec.containers.iter().any(|other| other.name == status.name));
            let Some(latest) = self.runtime.latest(&status.name) else { continue };
            if latest.state != ContainerState::Running || !(regular || is_sidecar(container)) {
                continue;
            }
            subjects.push(Subject {
                container,
                id: &latest.id,
                started_at: latest.started_at,
                started: status.started == Some(true),
            });
        }
        let ending = self.gone || self.pod.is_deleting() || self.ended.is_some();
        let pod_ip = self.pod_ip();
        self.probe_set.adjust(&self.ctx, &pod, &self.inbox, &pod_ip, &subjects, ending);
    }

    pub(crate) fn pod_ip(&self) -> String {
        self.pod_ips().first().cloned().unwrap_or_default()
    }

    fn pod_ips(&self) -> Vec<String> {
        if self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
            return self.ctx.facts.ips.clone();
        }
        self.runtime.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    pub(crate) fn facts(&self) -> PodFacts {
        let node = self.ctx.admission.node();
        PodFacts {
            pod_ips: self.pod_ips(),
            host_ips: self.ctx.facts.ips.clone(),
            allocatable: node.status.as_ref().and_then(|status| status.allocatable.clone()).unwrap_or_default(),
        }
    }

    /// Source: `RuntimeClass.handler`.
    pub(crate) async fn runtime_handler(&self) -> crate::Result<String> {
        use k8s_openapi::api::node::v1::RuntimeClass;
        let name = self.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone());
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(String::new()) };
        let class = coracle_client::Api::<RuntimeClass>::all(&self.ctx.client).get(&name).await?;
        Ok(class.handler)
    }

    /// A stand-in for a pod that only the runtime knows: enough to end it.
    pub(crate) fn orphan(namespace: &str, name: &str, uid: &str, containers: Vec<Container>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some(namespace.to_owned());
        pod.metadata.uid = Some(uid.to_owned());
        pod.spec = Some(k8s_openapi::api::core::v1::PodSpec { containers, ..Default::default() });
        Arc::new(pod)
    }
}

fn add_new(list: &mut Vec<String>, more: Vec<String>) {
    for id in more {
        if !list.contains(&id) {
            list.push(id);
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

fn seconds_from_now(seconds: i64) -> Timestamp {
    Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

async fn sleep_until(wake: Option<Timestamp>) {
    let Some(wake) = wake else { return std::future::pending().await };
    let left = wake.as_nanosecond() - Timestamp::now().as_nanosecond();
    tokio::time::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0))).await;
}
