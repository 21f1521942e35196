//! Follows the metadata of every resource, and the definitions that add resources.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api_meta::{Gvr, ObjectKey};
use coracle_client::{Client, DynamicApi, Error, ListParams, Result, WatchEvent};
use coracle_plan_controllers::gc::Item;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Shared, locked};
use crate::Context;
use crate::discovery::{self, Resource};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Resources are looked up again so long after a definition changed, which gathers changes.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the first look waits for one resource.
const SYNC_MAX: Duration = Duration::from_secs(30);
const CHUNK_OBJECTS: u32 = 500;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct List<'a> {
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

fn item_of(gvr: &Gvr, meta: Meta) -> Item {
    Item {
        gvr: gvr.clone(),
        key: ObjectKey::new(meta.namespace, meta.name),
        uid: meta.uid,
        resource_version: meta.resource_version,
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.unwrap_or_default(),
        owners: meta.owner_references.unwrap_or_default(),
    }
}

/// `None` for what has no uid.
pub fn read_item(gvr: &Gvr, bytes: &[u8]) -> Option<Item> {
    let object: Object = serde_json::from_slice(bytes).ok()?;
    let item = item_of(gvr, object.metadata);
    (!item.uid.is_empty()).then_some(item)
}

/// A monitor per resource.
pub struct Monitors {
    client: Client,
    shared: Shared,
    stop: CancellationToken,
    tasks: TaskTracker,
    running: BTreeMap<Gvr, Running>,
    changed: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
}

struct Running {
    stop: CancellationToken,
    synced: watch::Receiver<bool>,
}

/// Resources whose objects own nothing and are owned by nothing that matters, and change often.
fn is_ignored(gvr: &Gvr) -> bool {
    gvr.resource == "events" && (gvr.group.is_empty() || gvr.group == "events.k8s.io")
}

/// Objects of these add resources to the server.
fn defines_resources(gvr: &Gvr) -> bool {
    matches!(
        (gvr.group.as_str(), gvr.resource.as_str()),
        ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices")
    )
}

impl Monitors {
    pub fn new(context: &Context, shared: Shared) -> Self {
        let (changed, changes) = mpsc::channel(1);
        Self {
            client: context.clients.manager.clone(),
            shared,
            stop: context.stop.clone(),
            tasks: context.tasks.clone(),
            running: BTreeMap::new(),
            changed,
            changes,
        }
    }

    /// Starts a monitor for every resource and waits until all have their first list.
    pub async fn sync(&mut self) {
        let mut backoff = BACKOFF_FIRST;
        while !self.refresh().await {
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        for running in self.running.values() {
            let mut synced = running.synced.clone();
            let wait = synced.wait_for(|synced| *synced);
            if tokio::time::timeout(SYNC_MAX, wait).await.is_err() {
                tracing::debug!("a resource cannot be listed; its objects are not collected yet");
            }
        }
        let work = locked(&self.shared.graph).all_work();
        self.shared.add(work);
    }

    /// Adds and drops monitors as definitions come and go.
    pub async fn run(&mut self) {
        while self.changes.recv().await.is_some() {
            tokio::time::sleep(SETTLE).await;
            while self.changes.try_recv().is_ok() {}
            if !self.refresh().await {
                // Tried again: what was not discovered now must not be forgotten.
                let _ = self.changed.try_send(());
            }
        }
    }

    /// Says whether the server could be asked.
    async fn refresh(&mut self) -> bool {
        let (resources, failed) = match discovery::preferred(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "discover resources");
                return false;
            }
        };
        let wanted: Vec<&Resource> = resources
            .iter()
            .filter(|own| own.has_verbs(&["delete", "list", "watch"]) && !is_ignored(&own.gvr))
            .collect();
        if failed.is_empty() {
            let gone: Vec<Gvr> =
                self.running.keys().filter(|gvr| !wanted.iter().any(|own| own.gvr == **gvr)).cloned().collect();
            gone.iter().for_each(|gvr| self.drop_monitor(gvr));
        }
        let by_kind = resources.iter().map(|own| ((own.gvr.group.clone(), own.kind.clone()), own.clone()));
        *locked(&self.shared.resources) = by_kind.collect();
        for resource in wanted {
            if !self.running.contains_key(&resource.gvr) {
                let running = self.start(resource.gvr.clone());
                self.running.insert(resource.gvr.clone(), running);
            }
        }
        true
    }

    fn drop_monitor(&mut self, gvr: &Gvr) {
        let Some(running) = self.running.remove(gvr) else { return };
        running.stop.cancel();
        let gone = locked(&self.shared.graph).of_resource(gvr);
        gone.iter().for_each(|uid| self.shared.remove(uid));
    }

    fn start(&self, gvr: Gvr) -> Running {
        let stop = self.stop.child_token();
        let (sender, synced) = watch::channel(false);
        let definitions = defines_resources(&gvr).then(|| self.changed.clone());
        let monitor = Monitor {
            api: DynamicApi::all(&self.client, &gvr),
            gvr,
            shared: self.shared.clone(),
            synced: sender,
            definitions,
        };
        let token = stop.clone();
        self.tasks.spawn(async move { token.run_until_cancelled(monitor.run()).await });
        Running { stop, synced }
    }
}

struct Monitor {
    api: DynamicApi,
    gvr: Gvr,
    shared: Shared,
    synced: watch::Sender<bool>,
    definitions: Option<mpsc::Sender<()>>,
}

impl Monitor {
    async fn run(self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.list_and_watch(&mut backoff).await {
                Ok(()) => {}
                Err(error) if error.is_expired() => continue,
                Err(error) => tracing::debug!(resource = self.gvr.group_resource(), %error, "follow"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn list_and_watch(&self, backoff: &mut Duration) -> Result<()> {
        let mut version = self.list().await?;
        self.synced.send_replace(true);
        loop {
            let params = ListParams { resource_version: version.clone(), ..ListParams::default() };
            let mut stream = self.api.watch(&params).await?;
            *backoff = BACKOFF_FIRST;
            let mut seen = false;
            loop {
                match stream.next().await {
                    Ok(Some(event)) => {
                        self.handle(&event, &mut version);
                        seen = true;
                    }
                    Ok(None) | Err(Error::Transport(_)) => break,
                    Err(error) => return Err(error),
                }
            }
            if !seen {
                tokio::time::sleep(BACKOFF_FIRST).await;
            }
        }
    }

    /// Answers the list's version.
    async fn list(&self) -> Result<String> {
        let mut params = ListParams { limit: CHUNK_OBJECTS, ..ListParams::default() };
        let mut version = String::new();
        let mut present = std::collections::BTreeSet::new();
        loop {
            let bytes = self.api.list_page(&params).await?;
            let page: List<'_> = serde_json::from_slice(&bytes)?;
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            for raw in page.items.unwrap_or_default() {
                if let Some(item) = read_item(&self.gvr, raw.get().as_bytes()) {
                    present.insert(item.uid.clone());
                    self.shared.set(item);
                }
            }
            if page.metadata.continue_token.is_empty() {
                break;
            }
            params.continue_token = page.metadata.continue_token;
        }
        let known = locked(&self.shared.graph).of_resource(&self.gvr);
        known.iter().filter(|uid| !present.contains(*uid)).for_each(|uid| self.shared.remove(uid));
        Ok(version)
    }

    fn handle(&self, event: &WatchEvent, version: &mut String) {
        let (WatchEvent::Added(bytes)
        | WatchEvent::Modified(bytes)
        | WatchEvent::Deleted(bytes)
        | WatchEvent::Bookmark(bytes)) = event;
        let Ok(object) = serde_json::from_slice::<Object>(bytes) else { return };
        object.metadata.resource_version.clone_into(version);
        match event {
            WatchEvent::Added(_) | WatchEvent::Modified(_) => {
                self.shared.set(item_of(&self.gvr, object.metadata));
            }
            WatchEvent::Deleted(_) => self.shared.remove(&object.metadata.uid),
            WatchEvent::Bookmark(_) => return,
        }
        if let Some(definitions) = &self.definitions {
            // Full: a change is announced already.
            let _ = definitions.try_send(());
        }
    }
}
