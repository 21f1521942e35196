//! Whether aggregated servers can be reached: the condition `Available` of their APIServices.
//! Source: `kube-aggregator/pkg/controllers/status/remote`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_client::full_body;
use http::Request;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{API_SERVICES, ApiService, proxy};
use crate::bootstrap::{options, target_of};
use crate::http::Ctx;
use crate::outgoing::Place;
use crate::registry::{storage, update};
use crate::server::Server;
use crate::time;

const SERVICES: &str = "services";
const SLICES: &str = "discovery.k8s.io/endpointslices";
/// A server that answers is asked again after this.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// One that does not, sooner; the wait doubles up to the interval.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Endpoints that are tried; one good answer is enough.
const ATTEMPTS: usize = 3;

/// What is said of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn no(reason: &'static str, message: String) -> Condition {
    Condition { status: "False", reason, message }
}

/// Of what this server serves itself.
pub(super) fn local() -> Condition {
    Condition { status: "True", reason: "Local", message: "Local APIServices are always available".to_owned() }
}

/// What the Service of an aggregated server and its slices have against asking it.
fn obstacle(namespace: &str, name: &str, port: u16, service: Option<&Value>, slices: &[Value]) -> Option<Condition> {
    let Some(service) = service else {
        return Some(no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if !matches!(service.str_at(&["spec", "type"]), "ClusterIP" | "") {
        return None;
    }
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let mut listening = ports.filter(|own| own.get("port").and_then(Value::as_u64) == Some(port.into()));
    let Some(own) = listening.next() else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(no("ServicePortError", message));
    };
    let port_name = own.str_at(&["name"]);
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(no("EndpointsNotFound", message));
    }
    let usable = |slice: &Value| {
        let list = |field: &str| slice.get(field).and_then(Value::as_array).into_iter().flatten();
        list("endpoints").any(|own| own.at(&["conditions", "ready"]) != Some(&Value::Bool(false)))
            && list("ports").any(|own| own.str_at(&["name"]) == port_name && own.get("port").is_some())
    };
    if slices.iter().any(usable) {
        return None;
    }
    let message =
        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(no("MissingEndpoints", message))
}

/// Finds out whether a server can be reached.
async fn check(server: &Arc<Server>, service: &ApiService) -> Condition {
    let Some(to) = &service.destination else { return local() };
    if let Place::Service { namespace, name, port } = &to.place {
        let found = server.store.local_get(&coracle_store::Key::new(SERVICES, format!("{namespace}/{name}")));
        let found = found.and_then(|entry| storage::parse(&entry.value).ok());
        if let Some(obstacle) = obstacle(namespace, name, *port, found.as_ref(), &slices(server, namespace, name)) {
            return obstacle;
        }
    }
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match ask(server, service).await {
            Ok(()) => {
                return Condition { status: "True", reason: "Passed", message: "all checks passed".to_owned() };
            }
            Err(why) => last = why,
        }
    }
    no("FailedDiscoveryCheck", last)
}

fn slices(server: &Server, namespace: &str, name: &str) -> Vec<Value> {
    let entries = server.store.local_range(SLICES, &format!("{namespace}/"));
    let mut slices: Vec<Value> = entries.iter().filter_map(|entry| storage::parse(&entry.value).ok()).collect();
    slices.retain(|slice| {
        slice.labels().and_then(|labels| labels.get("kubernetes.io/service-name")).is_some_and(|own| own == name)
    });
    slices
}

async fn ask(server: &Arc<Server>, service: &ApiService) -> Result<(), String> {
    let Some(to) = &service.destination else { return Ok(()) };
    let url = format!("https://{}{}", to.authority(), service.path());
    let mut request = Request::get(&url).body(full_body("")).map_err(|error| error.to_string())?;
    proxy::set_user(request.headers_mut(), &super::itself());
    let failed = |why: &str| format!("failing or missing response from {url}: {why}");
    match tokio::time::timeout(ANSWER_TIME_MAX, server.outgoing.send(to, request)).await {
        Ok(Ok(answer)) if answer.status().is_success() || answer.status().is_redirection() => Ok(()),
        Ok(Ok(answer)) => Err(failed(&format!("bad status from {url}: {}", answer.status().as_u16()))),
        Ok(Err(why)) => Err(failed(&format!("Get \"{url}\": {why}"))),
        Err(_) => Err(failed(&format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ))),
    }
}

/// Says it in the status, where it is not said yet.
pub(super) async fn set(ctx: &Ctx, name: &str, condition: &Condition) -> Result<(), Status> {
    let named = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}});
    let target = target_of(&ctx.server, &named)?;
    let current = ctx.server.store.local_get(&storage::key(&target.resource, name));
    let Some(current) = current.and_then(|entry| storage::parse(&entry.value).ok()) else { return Ok(()) };
    if with(&current, condition) == current {
        return Ok(());
    }
    let mut change = |current: &Value| Ok(with(current, condition));
    match update::apply(ctx, &target, "status", &options("coracle"), &mut change).await {
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Source: `SetAPIServiceCondition`.
fn with(current: &Value, condition: &Condition) -> Value {
    let mut next = current.clone();
    let list = next.at(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut list: Vec<Value> = list;
    let own = list.iter_mut().find(|own| own.str_at(&["type"]) == "Available");
    match own {
        Some(own) => {
            if own.str_at(&["status"]) != condition.status {
                own["status"] = condition.status.into();
                own["lastTransitionTime"] = time::now_text().into();
            }
            own["reason"] = condition.reason.into();
            own["message"] = condition.message.as_str().into();
        }
        None => list
            .push(json!({"type": "Available", "status": condition.status, "lastTransitionTime": time::now_text(),
            "reason": condition.reason, "message": condition.message})),
    }
    if !next["status"].is_object() {
        next["status"] = json!({});
    }
    next["status"]["conditions"] = list.into();
    next
}

/// One APIService between its checks.
struct Watched {
    due: Instant,
    wait: Duration,
    /// What leads to the server now, and what led to it when the last check began.
    basis: Vec<String>,
    checked: Vec<String>,
    running: bool,
}

/// Checks servers when what leads to them changed, and from time to time.
pub(super) async fn run(server: Weak<Server>, stopping: CancellationToken) {
    let collections = [API_SERVICES, SERVICES, SLICES];
    let Some(mut changes) = server.upgrade().map(|server| collections.map(|own| server.store.changes(own))) else {
        return;
    };
    let mut watched: HashMap<String, Watched> = HashMap::new();
    let mut running: JoinSet<(String, bool)> = JoinSet::new();
    loop {
        let Some(strong) = server.upgrade() else { return };
        let next = start_due(&strong, &mut watched, &mut running);
        let any = !watched.is_empty();
        drop(strong);
        let [services, cluster, slices] = &mut changes;
        tokio::select! {
            changed = services.changed() => if changed.is_err() { return },
            // What leads to servers matters only where there are any.
            changed = cluster.changed(), if any => if changed.is_err() { return },
            changed = slices.changed(), if any => if changed.is_err() { return },
            Some(done) = running.join_next() => note(&mut watched, done.ok()),
            () = tokio::time::sleep_until(next), if any => {}
            () = stopping.cancelled() => return,
        }
    }
}

fn note(watched: &mut HashMap<String, Watched>, done: Option<(String, bool)>) {
    let Some((name, good)) = done else { return };
    let Some(own) = watched.get_mut(&name) else { return };
    own.running = false;
    own.wait = if good { CHECK_INTERVAL } else { (own.wait * 2).min(CHECK_INTERVAL) };
    let changed = own.checked != own.basis;
    own.due = Instant::now() + if changed { Duration::ZERO } else { own.wait };
}

/// Starts the checks that are due, and says when the next will be.
fn start_due(
    server: &Arc<Server>,
    watched: &mut HashMap<String, Watched>,
    running: &mut JoinSet<(String, bool)>,
) -> Instant {
    let now = Instant::now();
    let services = server.aggregation.services(&*server.store);
    watched.retain(|name, _| services.all().iter().any(|own| own.name == *name && own.destination.is_some()));
    server.aggregation.remote.retain(|name| watched.contains_key(name));
    for service in services.all().iter().filter(|own| own.destination.is_some()) {
        let basis = basis(server, service);
        let fresh = || Watched { due: now, wait: RETRY_FIRST, basis: Vec::new(), checked: Vec::new(), running: false };
        let own = watched.entry(service.name.clone()).or_insert_with(fresh);
        if own.basis != basis {
            own.basis = basis;
            own.wait = RETRY_FIRST;
            own.due = now;
        }
        if own.due > now || own.running {
            continue;
        }
        own.running = true;
        own.checked.clone_from(&own.basis);
        own.due = now + CHECK_INTERVAL;
        running.spawn(check_and_tell(Arc::clone(server), Arc::clone(service)));
    }
    watched.values().filter(|own| !own.running).map(|own| own.due).min().unwrap_or(now + CHECK_INTERVAL)
}

async fn check_and_tell(server: Arc<Server>, service: Arc<ApiService>) -> (String, bool) {
    let condition = check(&server, &service).await;
    let good = condition.status == "True";
    let ctx = Ctx::internal(Arc::clone(&server));
    if good {
        server.aggregation.remote.refresh(&server, &service).await;
    } else {
        server.aggregation.remote.mark_stale(&service.name);
    }
    let told = set(&ctx, &service.name, &condition).await;
    if let Err(error) = &told {
        tracing::warn!(%error, name = service.name, "tell whether an aggregated server is available");
    }
    (service.name.clone(), good && told.is_ok())
}

/// Versions of the objects that lead to a server: its specification, its Service, the slices of that.
fn basis(server: &Server, service: &ApiService) -> Vec<String> {
    let mut basis = vec![format!("{:?}", service.destination)];
    let Some(Place::Service { namespace, name, .. }) = service.destination.as_ref().map(|to| &to.place) else {
        return basis;
    };
    let found = server.store.local_get(&coracle_store::Key::new(SERVICES, format!("{namespace}/{name}")));
    basis.push(found.map(|entry| entry.modified.to_string()).unwrap_or_default());
    basis.extend(slices(server, namespace, name).iter().map(|slice| slice.resource_version().to_owned()));
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_is_told_as_upstream_tells_it() {
        let service = json!({"spec": {"type": "ClusterIP", "ports": [{"name": "api", "port": 443}]}});
        let slice = |ready: bool, port: &str| json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [{"name": port, "port": 8443}]});
        let told = |service: Option<&Value>, port: u16, slices: &[Value]| {
            let found = obstacle("n", "s", port, service, slices);
            found.map(|own| format!("{} {} {}", own.status, own.reason, own.message)).unwrap_or_default()
        };
        assert_eq!(told(None, 443, &[]), r#"False ServiceNotFound service/s in "n" is not present"#);
        assert_eq!(
            told(Some(&service), 80, &[]),
            r#"False ServicePortError service/s in "n" is not listening on port 80"#
        );
        assert_eq!(
            told(Some(&service), 443, &[]),
            r#"False EndpointsNotFound cannot find endpointslices for service/s in "n""#
        );
        for slice in [slice(false, "api"), slice(true, "other")] {
            assert_eq!(
                told(Some(&service), 443, &[slice]),
                r#"False MissingEndpoints endpointslices for service/s in "n" have no addresses with port name "api""#
            );
        }
        assert_eq!(told(Some(&service), 443, &[slice(true, "api")]), "");
    }

    #[test]
    fn conditions_keep_the_time_of_their_last_change() {
        let first = with(&json!({}), &local());
        let again = with(&first, &local());
        assert_eq!(first, again);
        let mut past = first;
        past["status"]["conditions"][0]["lastTransitionTime"] = "2020-01-01T00:00:00Z".into();
        let passed = Condition { status: "True", reason: "Passed", message: String::new() };
        assert_eq!(with(&past, &passed)["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        let failed = no("FailedDiscoveryCheck", String::new());
        assert_ne!(with(&past, &failed)["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
    }
}
