//! Pods and pod templates. Source: `pkg/apis/core/validation/validation.go`.

pub mod containers;
pub mod env;
pub mod handlers;
pub mod requirements;
pub mod scheduling;
pub mod security;
pub mod update;
pub mod volumes;
pub mod warnings;

use coracle_api_meta::{Value, names};

use crate::at::{At, Errors};
use crate::formats::{in_range, ip_legacy};
use crate::resources;

/// What stands around the container that is looked at.
pub(crate) struct Context<'v> {
    /// A pod, not a template.
    pub is_pod: bool,
    pub spec: At<'v>,
    /// Good volumes by name.
    pub volumes: Vec<(&'v str, At<'v>)>,
    pub claims: Vec<&'v str>,
}

impl Context<'_> {
    pub fn host_users(&self) -> bool {
        self.spec.get("hostUsers").value().as_bool().unwrap_or(true)
    }
}

pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Every container with its place, in upstream's order.
pub(crate) fn all_containers<'v>(spec: &At<'v>) -> Vec<At<'v>> {
    CONTAINER_LISTS.iter().flat_map(|list| spec.get(list).items()).collect()
}

pub fn create(pod: &At<'_>, errors: &mut Errors) {
    annotations_and_spec(pod, errors);
    let spec = pod.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden(errors, "cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden(errors, "cannot be set until all schedulingGates have been cleared");
    }
}

/// What holds for new and changed pods.
pub(crate) fn annotations_and_spec(pod: &At<'_>, errors: &mut Errors) {
    let spec = pod.get("spec");
    annotations(&pod.dig("metadata.annotations"), &spec, errors);
    pod_spec(&spec, Some(&pod.get("metadata")), errors);
    if spec.text("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            for source in volume.dig("projected.sources").items().iter().filter(|one| one.has("serviceAccountToken")) {
                let text = "must not be specified when serviceAccountName is not set";
                source.get("serviceAccountToken").forbidden(errors, text);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.get(list).items().iter().for_each(|container| containers::only_for_pods(container, errors));
    }
}

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) fn annotations(annotations: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    if annotations.has(MIRROR) && spec.text("nodeName").is_empty() {
        annotations.key(MIRROR).invalid(errors, "must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = annotations.key("controller.kubernetes.io/pod-deletion-cost");
    let well_formed = |text: &str| text == "0" || (!text.starts_with('0') && !text.starts_with('+'));
    if cost.exists() && !(well_formed(cost.str()) && cost.str().parse::<i32>().is_ok()) {
        cost.invalid(errors, "must be a 32bit integer");
    }
}

/// The template of a workload. `path` of `template` is where it stands.
pub(crate) fn template(template: &At<'_>, errors: &mut Errors) {
    // Upstream leaves `metadata` out of these paths.
    let part = |field: &'static str| template.with(template.get("metadata").value()).get(field);
    crate::meta::labels(&part("labels"), errors);
    crate::meta::annotations(&part("annotations"), errors);
    let spec = template.get("spec");
    annotations(&part("annotations"), &spec, errors);
    pod_spec(&spec, None, errors);
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden(errors, "ephemeral containers not allowed in pod template");
    }
}

/// A pod's spec; `meta` is given for pods, and not for templates.
pub(crate) fn pod_spec(spec: &At<'_>, meta: Option<&At<'_>>, errors: &mut Errors) {
    if !spec.has("terminationGracePeriodSeconds") {
        spec.get("terminationGracePeriodSeconds").required(errors, "");
    }
    let volumes = volumes::volumes(&spec.get("volumes"), meta, errors);
    let claims = spec.get("resourceClaims").items().iter().map(|claim| claim.text("name")).collect::<Vec<_>>();
    let claims = claims.into_iter().filter(|name| !name.is_empty()).collect();
    let context = Context { is_pod: meta.is_some(), spec: spec.clone(), volumes, claims };
    resource_claims(&spec.get("resourceClaims"), errors);
    containers::containers(&spec.get("containers"), &context, errors);
    containers::init_containers(&spec.get("initContainers"), &context, errors);
    containers::ephemeral_containers(&spec.get("ephemeralContainers"), &context, errors);
    requirements::pod_level(spec, &context, errors);
    host_network(&context, errors);
    spec.get("restartPolicy").required_one_of(errors, &["Always", "OnFailure", "Never"]);
    spec.get("dnsPolicy").required_one_of(errors, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    crate::meta::labels(&spec.get("nodeSelector"), errors);
    security::pod(&spec.get("securityContext"), spec, errors);
    scheduling::affinity(&spec.get("affinity"), errors);
    dns_config(&spec.get("dnsConfig"), spec.text("dnsPolicy"), errors);
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        kind.invalid_all(errors, names::is_qualified_name(kind.str()));
    }
    scheduling::gates(&spec.get("schedulingGates"), errors);
    scheduling::topology_spread(&spec.get("topologySpreadConstraints"), errors);
    host_users(&context, errors);
    names_of_spec(spec, errors);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    host_aliases(&spec.get("hostAliases"), errors);
    classes(spec, errors);
    operating_system(spec, errors);
    file_key_volumes(spec, errors);
}

fn resource_claims(claims: &At<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if name.is_empty() {
            name.required(errors, "");
        } else if seen.contains(&name.str()) {
            name.duplicate(errors);
        } else {
            name.invalid_all(errors, names::is_dns1123_label(name.str()));
            seen.push(name.str());
        }
        let (own, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        if own.exists() && template.exists() {
            claim.invalid(errors, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified");
        }
        if !own.exists() && !template.exists() {
            claim.invalid(errors, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
        }
        for reference in [own, template].iter().filter(|reference| reference.exists()) {
            reference.invalid_all(errors, names::is_dns1123_subdomain(reference.str()));
        }
    }
}

fn host_network(context: &Context<'_>, errors: &mut Errors) {
    if !context.spec.flag("hostNetwork") {
        return;
    }
    for container in context.spec.get("containers").items() {
        for port in container.get("ports").items() {
            let (host, own) = (port.number("hostPort"), port.number("containerPort"));
            if (context.is_pod || host != 0) && host != own {
                port.get("hostPort").invalid_as(errors, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

fn dns_config(config: &At<'_>, policy: &str, errors: &mut Errors) {
    let servers = config.get("nameservers");
    if policy == "None" {
        if !config.exists() {
            return config.required(errors, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers.required(errors, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        servers.invalid(errors, format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        server.invalid_all(errors, ip_legacy(server.str()));
    }
    let searches = config.get("searches");
    if searches.len() > SEARCH_PATHS_MAX {
        searches.invalid(errors, format!("must not have more than {SEARCH_PATHS_MAX} search paths"));
    }
    if searches.strings().join(" ").len() > SEARCH_BYTES_MAX {
        searches.invalid(
            errors,
            format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list"),
        );
    }
    for search in searches.items().iter().filter(|search| search.str() != ".") {
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        for text in subdomain_with_underscores(name) {
            search.invalid_as(errors, name, text);
        }
    }
    for option in config.get("options").items().iter().filter(|option| option.text("name").is_empty()) {
        option.required(errors, "must not be empty");
    }
}

fn subdomain_with_underscores(name: &str) -> Vec<String> {
    const TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
    let mut texts = Vec::new();
    if name.len() > names::DNS1123_SUBDOMAIN_BYTES_MAX {
        texts.push("must be no more than 253 characters".to_owned());
    }
    let whole = crate::formats::regex!(r"^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$");
    if !whole.is_match(name) {
        texts.push(TEXT.to_owned());
    }
    texts
}

fn host_users(context: &Context<'_>, errors: &mut Errors) {
    if context.host_users() {
        return;
    }
    let spec = &context.spec;
    let text = "when `hostUsers` is false";
    if spec.flag("hostNetwork") {
        spec.get("hostNetwork").forbidden(errors, text);
    }
    for (field, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            spec.get(shown).forbidden(errors, text);
        }
    }
    for container in all_containers(spec).iter().filter(|container| !container.get("volumeDevices").is_empty()) {
        container.get("volumeDevices").forbidden(errors, text);
    }
}

const HOSTNAME_OVERRIDE_BYTES_MAX: usize = 64;

fn names_of_spec(spec: &At<'_>, errors: &mut Errors) {
    let host = spec.get("hostnameOverride");
    if host.exists() {
        for field in ["setHostnameAsFQDN", "hostNetwork"] {
            if spec.flag(field) {
                host.forbidden(errors, format!("may not be specified when {field} is true"));
            }
        }
        if host.len() > HOSTNAME_OVERRIDE_BYTES_MAX {
            host.too_long(errors, HOSTNAME_OVERRIDE_BYTES_MAX);
        }
        host.invalid_all(errors, names::is_dns1123_subdomain(host.str()));
    }
    for field in ["serviceAccountName", "nodeName"] {
        let name = spec.get(field);
        if !name.is_empty() {
            name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
        }
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.exists() {
        deadline.invalid_all(errors, in_range(deadline.int(), 1, i64::from(i32::MAX)));
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.get(field);
        if !name.is_empty() {
            name.invalid_all(errors, names::is_dns1123_label(name.str()));
        }
    }
}

fn host_aliases(aliases: &At<'_>, errors: &mut Errors) {
    for alias in aliases.items() {
        let ip = alias.get("ip");
        ip.invalid_all(errors, ip_legacy(ip.str()));
        for name in alias.get("hostnames").items() {
            name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
        }
    }
}

fn classes(spec: &At<'_>, errors: &mut Errors) {
    for field in ["priorityClassName", "runtimeClassName"] {
        let name = spec.get(field);
        if !name.is_empty() || (field == "runtimeClassName" && name.exists()) {
            name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
        }
    }
    let preemption = spec.get("preemptionPolicy");
    if preemption.exists() {
        preemption.required_one_of(errors, &["PreemptLowerPriority", "Never"]);
    }
    for (name, amount) in spec.get("overhead").entries() {
        requirements::container_resource(name, &amount, errors);
    }
}

fn operating_system(spec: &At<'_>, errors: &mut Errors) {
    let system = spec.get("os");
    if !system.exists() {
        return;
    }
    match system.text("name") {
        "" => system.get("name").required(errors, ""),
        "linux" => {
            let places = std::iter::once(spec.clone()).chain(all_containers(spec));
            for context in places.map(|place| place.get("securityContext")).filter(|one| one.has("windowsOptions")) {
                context.get("windowsOptions").forbidden(errors, "windows options cannot be set for a linux pod");
            }
        }
        "windows" => security::windows(spec, errors),
        name => system.invalid_unsupported(errors, name),
    }
}

trait UnsupportedSystem {
    fn invalid_unsupported(&self, errors: &mut Errors, name: &str);
}

impl UnsupportedSystem for At<'_> {
    fn invalid_unsupported(&self, errors: &mut Errors, name: &str) {
        let supported = ["linux", "windows"];
        errors.push(coracle_api_meta::FieldError::not_supported(&self.path(), name, &supported));
    }
}

/// Files of environment variables come from `emptyDir` volumes of the pod.
fn file_key_volumes(spec: &At<'_>, errors: &mut Errors) {
    let volumes = spec.get("volumes").items();
    for container in all_containers(spec) {
        for variable in container.get("env").items() {
            let file = variable.dig("valueFrom.fileKeyRef");
            if !file.exists() {
                continue;
            }
            let name = file.get("volumeName");
            match volumes.iter().find(|volume| volume.text("name") == name.str()) {
                None => name.not_found(errors),
                Some(volume) if !volume.has("emptyDir") => {
                    name.invalid(errors, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    }
}

/// True for init containers that run beside the others.
pub(crate) fn is_sidecar(container: &At<'_>) -> bool {
    resources::is_sidecar(container.value())
}

/// True for pods that a node made from a file.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    pod.get("metadata").and_then(|meta| meta.get("annotations")).is_some_and(|all| all.get(MIRROR).is_some())
}
