//! Drives the scheduler: follows the cluster, asks `plan-scheduler` for one pod after the other, binds.
//!
//! One task owns all state ([`Scheduler`]); it sleeps until something happens or a backoff ends. Bindings and other calls
//! run beside it: a chosen node is assumed at once and forgotten when the binding fails. This crate never decides.

mod act;
mod feed;

use std::sync::Arc;

use coracle_client::{Api, Client, EventRecorder, Informer, ListParams};
use coracle_plan_core::rng::Rng;
use coracle_plan_scheduler::{Cluster, Decision, Nomination, PodInfo, Queue, schedule};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use act::{Act, Outcome};
use coracle_api_types::Object;
use feed::Feeds;

/// Outcomes of calls that wait to be looked at.
const OUTCOMES_MAX: usize = 1024;

/// How the scheduler is run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are ours.
    pub scheduler_name: String,
    /// Equal seeds and equal events give equal placements.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".to_owned(), seed: 0 }
    }
}

/// Schedules until `stop`. The handle ends when everything under way is done.
pub fn start(config: Config, client: Client, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(run(config, client, stop))
}

async fn run(config: Config, client: Client, stop: CancellationToken) {
    let informers = Informers::new(&client, &stop);
    let recorder = EventRecorder::new(&client, &config.scheduler_name, "");
    let (sender, outcomes) = mpsc::channel(OUTCOMES_MAX);
    let tasks = TaskTracker::new();
    let act = Act::new(client, recorder, &config.scheduler_name, sender, tasks.clone());
    if stop.run_until_cancelled(informers.wait_synced()).await.is_some() {
        let feeds = Feeds::new(&informers);
        let scheduler =
            Scheduler { cluster: Cluster::default(), queue: Queue::default(), rng: Rng::new(config.seed), config, act };
        stop.run_until_cancelled(scheduler.run(feeds, outcomes)).await;
    }
    tasks.close();
    tasks.wait().await;
}

/// What the scheduler follows.
struct Informers {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    budgets: Informer<PodDisruptionBudget>,
}

impl Informers {
    fn new(client: &Client, stop: &CancellationToken) -> Self {
        fn all<K: Object>(client: &Client, stop: &CancellationToken) -> Informer<K> {
            Informer::start(Api::all(client), ListParams::default(), stop.clone())
        }
        let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        Self {
            pods: Informer::start(Api::all(client), running, stop.clone()),
            nodes: all(client, stop),
            namespaces: all(client, stop),
            claims: all(client, stop),
            volumes: all(client, stop),
            classes: all(client, stop),
            budgets: all(client, stop),
        }
    }

    async fn wait_synced(&self) {
        self.pods.wait_synced().await;
        self.nodes.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.claims.wait_synced().await;
        self.volumes.wait_synced().await;
        self.classes.wait_synced().await;
        self.budgets.wait_synced().await;
    }
}

/// All state of the scheduler.
struct Scheduler {
    config: Config,
    cluster: Cluster,
    queue: Queue,
    rng: Rng,
    act: Act,
}

impl Scheduler {
    async fn run(mut self, mut feeds: Feeds, mut outcomes: mpsc::Receiver<Outcome>) {
        loop {
            let now = Timestamp::now();
            while let Some(pod) = self.queue.pop(now) {
                self.schedule_one(&pod, now);
            }
            let due = self.queue.next_due().map(|due| coracle_plan_core::time::since(now, due));
            let timer = async {
                match due {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                batch = feeds.next() => self.take(batch, Timestamp::now()),
                Some(outcome) = outcomes.recv() => self.settle(outcome, Timestamp::now()),
                () = timer => {}
            }
        }
    }

    fn schedule_one(&mut self, pod: &Arc<PodInfo>, now: Timestamp) {
        let uid = pod.pod.uid().to_owned();
        match schedule(&self.cluster, pod, &mut self.rng) {
            Decision::Bind { node, volumes } => {
                self.cluster.assume(pod.clone(), &node);
                self.act.bind(pod.pod.clone(), node, volumes);
            }
            Decision::Reject(refusal) => {
                match &refusal.nomination {
                    Nomination::Free(preemption) => {
                        let waiting = (preemption.node.clone(), pod.clone());
                        self.cluster.nominated.insert(uid.clone(), waiting);
                    }
                    Nomination::Clear => drop(self.cluster.nominated.remove(&uid)),
                    Nomination::Keep => {}
                }
                self.queue.failed(&uid, refusal.plugins.clone(), now);
                self.act.refuse(pod.pod.clone(), *refusal);
            }
        }
    }

    /// What became of a call.
    fn settle(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::Bound { uid } => self.queue.remove(&uid),
            Outcome::BindFailed { uid, pod, message } => {
                self.cluster.forget(&uid);
                self.queue.failed(&uid, std::collections::BTreeSet::new(), now);
                self.queue.happened(coracle_plan_scheduler::Happening::PodGone, now);
                self.act.report_error(&pod, &message);
            }
        }
    }
}
