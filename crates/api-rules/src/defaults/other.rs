//! Defaults of the remaining groups. Sources: `pkg/apis/<group>/<version>/defaults.go`.

use coracle_api_meta::{ObjectExt, Value};
use serde_json::json;

use crate::edit::{blank, each, fill, fill_blank, fill_empty, fill_zero, make, missing, object, put};

const RBAC: &str = "rbac.authorization.k8s.io";

pub fn role_binding(binding: &mut Value) {
    if let Some(role) = make(binding, "roleRef") {
        fill_blank(role, "apiGroup", RBAC);
    }
    each(binding, "subjects").for_each(|subject| {
        if matches!(subject.str_at(&["kind"]), "User" | "Group") {
            fill_blank(subject, "apiGroup", RBAC);
        }
    });
}

pub fn role(role: &mut Value) {
    fill(role, "rules", Value::Null);
}

pub fn endpoint_slice(slice: &mut Value) {
    each(slice, "ports").for_each(|port| {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    });
    each(slice, "endpoints").for_each(|endpoint| fill_empty(endpoint, "conditions"));
    fill(slice, "endpoints", Value::Null);
    fill(slice, "ports", Value::Null);
}

pub fn network_policy(policy: &mut Value) {
    let Some(spec) = make(policy, "spec") else { return };
    fill_empty(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            each(rule, "ports").for_each(|port| fill(port, "protocol", "TCP"));
        }
    }
    let filled = |list: &str| spec.get(list).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if !filled("policyTypes") {
        let types = if filled("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        put(spec, "policyTypes", types);
    }
}

pub fn ingress(ingress: &mut Value) {
    if let Some(status) = make(ingress, "status") {
        fill_empty(status, "loadBalancer");
    }
}

pub fn ingress_class(class: &mut Value) {
    if let Some(parameters) = object(class, "spec").and_then(|spec| object(spec, "parameters")) {
        fill(parameters, "scope", "Cluster");
    }
}

pub fn autoscaler_v1(autoscaler: &mut Value) {
    if let Some(spec) = make(autoscaler, "spec") {
        fill(spec, "minReplicas", 1);
        fill(spec, "targetCPUUtilizationPercentage", 80);
    }
    if let Some(status) = make(autoscaler, "status") {
        fill(status, "currentReplicas", 0);
        fill(status, "desiredReplicas", 0);
    }
}

pub fn autoscaler_v2(autoscaler: &mut Value) {
    if let Some(spec) = make(autoscaler, "spec") {
        fill(spec, "minReplicas", 1);
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            put(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
        }
        if let Some(behavior) = object(spec, "behavior") {
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            if let Some(up) = make(behavior, "scaleUp") {
                fill(up, "stabilizationWindowSeconds", 0);
                fill(up, "selectPolicy", "Max");
                fill(up, "policies", json!([pods, percent]));
            }
            if let Some(down) = make(behavior, "scaleDown") {
                fill(down, "selectPolicy", "Max");
                fill(down, "policies", json!([percent]));
            }
        }
    }
    if let Some(status) = make(autoscaler, "status") {
        fill(status, "desiredReplicas", 0);
        fill(status, "currentMetrics", Value::Null);
    }
}

pub fn storage_class(class: &mut Value) {
    fill(class, "reclaimPolicy", "Delete");
    fill(class, "volumeBindingMode", "Immediate");
}

pub fn csi_driver(driver: &mut Value) {
    let Some(spec) = make(driver, "spec") else { return };
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        put(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
    fill(spec, "requiresRepublish", false);
    fill(spec, "seLinuxMount", false);
}

pub fn csi_node(node: &mut Value) {
    if let Some(spec) = make(node, "spec") {
        fill(spec, "drivers", Value::Null);
    }
}

pub fn volume_attachment(attachment: &mut Value) {
    if let Some(status) = make(attachment, "status") {
        fill(status, "attached", false);
    }
}

pub fn flow_schema(schema: &mut Value) {
    fill_empty(schema, "status");
    if let Some(spec) = make(schema, "spec") {
        fill_zero(spec, "matchingPrecedence", 1000);
        fill_empty(spec, "priorityLevelConfiguration");
    }
}

pub fn priority_level(level: &mut Value) {
    fill_empty(level, "status");
    let Some(spec) = make(level, "spec") else { return };
    if let Some(exempt) = object(spec, "exempt") {
        fill(exempt, "nominalConcurrencyShares", 0);
        fill(exempt, "lendablePercent", 0);
    }
    let Some(limited) = object(spec, "limited") else { return };
    fill(limited, "nominalConcurrencyShares", 30);
    fill(limited, "lendablePercent", 0);
    fill_empty(limited, "limitResponse");
    if let Some(queuing) = object(limited, "limitResponse").and_then(|response| object(response, "queuing")) {
        fill_zero(queuing, "handSize", 8);
        fill_zero(queuing, "queues", 64);
        fill_zero(queuing, "queueLengthLimit", 50);
    }
}

fn webhook(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    fill(webhook, "matchPolicy", "Equivalent");
    fill_empty(webhook, "namespaceSelector");
    fill_empty(webhook, "objectSelector");
    fill(webhook, "timeoutSeconds", 10);
    each(webhook, "rules").for_each(|rule| fill(rule, "scope", "*"));
    if let Some(config) = make(webhook, "clientConfig") {
        service_reference(config);
    }
}

fn service_reference(config: &mut Value) {
    if let Some(service) = object(config, "service") {
        fill(service, "port", 443);
    }
}

pub fn validating_webhooks(configuration: &mut Value) {
    each(configuration, "webhooks").for_each(webhook);
}

pub fn mutating_webhooks(configuration: &mut Value) {
    each(configuration, "webhooks").for_each(|one| {
        webhook(one);
        fill(one, "reinvocationPolicy", "Never");
    });
}

fn match_resources(resources: &mut Value) {
    fill(resources, "matchPolicy", "Equivalent");
    fill_empty(resources, "namespaceSelector");
    fill_empty(resources, "objectSelector");
    for list in ["resourceRules", "excludeResourceRules"] {
        each(resources, list).for_each(|rule| fill(rule, "scope", "*"));
    }
}

pub fn admission_policy(policy: &mut Value) {
    let Some(spec) = make(policy, "spec") else { return };
    fill(spec, "failurePolicy", "Fail");
    if let Some(constraints) = object(spec, "matchConstraints") {
        match_resources(constraints);
    }
}

pub fn validating_policy(policy: &mut Value) {
    fill_empty(policy, "status");
    admission_policy(policy);
}

pub fn admission_binding(binding: &mut Value) {
    let Some(spec) = make(binding, "spec") else { return };
    if let Some(resources) = object(spec, "matchResources") {
        match_resources(resources);
    }
}

pub fn priority_class(class: &mut Value) {
    fill(class, "value", 0);
    fill(class, "preemptionPolicy", "PreemptLowerPriority");
}

pub fn disruption_budget(budget: &mut Value) {
    fill_empty(budget, "spec");
    let Some(status) = make(budget, "status") else { return };
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        fill(status, field, 0);
    }
}

pub fn device_class(class: &mut Value) {
    fill_empty(class, "spec");
}

pub fn resource_claim(claim: &mut Value) {
    fill_empty(claim, "status");
    if let Some(spec) = make(claim, "spec") {
        claim_spec(spec);
    }
}

pub fn resource_claim_template(template: &mut Value) {
    let Some(spec) = make(template, "spec") else { return };
    fill_empty(spec, "metadata");
    if let Some(inner) = make(spec, "spec") {
        claim_spec(inner);
    }
}

fn claim_spec(spec: &mut Value) {
    let Some(devices) = make(spec, "devices") else { return };
    for request in each(devices, "requests") {
        if let Some(exactly) = object(request, "exactly") {
            device_request(exactly);
        }
        each(request, "firstAvailable").for_each(device_request);
    }
}

fn device_request(request: &mut Value) {
    fill_blank(request, "allocationMode", "ExactCount");
    if request.str_at(&["allocationMode"]) == "ExactCount" {
        fill_zero(request, "count", 1);
    }
}

pub fn custom_resource_definition(crd: &mut Value) {
    if let Some(spec) = make(crd, "spec") {
        if let Some(names) = make(spec, "names") {
            let kind = names.str_at(&["kind"]).to_owned();
            if blank(names, "singular") {
                put(names, "singular", kind.to_lowercase());
            }
            if blank(names, "listKind") && !kind.is_empty() {
                put(names, "listKind", format!("{kind}List"));
            }
        }
        fill(spec, "conversion", json!({"strategy": "None"}));
        let client = object(spec, "conversion").and_then(|conversion| object(conversion, "webhook"));
        if let Some(config) = client.and_then(|webhook| object(webhook, "clientConfig")) {
            service_reference(config);
        }
    }
    let storage = crd.at(&["spec", "versions"]).and_then(Value::as_array).into_iter().flatten();
    let mut storage = storage.filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    let name = storage.next().map(|version| version.str_at(&["name"]).to_owned());
    let Some(status) = make(crd, "status") else { return };
    fill(status, "conditions", Value::Null);
    fill(status, "acceptedNames", json!({"plural": "", "kind": ""}));
    let empty = status.get("storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if let Some(name) = name.filter(|_| empty) {
        put(status, "storedVersions", json!([name]));
    } else {
        fill(status, "storedVersions", Value::Null);
    }
}

pub fn api_service(service: &mut Value) {
    fill_empty(service, "status");
    if let Some(spec) = make(service, "spec")
        && !missing(spec, "service")
    {
        service_reference(spec);
    }
}

pub fn signing_request(request: &mut Value) {
    fill_empty(request, "status");
}

pub fn with_spec(object: &mut Value) {
    fill_empty(object, "spec");
}

pub fn with_spec_and_status(object: &mut Value) {
    fill_empty(object, "spec");
    fill_empty(object, "status");
}
