//! What one object uses, by kind. Source: `pkg/quota/v1/evaluator/core`.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::quantity::Format;
use coracle_api_meta::{Quantity, Value};

use super::super::pod_resources::has_pod_level;
use super::super::storage::class_of;
use super::super::{Amounts, Operation, PodAmounts, Request, list, pod_limits, pod_requests};
use super::scopes::is_terminating;

const POD_RESOURCES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// Resources that every container has to name once a quota limits them.
const REQUIRED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const SERVICE_RESOURCES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];
const CLAIM_RESOURCES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const CLAIM_COUNT: &str = "count/persistentvolumeclaims";
const BY_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLAIM_COUNT: &str = "count/resourceclaims.resource.k8s.io";
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that a request for all of them counts as. Source: `AllocationResultsMaxSize`.
const ALL_DEVICES: i64 = 32;

/// How the objects of a resource are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluator {
    Pods,
    Services,
    VolumeClaims,
    DeviceClaims,
    /// By number alone, under these names.
    Objects(Vec<String>),
}

#[must_use]
pub fn evaluator(group: &str, resource: &str) -> Evaluator {
    match (group, resource) {
        ("", "pods") => Evaluator::Pods,
        ("", "services") => Evaluator::Services,
        ("", "persistentvolumeclaims") => Evaluator::VolumeClaims,
        ("resource.k8s.io", "resourceclaims") => Evaluator::DeviceClaims,
        _ => {
            let dot = if group.is_empty() { "" } else { "." };
            let mut names = vec![format!("count/{resource}{dot}{group}")];
            if group.is_empty()
                && matches!(resource, "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets")
            {
                names.push(resource.to_owned());
            }
            Evaluator::Objects(names)
        }
    }
}

fn number(count: usize) -> Quantity {
    Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

impl Evaluator {
    /// Whether a write changes what is used.
    #[must_use]
    pub fn handles(&self, request: &Request<'_>, object: &Value) -> bool {
        let operation = request.operation;
        match (self, request.subresource) {
            (Self::Pods, "") => {
                let moves = |old: &Value| is_terminating(old) != is_terminating(object);
                operation == Operation::Create || (operation == Operation::Update && request.old.is_some_and(moves))
            }
            (Self::Pods, "resize") => operation == Operation::Update,
            (Self::VolumeClaims, "status") => operation == Operation::Update,
            (Self::Services | Self::VolumeClaims | Self::DeviceClaims, "") => {
                matches!(operation, Operation::Create | Operation::Update)
            }
            (Self::Objects(_), "") => operation == Operation::Create,
            _ => false,
        }
    }

    /// Whether a name of a quota is about objects of this resource.
    #[must_use]
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                let extended = name.starts_with("requests.")
                    && (!is_native(name) || name.starts_with("requests.deviceclass.resource.kubernetes.io/"));
                let huge = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
                POD_RESOURCES.contains(&name) || huge || extended
            }
            Self::Services => SERVICE_RESOURCES.contains(&name),
            Self::VolumeClaims => {
                let by_class = |own: &&str| name.ends_with(&format!("{BY_STORAGE_CLASS}{own}"));
                name == CLAIM_COUNT || CLAIM_RESOURCES.contains(&name) || CLAIM_RESOURCES.iter().any(by_class)
            }
            Self::DeviceClaims => name == DEVICE_CLAIM_COUNT || name.ends_with(BY_DEVICE_CLASS),
            Self::Objects(names) => names.iter().any(|own| own == name),
        }
    }

    #[must_use]
    pub fn usage(&self, object: &Value) -> Amounts {
        match self {
            Self::Pods => pod(object),
            Self::Services => service(object),
            Self::VolumeClaims => volume_claim(object),
            Self::DeviceClaims => device_claim(object),
            Self::Objects(names) => names.iter().map(|name| (name.clone(), number(1))).collect(),
        }
    }

    /// What an object has to say once a quota limits `required`.
    #[must_use]
    pub fn constraints(&self, required: &[&str], object: &Value) -> Option<String> {
        if *self != Self::Pods || has_pod_level(object) {
            return None;
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in ["containers", "initContainers"].into_iter().flat_map(|kind| list(object, &["spec", kind])) {
            let side = |field| Amounts::at(container, &["resources", field]);
            let has = compute(&side("requests"), &side("limits"));
            for name in required.iter().filter(|name| REQUIRED.contains(name) && !has.contains(name)) {
                missing.entry(name).or_default().insert(container.str_at(&["name"]));
            }
        }
        let part = |(name, containers): (&&str, &BTreeSet<&str>)| {
            format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
        };
        let parts: Vec<String> = missing.iter().map(part).collect();
        (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
    }
}

/// Resources of Kubernetes itself. Source: `helper.IsNativeResource`.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn pod(pod: &Value) -> Amounts {
    let mut usage: Amounts = [("count/pods".to_owned(), number(1))].into_iter().collect();
    if matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded") {
        return usage;
    }
    let how = PodAmounts::Effective;
    usage.add(&compute(&pod_requests(pod, how), &pod_limits(pod, how)));
    usage
}

/// Source: `podComputeUsageHelper`.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage: Amounts = [("pods".to_owned(), number(1))].into_iter().collect();
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            usage.set(name, *amount);
            usage.set(format!("requests.{name}"), *amount);
        }
        if let Some(amount) = limits.get(name) {
            usage.set(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests.iter() {
        if name.starts_with("hugepages-") {
            usage.set(name, *amount);
            usage.set(format!("requests.{name}"), *amount);
        }
        if !is_native(name) || name.starts_with("deviceclass.resource.kubernetes.io/") {
            usage.set(format!("requests.{name}"), *amount);
        }
    }
    usage
}

fn service(service: &Value) -> Amounts {
    let ports: Vec<&Value> = list(service, &["spec", "ports"]).collect();
    let given = |port: &&&Value| port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0;
    let allocates = service.at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let (node_ports, balancers) = match service.str_at(&["spec", "type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if allocates => (ports.len(), 1),
        "LoadBalancer" => (ports.iter().filter(given).count(), 1),
        _ => (0, 0),
    };
    let amounts = [
        ("count/services", 1),
        ("services", 1),
        ("services.nodeports", node_ports),
        ("services.loadbalancers", balancers),
    ];
    amounts.into_iter().map(|(name, count)| (name.to_owned(), number(count))).collect()
}

fn volume_claim(claim: &Value) -> Amounts {
    let class = class_of(claim);
    let mut usage = Amounts::default();
    let mut put = |name: &str, amount: Quantity| {
        usage.set(name, amount);
        if !class.is_empty() && name != CLAIM_COUNT {
            usage.set(format!("{class}{BY_STORAGE_CLASS}{name}"), amount);
        }
    };
    put(CLAIM_COUNT, number(1));
    put("persistentvolumeclaims", number(1));
    let requests = Amounts::at(claim, &["spec", "resources", "requests"]);
    if let Some(asked) = requests.get("storage") {
        let allocated = Amounts::at(claim, &["status", "allocatedResources"]);
        let given = allocated.get("storage").filter(|given| *given > asked);
        put("requests.storage", whole(given.unwrap_or(asked)));
    }
    usage
}

/// Rounded up to whole bytes.
fn whole(amount: &Quantity) -> Quantity {
    let units = Quantity::from_units(amount.value(), amount.format());
    if units == *amount { *amount } else { units }
}

fn device_claim(claim: &Value) -> Amounts {
    let mut usage: Amounts = [(DEVICE_CLAIM_COUNT.to_owned(), number(1))].into_iter().collect();
    let asked = |request: &Value| {
        let class = request.str_at(&["deviceClassName"]);
        let count = match request.str_at(&["allocationMode"]) {
            "All" => ALL_DEVICES,
            _ => request.get("count").and_then(Value::as_i64).unwrap_or(1),
        };
        let amount = Quantity::from_units(count, Format::DecimalSi);
        (!class.is_empty()).then(|| (format!("{class}{BY_DEVICE_CLASS}"), amount))
    };
    for request in list(claim, &["spec", "devices", "requests"]) {
        let mut most = Amounts::default();
        for choice in list(request, &["firstAvailable"]) {
            most.raise(&asked(choice).into_iter().collect());
        }
        most.add(&request.get("exactly").and_then(asked).into_iter().collect());
        usage.add(&most);
    }
    usage
}
