//! Follows the API and keeps the rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api_types::k8s_openapi::api::core::v1::{Node, Service};
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_client::{Api, Change, Changes, Client, Informer, ListParams};
use coracle_host_net::{HostNet, Kernel, Meddling, Touched};
use coracle_nft::{Change as TableChange, Family};
use tokio_util::sync::CancellationToken;

use crate::health::Servers;
use crate::rules::Rules;
use crate::status::{self, Status};
use crate::{Config, Error};

/// How soon a failed transaction is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the table is looked for, besides when the kernel tells that somebody touched it: other programs flush the
/// whole ruleset when they restart.
const REPAIR_EVERY: Duration = Duration::from_secs(30);

/// Source: `ToBeDeletedTaint` of kube-proxy's health check.
const TAINT_LEAVING: &str = "ToBeDeletedByClusterAutoscaler";
/// Source: `LabelTopologyZone`.
const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// Keeps the rules of the namespace that it is called in, until `stop`. They stay when it ends.
pub async fn run(config: Config, client: Client, stop: CancellationToken) -> Result<(), Error> {
    run_on(config, client, Arc::new(Kernel::new()?), stop).await
}

/// The same on a host of the caller's.
pub async fn run_on(
    config: Config,
    client: Client,
    host: Arc<dyn HostNet>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let follow = Follow::start(&config, &client, &stop);
    let meddling = host.meddling();
    let rules = Rules::new(&config, host);
    let status = Status::default();
    status::start(&status, config.healthz, config.metrics, &stop).await;
    stop.run_until_cancelled(follow.keep(rules, meddling, status)).await;
    Ok(())
}

/// Removes the tables.
pub async fn reset(config: &Config, host: &dyn HostNet) -> Result<(), Error> {
    for family in [Family::Ip, Family::Ip6] {
        host.apply(family, &config.table, &[TableChange::DeleteTable]).await?;
    }
    Ok(())
}

struct Follow {
    node_name: String,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
}

enum Event {
    Services(Vec<Change<Service>>),
    Slices(Vec<Change<EndpointSlice>>),
    Nodes,
    /// Nothing new: what is known is brought to the host (again).
    Retry,
    Repair(Touched),
}

impl Follow {
    fn start(config: &Config, client: &Client, stop: &CancellationToken) -> Follow {
        let no_other_proxy = ListParams::default().labels("!service.kubernetes.io/service-proxy-name");
        let not_headless = ListParams::default().labels("!service.kubernetes.io/headless");
        let own_node = ListParams::default().fields(&format!("metadata.name={}", config.node_name));
        Follow {
            node_name: config.node_name.clone(),
            services: Informer::start(Api::all(client), no_other_proxy, stop.clone()),
            slices: Informer::start(Api::all(client), not_headless, stop.clone()),
            nodes: Informer::start(Api::all(client), own_node, stop.clone()),
        }
    }

    async fn keep(self, mut rules: Rules, mut meddling: Meddling, status: Status) {
        self.services.wait_synced().await;
        self.slices.wait_synced().await;
        let mut services = self.services.subscribe();
        let mut slices = self.slices.subscribe();
        let mut nodes = self.nodes.subscribe();
        let mut servers = Servers::default();
        let mut repair = tokio::time::interval(REPAIR_EVERY);
        // What is there already comes first and all together, so that the first table is whole.
        set_services(&mut rules, services.take());
        set_slices(&mut rules, &slices.take());
        rules.set_zone(self.zone());
        status.set_leaving(self.is_leaving());
        let mut event = Event::Retry;
        loop {
            let begin = Instant::now();
            let synced = match event {
                Event::Repair(touched) => rules.repair(&touched).await,
                Event::Services(changes) => {
                    status.changed(changes.len(), 0);
                    set_services(&mut rules, changes);
                    rules.sync().await
                }
                Event::Slices(changes) => {
                    status.changed(0, changes.len());
                    set_slices(&mut rules, &changes);
                    rules.sync().await
                }
                Event::Nodes => {
                    status.set_leaving(self.is_leaving());
                    rules.set_zone(self.zone());
                    rules.sync().await
                }
                Event::Retry => rules.sync().await,
            };
            status.synced(synced.is_ok(), begin.elapsed());
            if let Err(error) = &synced {
                tracing::error!(%error, "the Service rules are not up to date");
            }
            servers.set(rules.health_checks()).await;
            event = tokio::select! {
                touched = meddling.next() => Event::Repair(touched),
                _ = repair.tick() => Event::Repair(Touched::Unknown),
                event = next(&mut services, &mut slices, &mut nodes, synced.is_err()) => event,
            };
        }
    }

    /// Whether load balancers are to leave the node out.
    fn is_leaving(&self) -> bool {
        let Some(node) = self.nodes.get("", &self.node_name) else { return false };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        node.metadata.deletion_timestamp.is_some() || taints.iter().any(|taint| taint.key == TAINT_LEAVING)
    }

    fn zone(&self) -> Option<String> {
        self.nodes.get("", &self.node_name)?.metadata.labels.as_ref()?.get(LABEL_ZONE).cloned()
    }
}

async fn next(
    services: &mut Changes<Service>,
    slices: &mut Changes<EndpointSlice>,
    nodes: &mut Changes<Node>,
    failed: bool,
) -> Event {
    tokio::select! {
        biased;
        changes = services.next() => Event::Services(changes),
        changes = slices.next() => Event::Slices(changes),
        _ = nodes.next() => Event::Nodes,
        () = tokio::time::sleep(RETRY_AFTER), if failed => Event::Retry,
    }
}

fn set_services(rules: &mut Rules, changes: Vec<Change<Service>>) {
    for change in changes {
        rules.set_service(&change.key.namespace, &change.key.name, change.new);
    }
}

fn set_slices(rules: &mut Rules, changes: &[Change<EndpointSlice>]) {
    for change in changes {
        rules.set_slice(change.old.as_deref(), change.new.as_ref());
    }
}
