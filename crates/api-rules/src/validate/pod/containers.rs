//! Containers of all three lists.

use coracle_api_meta::names;

use super::{Context, env, handlers, is_sidecar, requirements, security, volumes};
use crate::at::{At, Errors};
use crate::formats::{port_name, port_number};

fn grace(context: &Context<'_>) -> Option<i64> {
    context.spec.get("terminationGracePeriodSeconds").opt_int()
}

pub(crate) fn containers(list: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    if list.is_empty() {
        return list.required(errors, "");
    }
    let mut seen = Vec::new();
    for container in list.items() {
        common(&container, context, errors);
        unique_name(&container, &mut seen, errors);
        running(&container, context, errors);
        restart_policy(&container, errors);
    }
    host_ports(&list.items(), list, errors);
}

/// What only containers have that stay: hooks and probes.
fn running(container: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let lifecycle = container.get("lifecycle");
    if lifecycle.exists() {
        handlers::lifecycle(&lifecycle, grace(context), &context.spec.get("os"), errors);
    }
    handlers::probes(container, grace(context), errors);
}

fn unique_name<'v>(container: &At<'v>, seen: &mut Vec<&'v str>, errors: &mut Errors) {
    let name = container.get("name");
    if seen.contains(&name.str()) {
        name.duplicate(errors);
    } else if !name.is_empty() {
        seen.push(name.str());
    }
}

pub(crate) fn init_containers(list: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = context.spec.get("containers").items().iter().map(|one| one.text("name")).collect();
    for container in list.items() {
        common(&container, context, errors);
        restart_policy(&container, errors);
        unique_name(&container, &mut seen, errors);
        host_ports(std::slice::from_ref(&container), list, errors);
        if is_sidecar(&container) {
            running(&container, context, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                container
                    .get(field)
                    .forbidden(errors, "may not be set for init containers without restartPolicy=Always");
            }
        }
        for policy in container.get("resizePolicy").items() {
            if policy.text("restartPolicy") == "RestartContainer" {
                let text = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                policy.get("restartPolicy").invalid(errors, text);
            }
        }
    }
}

/// Fields of a container that make no sense for a visitor.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

pub(crate) fn ephemeral_containers(list: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| context.spec.get(list).items())
        .map(|container| container.text("name"))
        .collect();
    let mut seen = others.clone();
    for container in list.items() {
        common(&container, context, errors);
        only_for_pods(&container, errors);
        unique_name(&container, &mut seen, errors);
        let target = container.get("targetContainerName");
        if !target.is_empty() && !others.contains(&target.str()) {
            target.not_found(errors);
        }
        for field in NOT_EPHEMERAL.map(|field| container.get(field)).iter().filter(|field| !field.is_empty()) {
            field.forbidden(errors, "cannot be set for an Ephemeral Container");
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"].map(|field| mount.get(field)).iter().filter(|one| !one.is_empty()) {
                field.forbidden(errors, "cannot be set for an Ephemeral Container");
            }
        }
    }
}

/// Pods, and not templates: templates may hold a placeholder.
pub(crate) fn only_for_pods(container: &At<'_>, errors: &mut Errors) {
    let image = container.get("image");
    if image.str().trim() != image.str() {
        image.invalid(errors, "must not have leading or trailing whitespace");
    }
}

fn common(container: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let name = container.get("name");
    if name.is_empty() {
        name.required(errors, "");
    } else {
        name.invalid_all(errors, names::is_dns1123_label(name.str()));
    }
    if container.get("image").is_empty() {
        container.get("image").required(errors, "");
    }
    container.get("terminationMessagePolicy").required_one_of(errors, &["File", "FallbackToLogsOnError"]);
    ports(&container.get("ports"), errors);
    env::variables(&container.get("env"), errors);
    env::sources(&container.get("envFrom"), errors);
    volumes::mounts(container, context, errors);
    volumes::devices(container, context, errors);
    container.get("imagePullPolicy").required_one_of(errors, &["Always", "IfNotPresent", "Never"]);
    requirements::container(&container.get("resources"), &context.claims, errors);
    resize_policy(&container.get("resizePolicy"), context, errors);
    security::container(&container.get("securityContext"), context.host_users(), errors);
}

fn ports(ports: &At<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_empty() {
            let texts = port_name(name.str());
            if !texts.is_empty() {
                name.invalid_all(errors, texts);
            } else if seen.contains(&name.str()) {
                name.duplicate(errors);
            } else {
                seen.push(name.str());
            }
        }
        let (own, host) = (port.get("containerPort"), port.get("hostPort"));
        if own.int() == 0 {
            own.required(errors, "");
        } else {
            own.invalid_all(errors, port_number(own.int()));
        }
        if host.int() != 0 {
            host.invalid_all(errors, port_number(host.int()));
        }
        port.get("protocol").required_one_of(errors, &["TCP", "UDP", "SCTP"]);
    }
}

/// One host port serves one container. For init containers upstream counts each one alone, from index 0.
fn host_ports(containers: &[At<'_>], list: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let place = list.index(index).with(container.value());
        for port in place.get("ports").items().iter().filter(|port| port.number("hostPort") != 0) {
            let key = format!("{}/{}/{}", port.text("protocol"), port.text("hostIP"), port.number("hostPort"));
            if seen.contains(&key) {
                port.get("hostPort").duplicate_as(errors, key);
            } else {
                seen.push(key);
            }
        }
    }
}

fn resize_policy(policies: &At<'_>, context: &Context<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for policy in policies.items() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if seen.contains(&resource) {
            policy.duplicate_as(errors, resource);
        }
        seen.push(resource);
        // Upstream names the list here, and not the element.
        let whole = |field: &str| policies.with(policy.value().get(field).unwrap_or(policies.value()));
        whole("resourceName").required_one_of(errors, &["cpu", "memory"]);
        whole("restartPolicy").required_one_of(errors, &["NotRequired", "RestartContainer"]);
        if context.spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            policies.invalid_as(errors, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

fn restart_policy(container: &At<'_>, errors: &mut Errors) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    if policy.exists() {
        policy.one_of(errors, &["Always", "Never", "OnFailure"]);
    } else if !rules.is_empty() {
        policy.required(errors, "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > RESTART_RULES_MAX {
        rules.too_many(errors, RESTART_RULES_MAX);
    }
    for rule in rules.items() {
        rule.get("action").one_of(errors, &["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if !codes.exists() {
            codes.required(errors, "must be specified");
            continue;
        }
        codes.get("operator").one_of(errors, &["In", "NotIn"]);
        if codes.get("values").len() > EXIT_CODES_MAX {
            codes.get("values").too_many(errors, EXIT_CODES_MAX);
        }
    }
}
