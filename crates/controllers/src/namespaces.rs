//! What every namespace has, and its end.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::{Gvr, ObjectExt, ObjectKey, Value};
use coracle_api_types::Object;
use coracle_client::{Api, Change, Client, DeleteParams, DynamicApi, ListParams};
use coracle_driver::{Failure, Hands, Planned, Queue, Reconcile, Request, feed, feed_with};
use coracle_plan_controllers::namespace::{self, Content, Remaining};
use coracle_plan_controllers::{root_ca, serviceaccount};
use coracle_plan_core::Plan;
use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::Context;
use crate::discovery::{self, Resource};
use crate::informers::Informers;

const WORKERS: usize = 5;

pub fn start(context: &Context) {
    start_service_accounts(context);
    start_root_ca(context);
    start_deletion(context);
}

fn namespace_key<K>(change: &Change<K>) -> Vec<ObjectKey> {
    vec![ObjectKey::new("", &change.key.namespace)]
}

fn start_service_accounts(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.namespaces, &queue);
    feed_with(&context.tasks, &context.stop, &informers.service_accounts, &queue, |change| {
        if change.new.is_none() { namespace_key(change) } else { Vec::new() }
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(namespace) = informers.namespaces.get_key(&request.key) else { return Plan::nothing() };
        serviceaccount::plan(&namespace, |name| informers.service_accounts.get(&request.key.name, name).is_some())
    };
    let name = "serviceaccount-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_root_ca(context: &Context) {
    if context.config.root_ca_pem.is_empty() {
        return;
    }
    let queue = Queue::new();
    let informers = context.informers.clone();
    let ca_pem = context.config.root_ca_pem.clone();
    feed(&context.tasks, &context.stop, &informers.namespaces, &queue);
    feed_with(&context.tasks, &context.stop, &informers.config_maps, &queue, namespace_key);
    let plan = move |request: &Request<ObjectKey>| {
        let Some(namespace) = informers.namespaces.get_key(&request.key) else { return Plan::nothing() };
        let existing = informers.config_maps.get(&request.key.name, root_ca::NAME);
        root_ca::plan(&namespace, existing.as_deref(), &ca_pem)
    };
    let name = "root-ca-certificate-publisher";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_deletion(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.namespaces, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change: &Change<Pod>| {
            let ending = informers.namespaces.get("", &change.key.namespace).is_some_and(|own| own.is_deleting());
            if ending && change.new.is_none() { namespace_key(change) } else { Vec::new() }
        }
    });
    let hands = context.hands("namespace-controller");
    context.spawn(Deletion { client: hands.client().clone(), hands, informers }, &queue, WORKERS);
}

/// Empties namespaces that are being deleted.
struct Deletion {
    hands: Hands,
    informers: Informers,
    client: Client,
}

#[async_trait]
impl Reconcile for Deletion {
    type Key = ObjectKey;

    fn name(&self) -> &str {
        "namespace-controller"
    }

    async fn reconcile(&self, request: Request<ObjectKey>) -> Result<Option<Duration>, Failure> {
        let cached = self.informers.namespaces.get_key(&request.key);
        if !cached.is_some_and(|namespace| namespace.is_deleting() && !namespace::is_finalized(&namespace)) {
            return Ok(None);
        }
        let Some(mut latest) = self.latest(&request.key).await? else { return Ok(None) };
        if let Some(plan) = namespace::mark(&latest) {
            self.hands.carry_out(&plan).await?;
            match self.latest(&request.key).await? {
                Some(marked) => latest = marked,
                None => return Ok(None),
            }
        }
        let content = self.empty(&request.key.name).await;
        let plan = namespace::plan(&latest, &content, request.now);
        self.hands.carry_out(&plan).await?;
        Ok(plan.requeue_after)
    }
}

impl Deletion {
    async fn latest(&self, key: &ObjectKey) -> Result<Option<Namespace>, Failure> {
        let api = Api::<Namespace>::all(&self.client);
        api.get_opt(&key.name).await.map_err(|error| Failure::read("namespaces", &error))
    }

    /// Asks the content to go and answers what is left: pods first, and only when they are gone the rest.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let resources = match discovery::preferred(&self.client).await {
            Ok((resources, failed)) => {
                if !failed.is_empty() {
                    let text = failed.join(", ");
                    content.discovery_error =
                        Some(format!("Discovery failed for some groups, {} failing: {text}", failed.len()));
                }
                resources
            }
            Err(error) => {
                content.discovery_error = Some(error.to_string());
                Vec::new()
            }
        };
        let wanted = |own: &&Resource| own.namespaced && own.has_verbs(&["delete", "list"]);
        let (pods, rest): (Vec<&Resource>, Vec<&Resource>) =
            resources.iter().filter(wanted).partition(|own| own.gvr == Gvr::new("", "v1", "pods"));
        for resource in pods {
            self.empty_resource(namespace, resource, &mut content).await;
        }
        content.pods_only = content.remaining.iter().any(|left| left.count > 0) || !content.errors.is_empty();
        if !content.pods_only {
            for resource in rest {
                self.empty_resource(namespace, resource, &mut content).await;
            }
        }
        content
    }

    async fn empty_resource(&self, namespace: &str, resource: &Resource, content: &mut Content) {
        match self.try_empty(namespace, resource).await {
            Ok(None) => {}
            Ok(Some(left)) => {
                if left.finalizers.is_empty() && left.gvr.resource != "pods" {
                    let gvr = &left.gvr;
                    content.errors.push(format!(
                        "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
                        gvr.group, gvr.version, gvr.resource
                    ));
                }
                content.remaining.push(left);
            }
            // A resource may be withdrawn meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => content.errors.push(error.to_string()),
        }
    }

    async fn try_empty(&self, namespace: &str, resource: &Resource) -> coracle_client::Result<Option<Remaining>> {
        let api = DynamicApi::namespaced(&self.client, &resource.gvr, namespace);
        let list = ListParams::default();
        let items = api.list(&list).await?;
        if items.is_empty() {
            return Ok(None);
        }
        if items.iter().any(|item| item.meta_str("deletionTimestamp").is_empty()) {
            let background = DeleteParams::default().propagation("Background");
            if resource.has_verbs(&["deletecollection"]) {
                api.delete_collection(&background, &list).await?;
            } else {
                for item in &items {
                    match api.delete(item.name(), &background).await {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        let items = api.list(&list).await?;
        let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
        for item in &items {
            let names = item.pointer("/metadata/finalizers").and_then(Value::as_array);
            for name in names.into_iter().flatten().filter_map(Value::as_str) {
                *finalizers.entry(name.to_owned()).or_default() += 1;
            }
        }
        Ok((!items.is_empty()).then(|| Remaining { gvr: resource.gvr.clone(), count: items.len(), finalizers }))
    }
}
