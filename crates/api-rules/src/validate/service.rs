//! Services. Addresses and ports of the cluster are given out by the registry, before or after these rules.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, FieldPath, Value, names};
use serde_json::json;

use super::endpoints::usable_ip;
use super::pod::handlers::port as port_or_name;
use crate::at::{At, Errors, IMMUTABLE};
use crate::formats::{cidr_legacy, ip_legacy, parse_ip_sloppy, port_number};
use crate::same::same;

fn kind<'v>(service: &At<'v>) -> &'v str {
    service.dig("spec.type").str()
}

fn is_headless(service: &At<'_>) -> bool {
    service.dig("spec.clusterIPs").strings() == ["None"]
}

pub fn service(service: &At<'_>, errors: &mut Errors) {
    topology_annotations(service, errors);
    let spec = service.get("spec");
    let (ports, headless) = (spec.get("ports"), is_headless(service));
    if ports.is_empty() && !headless && kind(service) != "ExternalName" {
        ports.required(errors, "");
    }
    by_type(service, errors);
    check_ports(&ports, errors);
    crate::meta::labels(&spec.get("selector"), errors);
    affinity(&spec, errors);
    cluster_ips(service, errors);
    for ip in spec.get("externalIPs").items() {
        let texts = ip_legacy(ip.str());
        if texts.is_empty() {
            usable_ip(&ip, ip.str(), errors);
        } else {
            ip.invalid_all(errors, texts);
        }
    }
    spec.get("type").required_one_of(errors, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    unique_ports(&ports, kind(service), errors);
    load_balancer(service, errors);
    traffic(service, errors);
}

fn topology_annotations(service: &At<'_>, errors: &mut Errors) {
    let annotations = service.dig("metadata.annotations");
    let (mode, hints) = (
        annotations.key("service.kubernetes.io/topology-mode"),
        annotations.key("service.kubernetes.io/topology-aware-hints"),
    );
    if mode.exists() && hints.exists() && mode.str() != hints.str() {
        let text = "must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified";
        mode.invalid(errors, text);
    }
}

fn by_type(service: &At<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    match kind(service) {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(service) => {
            spec.get("clusterIPs").index(0).invalid(errors, format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"].map(|field| spec.get(field)) {
                if !field.is_empty() {
                    field.forbidden(errors, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            let bare = name.str().strip_suffix('.').unwrap_or(name.str());
            if bare.is_empty() {
                name.required(errors, "");
            } else {
                names::is_dns1123_subdomain(bare).into_iter().for_each(|text| name.invalid_as(errors, bare, text));
            }
        }
        _ => {}
    }
}

fn check_ports(ports: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if name.is_empty() {
            if ports.len() > 1 {
                name.required(errors, "");
            }
        } else {
            name.invalid_all(errors, names::is_dns1123_label(name.str()));
            if !seen.insert(name.str()) {
                name.duplicate(errors);
            }
        }
        for text in port_number(port.number("port")) {
            port.get("port").invalid_as(errors, port.number("port"), text);
        }
        port.get("protocol").required_one_of(errors, &["SCTP", "TCP", "UDP"]);
        port_or_name(&port.get("targetPort"), errors);
        let application = port.get("appProtocol");
        if application.exists() {
            application.invalid_all(errors, names::is_qualified_name(application.str()));
        }
    }
}

fn unique_ports(ports: &At<'_>, kind: &str, errors: &mut Errors) {
    let (mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let items = ports.items();
    let with_node_port = || items.iter().filter(|port| port.number("nodePort") != 0);
    if kind == "ClusterIP" {
        with_node_port().for_each(|port| {
            port.get("nodePort").forbidden(errors, "may not be used when `type` is 'ClusterIP'");
        });
    }
    for port in with_node_port() {
        if !node_ports.insert((port.text("protocol"), port.number("nodePort"))) {
            port.get("nodePort").duplicate(errors);
        }
    }
    for port in &items {
        let (protocol, number) = (port.text("protocol"), port.number("port"));
        if !numbers.insert((protocol, number)) {
            // Upstream prints its internal type.
            let key = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            port.duplicate_as(errors, key);
        }
    }
}

const AFFINITY_SECONDS_MAX: i64 = 86400;

fn affinity(spec: &At<'_>, errors: &mut Errors) {
    let affinity = spec.get("sessionAffinity");
    affinity.required_one_of(errors, &["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match affinity.str() {
        "ClientIP" => {
            let parts = [config.clone(), config.get("clientIP"), config.dig("clientIP.timeoutSeconds")];
            if let Some(missing) = parts.iter().find(|part| !part.exists()) {
                return missing.required(errors, "when session affinity type is ClientIP");
            }
            let seconds = &parts[2];
            if seconds.int() <= 0 || seconds.int() > AFFINITY_SECONDS_MAX {
                seconds.invalid(errors, format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
            }
        }
        "None" if config.exists() => config.forbidden(errors, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn is_six(ip: &str) -> bool {
    parse_ip_sloppy(ip).is_some_and(|ip| ip.is_ipv6())
}

fn cluster_ips(service: &At<'_>, errors: &mut Errors) {
    if kind(service) == "ExternalName" {
        return;
    }
    let spec = service.get("spec");
    let (one, ips) = (spec.text("clusterIP"), spec.get("clusterIPs"));
    match (one.is_empty(), ips.strings().first()) {
        (false, None) => ips.required(errors, ""),
        (false, Some(first)) if *first != one => ips.invalid(errors, "first value must match `clusterIP`"),
        (true, Some(_)) => ips.invalid(errors, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in spec.get("ipFamilies").items() {
        family.one_of(errors, &["IPv4", "IPv6"]);
        if !seen.insert(family.str()) {
            family.duplicate(errors);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.get("ipFamilyPolicy").one_of_if_set(errors, &policies);
    let before = errors.len();
    for (index, ip) in ips.items().iter().enumerate() {
        if index == 0 && ip.str() == "None" {
            if ips.len() > 1 {
                ips.invalid(errors, "'None' must be the first and only value");
            }
        } else {
            ip.invalid_all(errors, ip_legacy(ip.str()));
        }
    }
    let bad = errors.len() > before;
    if ips.len() > 2 {
        ips.invalid(errors, "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    let sixes = ips.strings().iter().filter(|ip| is_six(ip)).count();
    if ips.len() > 1 && (sixes == 0 || sixes == ips.len()) {
        ips.invalid(errors, "may specify no more than one IP for each IP family");
    }
    if is_headless(service) {
        return;
    }
    let families = spec.get("ipFamilies").strings();
    for (index, (ip, family)) in ips.items().iter().zip(families).enumerate() {
        if (family == "IPv4" && is_six(ip.str())) || (family == "IPv6" && !is_six(ip.str())) {
            ip.invalid(errors, format!("expected an {family} value as indicated by `ipFamilies[{index}]`"));
        }
    }
}

const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn load_balancer(service: &At<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    let is_balancer = kind(service) == "LoadBalancer";
    let ranges = spec.get("LoadBalancerSourceRanges").with(spec.get("loadBalancerSourceRanges").value());
    let annotation = service.dig("metadata.annotations").key(RANGES);
    if !ranges.is_empty() {
        if !is_balancer {
            ranges.forbidden(errors, BALANCER_ONLY);
        }
        for range in ranges.items() {
            let text = range.str().trim();
            cidr_legacy(text).into_iter().for_each(|detail| range.invalid_as(errors, text, detail));
        }
    } else if annotation.exists() {
        if !is_balancer {
            annotation.forbidden(errors, BALANCER_ONLY);
        }
        for text in annotation.str().split(',').map(str::trim).filter(|_| !annotation.str().trim().is_empty()) {
            cidr_legacy(text).into_iter().for_each(|detail| annotation.invalid_as(errors, text, detail));
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.exists() && !is_balancer {
        allocate.forbidden(errors, BALANCER_ONLY);
    }
    if !allocate.exists() && is_balancer {
        errors.push(FieldError::required(&FieldPath::new("allocateLoadBalancerNodePorts"), ""));
    }
    let class = spec.get("loadBalancerClass");
    if class.exists() {
        if is_balancer {
            class.invalid_all(errors, names::is_qualified_name(class.str()));
        } else {
            class.forbidden(errors, BALANCER_ONLY);
        }
    }
}

fn needs_health_check(service: &At<'_>) -> bool {
    kind(service) == "LoadBalancer" && service.dig("spec.externalTrafficPolicy").str() == "Local"
}

fn traffic(service: &At<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    let kind = kind(service);
    let external =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !spec.get("externalIPs").is_empty());
    let policy = spec.get("externalTrafficPolicy");
    if external {
        policy.required_one_of(errors, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        policy.invalid(errors, "may only be set for externally-accessible services");
    }
    let health = spec.get("healthCheckNodePort");
    if needs_health_check(service) {
        if health.int() != 0 {
            health.invalid_all(errors, port_number(health.int()));
        }
    } else if health.int() != 0 {
        let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        health.invalid(errors, text);
    }
    let internal = spec.get("internalTrafficPolicy");
    if !internal.exists() && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        internal.required(errors, "");
    }
    internal.one_of_if_set(errors, &["Cluster", "Local"]);
    let distribution = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    spec.get("trafficDistribution").one_of_if_set(errors, &distribution);
}

pub fn update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        let (now, before) = (is_headless(new), is_headless(old));
        if !(now && before) {
            kept(new, old, "clusterIPs", "clusterIP", errors);
        }
        if !now && !before {
            kept(new, old, "ipFamilies", "ipFamily", errors);
        }
    }
    let (class, before) = (new.dig("spec.loadBalancerClass"), old.dig("spec.loadBalancerClass"));
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" && !same(class.value(), before.value()) {
        class.invalid_as(errors, class.value().clone(), "may not change once set");
    }
    let (port, before) = (new.dig("spec.healthCheckNodePort"), old.dig("spec.healthCheckNodePort"));
    if needs_health_check(new) && needs_health_check(old) && port.int() != before.int() {
        port.forbidden(errors, IMMUTABLE);
    }
}

/// The first value stays; the second may come and go.
fn kept(new: &At<'_>, old: &At<'_>, field: &'static str, one: &str, errors: &mut Errors) {
    let spec = new.get("spec");
    let (now, before) = (spec.get(field), old.get("spec").get(field));
    let (values, old_values) = (now.strings(), before.strings());
    let first = now.index(0);
    let shown = || now.value().clone();
    if old_values.len() == values.len() {
        for (index, _) in old_values.iter().zip(&values).enumerate().filter(|(_, (a, b))| a != b) {
            now.index(if field == "clusterIPs" { index } else { 0 }).invalid_as(
                errors,
                shown(),
                "may not change once set",
            );
        }
        return;
    }
    if values.is_empty() {
        first.invalid_as(errors, Value::Array(Vec::new()), format!("primary {one} can not be unset"));
    }
    if let (Some(was), Some(is)) = (old_values.first(), values.first())
        && was != is
    {
        first.invalid_as(errors, shown(), "may not change once set");
    }
    let policy = spec.get("ipFamilyPolicy");
    if old_values.len() > values.len() && values.len() == 1 && policy.str() != "SingleStack" {
        let text = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        policy.invalid_as(errors, policy.value().clone(), text);
    }
}

pub fn status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    let ingress = new.dig("status.loadBalancer.ingress");
    if kind(new) != "LoadBalancer" && !ingress.is_empty() {
        return ingress.forbidden(errors, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for one in ingress.items() {
        let (ip, mode, host) = (one.get("ip"), one.get("ipMode"), one.get("hostname"));
        if !ip.is_empty() {
            ip.invalid_all(errors, ip_legacy(ip.str()));
        }
        match (mode.exists(), ip.is_empty()) {
            (false, false) => mode.required(errors, "must be specified when `ip` is set"),
            (true, true) => mode.forbidden(errors, "may not be specified when `ip` is not set"),
            (true, false) => mode.one_of(errors, &["Proxy", "VIP"]),
            (false, true) => {}
        }
        if !host.is_empty() {
            host.invalid_all(errors, names::is_dns1123_subdomain(host.str()));
            if parse_ip_sloppy(host.str()).is_some() {
                host.invalid(errors, "must be a DNS name, not an IP address");
            }
        }
    }
}
