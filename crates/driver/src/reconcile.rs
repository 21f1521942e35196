//! Workers over a queue.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coracle_plan_core::Plan;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Failure, Hands, Queue};

/// One turn of work.
#[derive(Debug, Clone)]
pub struct Request<K> {
    pub key: K,
    pub now: Timestamp,
    /// Why the key's last turn failed.
    pub failure: Option<Failure>,
}

/// Makes the world fit for one key. It gets a key and never the event.
#[async_trait]
pub trait Reconcile: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Display + Debug + Send + Sync + 'static;

    fn name(&self) -> &str;

    /// Says when to look at the key again although nothing changed.
    async fn reconcile(&self, request: Request<Self::Key>) -> Result<Option<Duration>, Failure>;
}

/// A decider with hands: carries out `plan(request)`.
pub struct Planned<K, F> {
    name: &'static str,
    hands: Hands,
    plan: F,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K, F: Fn(&Request<K>) -> Plan> Planned<K, F> {
    pub fn new(name: &'static str, hands: Hands, plan: F) -> Self {
        Self { name, hands, plan, key: std::marker::PhantomData }
    }
}

#[async_trait]
impl<K, F> Reconcile for Planned<K, F>
where
    K: Clone + Eq + Hash + Display + Debug + Send + Sync + 'static,
    F: Fn(&Request<K>) -> Plan + Send + Sync + 'static,
{
    type Key = K;

    fn name(&self) -> &str {
        self.name
    }

    async fn reconcile(&self, request: Request<K>) -> Result<Option<Duration>, Failure> {
        let plan = (self.plan)(&request);
        for why in &plan.why {
            tracing::debug!(controller = self.name, key = %request.key, choice = why.choice, "because {}", why.because);
        }
        self.hands.carry_out(&plan).await?;
        Ok(plan.requeue_after)
    }
}

type Failures<K> = Arc<Mutex<HashMap<K, Failure>>>;

/// Works until `stop`, on at most `workers` keys at once. Turns under way are finished.
pub async fn run<R: Reconcile>(reconciler: R, queue: Queue<R::Key>, workers: usize, stop: CancellationToken) {
    let reconciler = Arc::new(reconciler);
    let failures: Failures<R::Key> = Arc::default();
    let mut turns = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            key = queue.next(), if turns.len() < workers => {
                turns.spawn(turn(reconciler.clone(), queue.clone(), failures.clone(), key));
            }
            Some(ended) = turns.join_next(), if !turns.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(controller = reconciler.name(), %error, "a turn broke off");
                }
            }
        }
    }
    while turns.join_next().await.is_some() {}
}

/// Gives the key back also when the turn panics.
struct Working<K: Clone + Eq + Hash>(Queue<K>, K);

impl<K: Clone + Eq + Hash> Drop for Working<K> {
    fn drop(&mut self) {
        self.0.done(&self.1);
    }
}

async fn turn<R: Reconcile>(reconciler: Arc<R>, queue: Queue<R::Key>, failures: Failures<R::Key>, key: R::Key) {
    let working = Working(queue.clone(), key.clone());
    let failure = failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    let request = Request { key: key.clone(), now: Timestamp::now(), failure };
    match reconciler.reconcile(request).await {
        Ok(after) => {
            queue.forget(&key);
            if let Some(after) = after {
                queue.add_after(key, after);
            }
        }
        Err(failure) => {
            tracing::debug!(controller = reconciler.name(), %key, %failure, "will try again");
            failures.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), failure);
            queue.retry(key);
        }
    }
    drop(working);
}
