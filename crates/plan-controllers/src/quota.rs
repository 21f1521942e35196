//! What a resource quota sees used. Source: `pkg/controller/resourcequota`, `pkg/quota/v1/evaluator/core`.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_meta::Quantity;
use coracle_api_types::Object;
use coracle_plan_core::{Action, Plan, pod};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, ScopedResourceSelectorRequirement,
    Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as TypedQuantity;

type Amounts = BTreeMap<String, Quantity>;

/// What is known about one quota.
pub struct View<'a> {
    pub quota: &'a ResourceQuota,
    pub pods: &'a [Arc<Pod>],
    pub services: &'a [Arc<Service>],
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// Objects of any other resource, by `resource.group`.
    pub count: &'a dyn Fn(&str) -> Option<usize>,
}

fn add(into: &mut Amounts, name: &str, amount: Quantity) {
    let before = into.get(name).copied().unwrap_or(Quantity::ZERO);
    into.insert(name.to_owned(), before.plus(&amount));
}

fn one() -> Quantity {
    Quantity::from_units(1, coracle_api_meta::quantity::Format::DecimalSi)
}

#[must_use]
pub fn plan(view: &View<'_>) -> Plan {
    let Some(spec) = &view.quota.spec else { return Plan::nothing() };
    let hard = spec.hard.clone().unwrap_or_default();
    let scoped = spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) || spec.scope_selector.is_some();
    let mut used = Amounts::new();
    view.pods.iter().filter(|pod| in_scope(view.quota, pod)).for_each(|pod| add_pod(&mut used, pod));
    if !scoped {
        view.services.iter().for_each(|service| add_service(&mut used, service));
        view.claims.iter().for_each(|claim| add_claim(&mut used, claim));
        for name in hard.keys() {
            if used.contains_key(name) {
                continue;
            }
            if let Some(count) = counted_resource(name).and_then(|resource| (view.count)(&resource)) {
                let format = coracle_api_meta::quantity::Format::DecimalSi;
                used.insert(name.clone(), Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX), format));
            }
        }
    }
    let text = |name: &String| TypedQuantity(used.get(name).copied().unwrap_or(Quantity::ZERO).to_string());
    let used: BTreeMap<String, TypedQuantity> = hard.keys().map(|name| (name.clone(), text(name))).collect();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if view.quota.status.as_ref().is_some_and(|before| same(before, &status)) {
        return Plan::nothing();
    }
    let mut quota = view.quota.clone();
    quota.status = Some(status);
    Plan::from(vec![Action::update_status(&quota)])
}

fn same(a: &ResourceQuotaStatus, b: &ResourceQuotaStatus) -> bool {
    let parsed = |amounts: &Option<BTreeMap<String, TypedQuantity>>| -> BTreeMap<String, Option<Quantity>> {
        let amounts = amounts.iter().flatten();
        amounts.map(|(name, quantity)| (name.clone(), Quantity::parse(&quantity.0).ok())).collect()
    };
    parsed(&a.hard) == parsed(&b.hard) && parsed(&a.used) == parsed(&b.used)
}

/// The resource that a name of a quota counts.
#[must_use]
pub fn counted_resource(name: &str) -> Option<String> {
    if let Some(resource) = name.strip_prefix("count/") {
        return Some(resource.to_owned());
    }
    let counted = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
    counted.contains(&name).then(|| name.to_owned())
}

fn is_best_effort(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) == Some("BestEffort")
}

fn scope_holds(scope: &str, operator: &str, values: &[String], pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let terminating = spec.and_then(|spec| spec.active_deadline_seconds).is_some();
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = spec.and_then(|spec| spec.priority_class_name.clone()).unwrap_or_default();
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let near = affinity.pod_affinity.iter().flat_map(|own| {
        let required = own.required_during_scheduling_ignored_during_execution.iter().flatten();
        let preferred = own.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|term| &term.pod_affinity_term))
    });
    let away = affinity.pod_anti_affinity.iter().flat_map(|own| {
        let required = own.required_during_scheduling_ignored_during_execution.iter().flatten();
        let preferred = own.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|term| &term.pod_affinity_term))
    });
    near.chain(away).any(|term| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    })
}

fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    if pod::is_finished(pod) {
        return false;
    }
    let Some(spec) = &quota.spec else { return false };
    let plain = spec.scopes.iter().flatten().all(|scope| scope_holds(scope, "Exists", &[], pod));
    let expressions = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    let selected = |own: &ScopedResourceSelectorRequirement| {
        scope_holds(&own.scope_name, &own.operator, own.values.as_deref().unwrap_or_default(), pod)
    };
    plain && expressions.into_iter().flatten().all(selected)
}

fn amounts(container: &Container, limits: bool) -> Amounts {
    let resources = container.resources.as_ref();
    let own = resources.and_then(|own| if limits { own.limits.as_ref() } else { own.requests.as_ref() });
    let parsed = own.into_iter().flatten();
    parsed.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}

fn pod_amounts(pod: &Pod, limits: bool) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = Amounts::new();
    let add_all = |into: &mut Amounts, from: &Amounts| from.iter().for_each(|(name, own)| add(into, name, *own));
    spec.containers.iter().for_each(|container| add_all(&mut total, &amounts(container, limits)));
    let mut sidecars = Amounts::new();
    let mut start = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = amounts(container, limits);
        if container.restart_policy.as_deref() == Some("Always") {
            add_all(&mut sidecars, &needed);
            needed.clone_from(&sidecars);
        } else {
            add_all(&mut needed, &sidecars);
        }
        for (name, amount) in needed {
            let before = start.entry(name).or_insert(amount);
            *before = (*before).max(amount);
        }
    }
    add_all(&mut total, &sidecars);
    for (name, amount) in start {
        let before = total.entry(name).or_insert(amount);
        *before = (*before).max(amount);
    }
    for (name, text) in spec.overhead.iter().flatten() {
        if let Ok(amount) = Quantity::parse(&text.0) {
            add(&mut total, name, amount);
        }
    }
    total
}

fn add_pod(used: &mut Amounts, pod: &Pod) {
    add(used, "pods", one());
    add(used, "count/pods", one());
    for (name, amount) in pod_amounts(pod, false) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            add(used, &name, amount);
        }
        add(used, &format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_amounts(pod, true) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(used, &format!("limits.{name}"), amount);
        }
    }
}

fn add_service(used: &mut Amounts, service: &Service) {
    add(used, "services", one());
    add(used, "count/services", one());
    let Some(spec) = &service.spec else { return };
    let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or_default();
    let ports = Quantity::from_units(ports, coracle_api_meta::quantity::Format::DecimalSi);
    match spec.type_.as_deref() {
        Some("NodePort") => add(used, "services.nodeports", ports),
        Some("LoadBalancer") => {
            add(used, "services.loadbalancers", one());
            if spec.allocate_load_balancer_node_ports != Some(false) {
                add(used, "services.nodeports", ports);
            }
        }
        _ => {}
    }
}

fn add_claim(used: &mut Amounts, claim: &PersistentVolumeClaim) {
    let spec = claim.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let storage = wanted.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or(Quantity::ZERO);
    let beta = claim.annotation("volume.beta.kubernetes.io/storage-class").map(str::to_owned);
    let class = beta.or_else(|| spec.and_then(|spec| spec.storage_class_name.clone())).unwrap_or_default();
    add(used, "persistentvolumeclaims", one());
    add(used, "count/persistentvolumeclaims", one());
    add(used, "requests.storage", storage);
    if !class.is_empty() {
        add(used, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
        add(used, &format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
    }
}
