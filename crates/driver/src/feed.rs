//! From changes of objects to keys.

use std::hash::Hash;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::{Change, Informer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Queue;

/// Every changed object is a key.
pub fn feed<K: Object>(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    informer: &Informer<K>,
    queue: &Queue<ObjectKey>,
) {
    feed_with(tasks, stop, informer, queue, |change| vec![change.key.clone()]);
}

/// `keys` names the keys that a change concerns.
pub fn feed_with<K, Q>(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    informer: &Informer<K>,
    queue: &Queue<Q>,
    keys: impl Fn(&Change<K>) -> Vec<Q> + Send + Sync + 'static,
) where
    K: Object,
    Q: Clone + Eq + Hash + Send + Sync + 'static,
{
    let mut changes = informer.subscribe();
    let queue = queue.clone();
    let work = async move {
        loop {
            for change in changes.next().await {
                keys(&change).into_iter().for_each(|key| queue.add(key));
            }
        }
    };
    let stop = stop.clone();
    tasks.spawn(async move { stop.run_until_cancelled(work).await });
}
