//! Hands pods to their workers: from the API, from what the runtime already has, and events of the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_client::{Api, Change, Informer, ListParams};
use coracle_cri::RuntimeEvent;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::task::JoinSet;

use crate::act::event_target;
use crate::context::Ctx;
use crate::reporter::Reporter;
use crate::sandbox::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::source::Inbox;
use crate::worker::Worker;

use super::static_pods::{self, Mirrors, is_mirror};

/// What the runtime has of one pod.
#[derive(Debug, Default)]
struct Found {
    namespace: String,
    name: String,
    sandboxes: Vec<String>,
    containers: Vec<String>,
    container_names: Vec<String>,
}

/// Runs until the kubelet stops; then lets go of all pods.
pub(super) async fn run(ctx: Ctx) {
    let stop = ctx.stop.clone();
    let mut events = ctx.runtime.events();
    let pods = Informer::<Pod>::start(
        Api::all(&ctx.client),
        ListParams::default().fields(&format!("spec.nodeName={}", ctx.config.node_name)),
        stop.clone(),
    );
    let (static_sender, mut static_pods) = tokio::sync::mpsc::channel(1);
    let watching = ctx.config.static_pod_dir.clone().map(|dir| {
        let watch = static_pods::watch(dir, ctx.config.node_name.clone(), static_sender);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch))
    });
    let found = survey(&ctx).await;
    let mirrors = Mirrors::start(&ctx, &stop);
    let mut source = Source { found, workers: JoinSet::new(), files: BTreeMap::new(), mirrors, ctx };
    // Static pods run without the API.
    if watching.is_some() {
        match stop.run_until_cancelled(static_pods.recv()).await {
            Some(Some(list)) => source.set_files(list),
            Some(None) => {}
            None => return,
        }
    }
    let synced = async {
        loop {
            tokio::select! {
                () = pods.wait_synced() => return,
                Some(list) = static_pods.recv() => source.set_files(list),
                Some(event) = events.recv() => source.tell(&event).await,
            }
        }
    };
    if stop.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let mut changes = pods.subscribe();
    source.first(&pods);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(list) = static_pods.recv() => source.set_files(list),
            batch = changes.next() => batch.into_iter().for_each(|change| source.handle(change)),
            event = events.recv() => match event {
                Some(event) => source.tell(&event).await,
                None => break,
            },
            Some(_) = source.workers.join_next() => {}
        }
    }
    while source.workers.join_next().await.is_some() {}
}

struct Source {
    ctx: Ctx,
    found: BTreeMap<String, Found>,
    workers: JoinSet<()>,
    /// Static pods by uid.
    files: BTreeMap<String, Arc<Pod>>,
    mirrors: Mirrors,
}

impl Source {
    /// The manifests that are there now.
    fn set_files(&mut self, list: Vec<Pod>) {
        let fresh: BTreeMap<String, Arc<Pod>> =
            list.into_iter().map(|pod| (pod.uid().to_owned(), Arc::new(pod))).collect();
        for uid in self.files.keys().filter(|uid| !fresh.contains_key(*uid)) {
            if let Some(inbox) = self.ctx.workers.get(uid) {
                inbox.post(|news| news.gone = true);
            }
        }
        for (uid, pod) in &fresh {
            if let Some(inbox) = self.ctx.workers.open(uid) {
                let reporter = Reporter::for_mirror(&self.ctx.client, pod);
                self.begin(&inbox, pod.clone(), reporter);
            }
        }
        self.mirrors.set(fresh.values().cloned().collect());
        self.files = fresh;
    }

    /// Adopts the pods of the API, and ends those that only the runtime knows.
    fn first(&mut self, pods: &Informer<Pod>) {
        let mut all: Vec<Arc<Pod>> = pods.list().into_iter().filter(|pod| !is_mirror(pod)).collect();
        // Those that run keep their place; then the oldest comes first.
        let runs = |pod: &Arc<Pod>| self.found.contains_key(pod.uid());
        all.sort_by_key(|pod| (!runs(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        for pod in all {
            self.open(pod);
        }
        for (uid, found) in std::mem::take(&mut self.found) {
            let containers = found.container_names.iter();
            let containers = containers.map(|name| Container { name: name.clone(), ..Container::default() });
            let pod = Worker::orphan(&found.namespace, &found.name, &uid, containers.collect());
            tracing::info!(pod = found.name, namespace = found.namespace, uid, "end a pod that is not known any more");
            let Some(inbox) = self.ctx.workers.open(&uid) else { continue };
            post_found(&inbox, found);
            inbox.post(|news| news.gone = true);
            self.workers.spawn(Worker::new(self.ctx.clone(), inbox, pod, None).run());
        }
    }

    fn handle(&mut self, change: Change<Pod>) {
        if change.new.as_ref().or(change.old.as_ref()).is_some_and(|pod| is_mirror(pod)) {
            self.mirrors.look();
            if let Some(mirror) = change.new
                && let Some((uid, _)) = self.files.iter().find(|(_, pod)| static_pods::mirrors(&mirror, pod))
                && let Some(inbox) = self.ctx.workers.get(uid)
            {
                inbox.post(|news| news.mirror = Some(mirror));
            }
            return;
        }
        let old_uid = change.old.as_ref().map(|pod| pod.uid().to_owned());
        let new_uid = change.new.as_ref().map(|pod| pod.uid().to_owned());
        if let Some(uid) = old_uid.filter(|uid| Some(uid) != new_uid.as_ref())
            && let Some(inbox) = self.ctx.workers.get(&uid)
        {
            inbox.post(|news| news.gone = true);
        }
        let Some(pod) = change.new else { return };
        match self.ctx.workers.get(pod.uid()) {
            Some(inbox) => inbox.post(|news| news.pod = Some(pod)),
            None => self.open(pod),
        }
    }

    fn open(&mut self, pod: Arc<Pod>) {
        let Some(inbox) = self.ctx.workers.open(pod.uid()) else { return };
        let reporter = Reporter::start(&self.ctx.client, &pod);
        self.begin(&inbox, pod, reporter);
    }

    /// Takes the pod or turns it down; either way a worker sees to it.
    fn begin(&mut self, inbox: &Arc<Inbox>, pod: Arc<Pod>, reporter: Reporter) {
        let ctx = self.ctx.clone();
        let found = self.found.remove(pod.uid());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        let runs = found.is_some();
        let judged = match &found {
            Some(_) => {
                ctx.admission.adopt(&pod);
                Ok(())
            }
            None if over || pod.is_deleting() => Ok(()),
            None => ctx.admission.admit(&pod),
        };
        if let Some(found) = found {
            post_found(inbox, found);
        }
        let mut worker = Worker::new(ctx, inbox.clone(), pod, Some(reporter));
        if let Err(rejection) = judged {
            worker.reject(rejection);
        } else if over && !runs {
            worker.stay_rejected();
        }
        self.workers.spawn(worker.run());
    }

    async fn tell(&mut self, event: &RuntimeEvent) {
        let Some((uid, sandbox, container)) = event_target(event) else {
            for (uid, found) in survey(&self.ctx).await {
                if let Some(inbox) = self.ctx.workers.get(&uid) {
                    post_found(&inbox, found);
                }
            }
            return;
        };
        if let Some(inbox) = self.ctx.workers.get(uid) {
            inbox.post(|news| {
                news.sandboxes.push(sandbox.to_owned());
                news.containers.extend(container.map(str::to_owned));
            });
        }
    }
}

fn post_found(inbox: &Inbox, found: Found) {
    inbox.post(|news| {
        news.sandboxes.extend(found.sandboxes);
        news.containers.extend(found.containers);
    });
}

/// Everything that the runtime has, by pod. Tries until it answers.
async fn survey(ctx: &Ctx) -> BTreeMap<String, Found> {
    loop {
        match try_survey(ctx).await {
            Ok(found) => return found,
            Err(error) => tracing::warn!(%error, "list what the runtime has"),
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

async fn try_survey(ctx: &Ctx) -> coracle_cri::Result<BTreeMap<String, Found>> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for sandbox in ctx.runtime.list_pod_sandboxes().await? {
        if let Some(users) = &sandbox.namespaces.user {
            ctx.users.remember(&sandbox.metadata.uid, users);
        }
        let found = all.entry(sandbox.metadata.uid.clone()).or_default();
        found.namespace = sandbox.metadata.namespace;
        found.name = sandbox.metadata.name;
        found.sandboxes.push(sandbox.id);
    }
    for container in ctx.runtime.list_containers().await? {
        let Some(uid) = container.labels.get(LABEL_POD_UID) else { continue };
        let found = all.entry(uid.clone()).or_default();
        found.containers.push(container.id);
        found.container_names.extend(container.labels.get(LABEL_CONTAINER_NAME).cloned());
    }
    Ok(all)
}
