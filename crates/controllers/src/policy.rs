//! Disruption budgets and resource quotas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::{Api, Change, DynamicApi, Informer, ListParams};
use coracle_driver::{Failure, Hands, Planned, Queue, Reconcile, Request, feed, feed_with};
use coracle_plan_controllers::{disruption, quota};
use coracle_plan_core::Plan;
use coracle_plan_core::owner::controller_of;
use coracle_plan_core::select::{compile_opt, matches};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::Context;
use crate::gc::Census;
use crate::informers::Informers;

const WORKERS: usize = 2;

pub fn start(context: &Context, census: &Census) {
    start_disruption(context);
    start_quota(context, census);
}

/// Uid and wanted replicas of what an owner leads to.
fn scale_of(informers: &Informers, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let wanted = |replicas: Option<i32>| replicas.unwrap_or(1);
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = informers.replica_sets.get(namespace, &owner.name)?;
            if let Some(above) = controller_of(&set.metadata).filter(|above| above.kind == "Deployment") {
                let deployment = informers.deployments.get(namespace, &above.name)?;
                return Some((deployment.uid().to_owned(), wanted(deployment.spec.as_ref()?.replicas)));
            }
            Some((set.uid().to_owned(), wanted(set.spec.as_ref()?.replicas)))
        }
        "ReplicationController" => {
            let controller = informers.replication_controllers.get(namespace, &owner.name)?;
            Some((controller.uid().to_owned(), wanted(controller.spec.as_ref()?.replicas)))
        }
        "StatefulSet" => {
            let set = informers.stateful_sets.get(namespace, &owner.name)?;
            Some((set.uid().to_owned(), wanted(set.spec.as_ref()?.replicas)))
        }
        _ => None,
    }
}

/// Budgets that select the pod as it was or is.
fn budgets_of(informers: &Informers, change: &Change<Pod>) -> Vec<ObjectKey> {
    let selects = |selector: &coracle_plan_core::select::LabelSelector| {
        let mut pods = change.old.iter().chain(&change.new);
        pods.any(|pod| matches(selector, pod.metadata.labels.as_ref()))
    };
    let budgets = informers.budgets.list_namespace(&change.key.namespace).into_iter();
    budgets
        .filter(|budget| selects(&compile_opt(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()))))
        .map(|budget| ObjectKey::new(budget.namespace(), budget.name()))
        .collect()
}

fn start_disruption(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.budgets, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change| budgets_of(&informers, change)
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(budget) = informers.budgets.get_key(&request.key) else { return Plan::nothing() };
        let view = disruption::View {
            budget: &budget,
            pods: &informers.pods.list_namespace(&request.key.namespace),
            scale: &|owner| scale_of(&informers, &request.key.namespace, owner),
        };
        disruption::plan(&view, request.now)
    };
    let name = "controllermanager";
    context.spawn(Planned::new("disruption-controller", context.hands(name), plan), &queue, WORKERS);
}

fn quotas_in(quotas: &Informer<ResourceQuota>, namespace: &str) -> Vec<ObjectKey> {
    let own = quotas.list_namespace(namespace).into_iter();
    own.map(|quota| ObjectKey::new(quota.namespace(), quota.name())).collect()
}

fn start_quota(context: &Context, census: &Census) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.quotas, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let quotas = informers.quotas.clone();
        move |change: &Change<Pod>| {
            let spec = |pod: &Option<Arc<Pod>>| {
                pod.as_ref().map(|pod| (pod.spec.clone(), coracle_plan_core::pod::is_finished(pod)))
            };
            if spec(&change.old) == spec(&change.new) { Vec::new() } else { quotas_in(&quotas, &change.key.namespace) }
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.services, &queue, {
        let quotas = informers.quotas.clone();
        move |change| quotas_in(&quotas, &change.key.namespace)
    });
    feed_with(&context.tasks, &context.stop, &informers.claims, &queue, {
        let quotas = informers.quotas.clone();
        move |change| quotas_in(&quotas, &change.key.namespace)
    });
    census.on_change({
        let (quotas, queue) = (informers.quotas.clone(), queue.clone());
        move |namespace| quotas_in(&quotas, namespace).into_iter().for_each(|key| queue.add(key))
    });
    let name = "resourcequota-controller";
    let keeper = QuotaKeeper { informers, census: census.clone(), hands: context.hands(name) };
    context.spawn(keeper, &queue, WORKERS);
}

/// Keeps what a quota says is used. The server charges a quota in the transaction that creates the object, and caches hear
/// of the two in any order: what the caches find wrong is counted again on the server before it is written, and the write
/// fails when the quota was charged meanwhile. So a quota never shows less than there is.
struct QuotaKeeper {
    informers: Informers,
    census: Census,
    hands: Hands,
}

impl QuotaKeeper {
    fn cached(&self, key: &ObjectKey) -> Plan {
        let Some(current) = self.informers.quotas.get_key(key) else { return Plan::nothing() };
        let namespace = &key.namespace;
        quota::plan(&quota::View {
            quota: &current,
            pods: &self.informers.pods.list_namespace(namespace),
            services: &self.informers.services.list_namespace(namespace),
            claims: &self.informers.claims.list_namespace(namespace),
            count: &|resource| self.census.count(resource, namespace),
        })
    }

    async fn list<K: Object>(&self, namespace: &str) -> Result<Vec<Arc<K>>, Failure> {
        let api = Api::<K>::namespaced(self.hands.client(), namespace);
        let list = api.list(&ListParams::default()).await.map_err(|error| Failure::read(K::PLURAL, &error))?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }

    async fn counted(&self, key: &ObjectKey) -> Result<Plan, Failure> {
        let namespace = key.namespace.as_str();
        let quotas = self.list::<ResourceQuota>(namespace).await?;
        let Some(current) = quotas.iter().find(|quota| quota.name() == key.name) else { return Ok(Plan::nothing()) };
        let mut counts = BTreeMap::new();
        let hard = current.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        for resource in hard.keys().filter_map(|name| quota::counted_resource(name)) {
            let Some(gvr) = self.census.gvr(&resource) else { continue };
            let list = DynamicApi::namespaced(self.hands.client(), &gvr, namespace).list(&ListParams::default()).await;
            let list = list.map_err(|error| Failure::read(&gvr.resource, &error))?;
            counts.insert(resource, list.len());
        }
        Ok(quota::plan(&quota::View {
            quota: current,
            pods: &self.list(namespace).await?,
            services: &self.list(namespace).await?,
            claims: &self.list(namespace).await?,
            count: &|resource| counts.get(resource).copied(),
        }))
    }
}

#[async_trait]
impl Reconcile for QuotaKeeper {
    type Key = ObjectKey;

    fn name(&self) -> &str {
        "resourcequota-controller"
    }

    async fn reconcile(&self, request: Request<ObjectKey>) -> Result<Option<Duration>, Failure> {
        if !self.cached(&request.key).actions.is_empty() {
            let plan = self.counted(&request.key).await?;
            self.hands.carry_out(&plan).await?;
        }
        Ok(None)
    }
}
