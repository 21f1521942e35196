//! Garbage collection by owner, over every resource that the server has.

mod monitor;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::{GroupVersion, Gvr, ObjectKey};
use coracle_client::{Client, DynamicApi, Error};
use coracle_driver::{Failure, Hands, Queue, Reconcile, Request};
use coracle_plan_controllers::gc::{Graph, Item, OwnerState, Work};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::Context;
use crate::discovery::Resource;
use monitor::Monitors;

const WORKERS: usize = 20;
/// Owners that are remembered to be gone.
const ABSENT_MAX: usize = 500;

/// How many objects there are, for quotas.
#[derive(Clone)]
pub struct Census {
    shared: Shared,
}

impl Census {
    /// Objects of a resource, written `resource` or `resource.group`, in a namespace. `None` for unknown resources.
    pub fn count(&self, resource: &str, namespace: &str) -> Option<usize> {
        Some(locked(&self.shared.graph).count(&self.gvr(resource)?, namespace))
    }

    /// Where a resource, written as for [`Census::count`], is served.
    pub fn gvr(&self, resource: &str) -> Option<Gvr> {
        let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
        let known = locked(&self.shared.resources);
        known.values().find(|own| own.gvr.resource == name && own.gvr.group == group).map(|own| own.gvr.clone())
    }

    /// `listener` gets the namespace of every object that comes or goes.
    pub fn on_change(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        *locked(&self.shared.listener) = Some(Arc::new(listener));
    }
}

pub fn start(context: &Context) -> Census {
    let queue = Queue::new();
    let shared =
        Shared { graph: Arc::default(), resources: Arc::default(), listener: Arc::default(), queue: queue.clone() };
    let census = Census { shared: shared.clone() };
    let monitors = Monitors::new(context, shared.clone());
    let hands = context.hands("garbage-collector-controller");
    let collector = Collector { shared, absent: Mutex::default(), client: hands.client().clone(), hands };
    let stop = context.stop.clone();
    let run = coracle_driver::run(collector, queue, WORKERS, context.stop.clone());
    context.tasks.spawn(async move {
        // Before everything is known, a missing owner says nothing.
        let mut monitors = monitors;
        if stop.run_until_cancelled(monitors.sync()).await.is_some() {
            tokio::join!(run, async {
                stop.run_until_cancelled(monitors.run()).await;
            });
        }
    });
    census
}

type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// What the monitors fill and the collector reads.
#[derive(Clone)]
struct Shared {
    graph: Arc<Mutex<Graph>>,
    /// By group and kind.
    resources: Arc<Mutex<BTreeMap<(String, String), Resource>>>,
    listener: Arc<Mutex<Option<Listener>>>,
    queue: Queue<Work>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn add(&self, work: Vec<Work>) {
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    fn set(&self, item: Item) {
        let namespace = item.key.namespace.clone();
        let mut graph = locked(&self.graph);
        let new = graph.get(&item.uid).is_none();
        let work = graph.set(item);
        drop(graph);
        self.add(work);
        if new {
            self.tell(&namespace);
        }
    }

    fn remove(&self, uid: &str) {
        let mut graph = locked(&self.graph);
        let namespace = graph.get(uid).map(|item| item.key.namespace.clone());
        let work = graph.remove(uid);
        drop(graph);
        self.add(work);
        if let Some(namespace) = namespace {
            self.tell(&namespace);
        }
    }

    fn tell(&self, namespace: &str) {
        let listener = locked(&self.listener).clone();
        if let Some(listener) = listener.filter(|_| !namespace.is_empty()) {
            listener(namespace);
        }
    }
}

struct Collector {
    shared: Shared,
    absent: Mutex<VecDeque<String>>,
    hands: Hands,
    client: Client,
}

#[async_trait]
impl Reconcile for Collector {
    type Key = Work;

    fn name(&self) -> &str {
        "garbage-collector-controller"
    }

    async fn reconcile(&self, request: Request<Work>) -> Result<Option<Duration>, Failure> {
        let (Work::Examine(uid) | Work::Orphan(uid)) = &request.key;
        let Some(known) = locked(&self.shared.graph).get(uid).cloned() else { return Ok(None) };
        let Some(latest) = self.latest(&known).await? else {
            self.shared.remove(uid);
            return Ok(None);
        };
        if let Work::Orphan(_) = request.key {
            let plan = locked(&self.shared.graph).orphan(&latest);
            self.hands.carry_out(&plan).await?;
            return Ok(None);
        }
        let mut states = BTreeMap::new();
        if !latest.deleting {
            for owner in &latest.owners {
                states.insert(owner.uid.clone(), self.owner_state(owner, &latest.key.namespace).await?);
            }
        }
        let state = |owner: &OwnerReference| states.get(&owner.uid).copied().unwrap_or(OwnerState::Solid);
        let (plan, work) = locked(&self.shared.graph).examine(&latest, state);
        self.hands.carry_out(&plan).await?;
        self.shared.add(work);
        Ok(None)
    }
}

impl Collector {
    /// `None` when the object is gone.
    async fn latest(&self, known: &Item) -> Result<Option<Item>, Failure> {
        let api = DynamicApi::namespaced(&self.client, &known.gvr, &known.key.namespace);
        match api.get(&known.key.name).await {
            Ok(bytes) => Ok(monitor::read_item(&known.gvr, &bytes).filter(|item| item.uid == known.uid)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Failure::read(&known.gvr.resource, &error)),
        }
    }

    async fn owner_state(&self, owner: &OwnerReference, namespace: &str) -> Result<OwnerState, Failure> {
        if let Some(state) = locked(&self.shared.graph).owner_state(&owner.uid) {
            return Ok(state);
        }
        if locked(&self.absent).contains(&owner.uid) {
            return Ok(OwnerState::Absent);
        }
        let group = GroupVersion::parse(&owner.api_version).unwrap_or_default().group;
        let resource = locked(&self.shared.resources).get(&(group, owner.kind.clone())).cloned();
        // The owner's kind may come back with its definition: until then its objects are not known to be gone.
        let Some(resource) = resource else {
            return Err(Failure {
                verb: "read",
                resource: owner.kind.clone(),
                message: format!("no resource serves owners of kind {} in {}", owner.kind, owner.api_version),
                reason: String::new(),
            });
        };
        let namespace = if resource.namespaced { namespace } else { "" };
        let key = ObjectKey::new(namespace, &owner.name);
        let api = DynamicApi::namespaced(&self.client, &resource.gvr, &key.namespace);
        match api.get(&key.name).await {
            Ok(bytes) => match monitor::read_item(&resource.gvr, &bytes).filter(|item| item.uid == owner.uid) {
                Some(item) if item.waits_for_dependents() => Ok(OwnerState::Waiting),
                Some(_) => Ok(OwnerState::Solid),
                None => Ok(self.note_absent(&owner.uid)),
            },
            Err(error) if error.is_not_found() => Ok(self.note_absent(&owner.uid)),
            Err(Error::Api(status)) if status.code == 405 => Ok(OwnerState::Solid),
            Err(error) => Err(Failure::read(&resource.gvr.resource, &error)),
        }
    }

    fn note_absent(&self, uid: &str) -> OwnerState {
        let mut absent = locked(&self.absent);
        if absent.len() == ABSENT_MAX {
            absent.pop_front();
        }
        absent.push_back(uid.to_owned());
        OwnerState::Absent
    }
}
