//! Ingresses, network policies, and the cluster's own addresses.

use coracle_api_meta::{FieldError, Value, names};

use crate::at::{At, Errors, IMMUTABLE};
use crate::formats::{
    cidr, cidr_legacy, in_network, ip_legacy, parse_cidr_sloppy, parse_ip_sloppy, port_name, port_number, regex,
    wildcard_subdomain,
};
use crate::meta::label_selector;
use crate::same::same;

pub fn ingress(ingress: &At<'_>, errors: &mut Errors) {
    let spec = ingress.get("spec");
    let (rules, backend_) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !backend_.exists() {
        let shown = if rules.exists() { rules.value().clone() } else { Value::Null };
        spec.invalid_as(errors, shown, "either `defaultBackend` or `rules` must be specified");
    }
    if backend_.exists() {
        backend(&backend_, errors);
    }
    rules.items().iter().for_each(|one| rule(one, errors));
    for entry in spec.get("tls").items() {
        entry.get("hosts").items().iter().for_each(|one| host(one, errors));
        let secret = entry.get("secretName");
        if !secret.is_empty() {
            secret.invalid_all(errors, names::is_dns1123_subdomain(secret.str()));
        }
    }
    let class = spec.get("ingressClassName");
    if class.exists() {
        class.invalid_all(errors, names::is_dns1123_subdomain(class.str()));
    }
}

/// On creation, the annotation of old and the field must agree.
pub fn ingress_create(created: &At<'_>, errors: &mut Errors) {
    ingress(created, errors);
    let annotation = created.dig("metadata.annotations").value().get("kubernetes.io/ingress.class");
    let class = created.dig("spec.ingressClassName");
    if let Some(annotation) = annotation.filter(|annotation| class.exists() && *annotation != class.value()) {
        let path = coracle_api_meta::FieldPath::new("annotations").child("kubernetes.io/ingress.class");
        let text = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&path, annotation.clone(), text));
    }
}

pub fn ingress_update(_: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    errors.retain(|error| !error.path.as_str().starts_with("annotations."));
}

fn host(host: &At<'_>, errors: &mut Errors) {
    let texts =
        if host.str().contains('*') { wildcard_subdomain(host.str()) } else { names::is_dns1123_subdomain(host.str()) };
    host.invalid_all(errors, texts);
}

fn rule(rule: &At<'_>, errors: &mut Errors) {
    let name = rule.get("host");
    if !name.is_empty() {
        if parse_ip_sloppy(name.str()).is_some() {
            name.invalid(errors, "must be a DNS name, not an IP address");
        }
        host(&name, errors);
    }
    let http = rule.get("http");
    if !http.exists() {
        return;
    }
    let paths = http.get("paths");
    if paths.is_empty() {
        paths.required(errors, "");
    }
    paths.items().iter().for_each(|one| http_path(one, errors));
}

const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];

fn http_path(entry: &At<'_>, errors: &mut Errors) {
    let (kind, path) = (entry.get("pathType"), entry.get("path"));
    if !kind.exists() {
        return kind.required(errors, "pathType must be specified");
    }
    let absolute = path.str().starts_with('/');
    match kind.str() {
        "Exact" | "Prefix" => {
            if !absolute {
                path.invalid(errors, "must be an absolute path");
            }
            for sequence in BAD_SEQUENCES.into_iter().filter(|sequence| path.str().contains(sequence)) {
                path.invalid(errors, format!("must not contain '{sequence}'"));
            }
            for suffix in ["/..", "/."].into_iter().filter(|suffix| path.str().ends_with(suffix)) {
                path.invalid(errors, format!("cannot end with '{suffix}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !absolute {
                path.invalid(errors, "must be an absolute path");
            }
        }
        _ => kind.unsupported(errors, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&entry.get("backend"), errors);
}

fn backend(backend: &At<'_>, errors: &mut Errors) {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    match (resource.exists(), service.exists()) {
        (true, true) => backend.invalid_as(errors, "", "cannot set both resource and service backends"),
        (false, false) => backend.invalid_as(errors, "", "resource or service backend is required"),
        (true, false) => local_reference(&resource, errors),
        (false, true) => {
            let (name, port) = (service.get("name"), service.get("port"));
            if name.is_empty() {
                name.required(errors, "");
            } else {
                name.invalid_all(errors, names::is_dns1035_label(name.str()));
            }
            let (text, number) = (port.get("name"), port.get("number"));
            match (!text.is_empty(), number.int() != 0) {
                (true, true) => backend.invalid_as(errors, "", "cannot set both port name & port number"),
                (true, false) => text.invalid_all(errors, port_name(text.str())),
                (false, true) => number.invalid_all(errors, port_number(number.int())),
                (false, false) => backend.required(errors, "port name or number is required"),
            }
        }
    }
}

fn local_reference(reference: &At<'_>, errors: &mut Errors) {
    let group = reference.get("apiGroup");
    if group.exists() {
        group.invalid_all(errors, names::is_dns1123_subdomain(group.str()));
    }
    for field in ["kind", "name"].map(|field| reference.get(field)) {
        if field.is_empty() {
            field.required(errors, "");
        } else {
            field.invalid_all(errors, names::is_path_segment(field.str()));
        }
    }
}

pub fn ingress_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    for one in new.dig("status.loadBalancer.ingress").items() {
        let (ip, host) = (one.get("ip"), one.get("hostname"));
        if !ip.is_empty() {
            ip.invalid_all(errors, ip_legacy(ip.str()));
        }
        if !host.is_empty() {
            host.invalid_all(errors, names::is_dns1123_subdomain(host.str()));
            if parse_ip_sloppy(host.str()).is_some() {
                host.invalid(errors, "must be a DNS name, not an IP address");
            }
        }
    }
}

const CONTROLLER_BYTES_MAX: usize = 250;

pub fn ingress_class(class: &At<'_>, errors: &mut Errors) {
    let controller = class.dig("spec.controller");
    if controller.len() > CONTROLLER_BYTES_MAX {
        controller.too_long(errors, CONTROLLER_BYTES_MAX);
    }
    domain_path(&controller, errors);
    let parameters = class.dig("spec.parameters");
    if !parameters.exists() {
        return;
    }
    local_reference(&parameters, errors);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.str() {
        _ if !scope.exists() => scope.required(errors, ""),
        "Namespace" if !namespace.exists() => {
            namespace.required(errors, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => namespace.invalid_all(errors, names::is_dns1123_label(namespace.str())),
        "Cluster" if namespace.exists() => namespace.forbidden(errors, "`parameters.scope` is set to 'Cluster'"),
        "Cluster" => {}
        _ => scope.unsupported(errors, &["Cluster", "Namespace"]),
    }
}

/// `acme.io/foo`.
pub(crate) fn domain_path(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        return at.required(errors, "");
    }
    let Some((host, path)) = at.str().split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return at.invalid(errors, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    names::is_dns1123_subdomain(host).into_iter().for_each(|text| at.invalid_as(errors, host, text));
    if !regex!(r"^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$").is_match(path) {
        let text = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        at.invalid_as(errors, path, text);
    }
}

pub fn ingress_class_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.dig("spec.controller").immutable(errors, &old.dig("spec.controller"));
}

// Network policies.

pub fn network_policy(policy: &At<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    label_selector(&spec.get("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            rule.get("ports").items().iter().for_each(|one| policy_port(one, errors));
            rule.get(peers).items().iter().for_each(|one| peer(one, errors));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        return types.invalid(errors, "may not specify more than two policyTypes");
    }
    types.items().iter().for_each(|kind| kind.one_of(errors, &["Egress", "Ingress"]));
}

fn policy_port(port: &At<'_>, errors: &mut Errors) {
    port.get("protocol").one_of_if_set(errors, &["TCP", "UDP", "SCTP"]);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value() {
        Value::Null if end.exists() => end.invalid(errors, "may not be specified when `port` is not specified"),
        Value::Null => {}
        Value::String(name) => {
            if end.exists() {
                end.invalid(errors, "may not be specified when `port` is non-numeric");
            }
            number.invalid_all(errors, port_name(name));
        }
        _ => {
            number.invalid_all(errors, port_number(number.int()));
            if end.exists() {
                if end.int() < number.int() {
                    end.invalid_as(errors, number.int(), "must be greater than or equal to `port`");
                }
                end.invalid_all(errors, port_number(end.int()));
            }
        }
    }
}

fn peer(peer: &At<'_>, errors: &mut Errors) {
    let selectors = ["podSelector", "namespaceSelector"].map(|field| peer.get(field));
    selectors.iter().for_each(|selector| label_selector(selector, errors));
    let block = peer.get("ipBlock");
    if block.exists() {
        ip_block(&block, errors);
    }
    let selected = selectors.iter().any(At::exists);
    if !selected && !block.exists() {
        peer.required(errors, "must specify a peer");
    } else if selected && block.exists() {
        peer.forbidden(errors, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &At<'_>, errors: &mut Errors) {
    let whole = block.get("cidr");
    if whole.is_empty() {
        return whole.required(errors, "");
    }
    whole.invalid_all(errors, cidr_legacy(whole.str()));
    let Some((network, length)) = parse_cidr_sloppy(whole.str()) else { return };
    for except in block.get("except").items() {
        except.invalid_all(errors, cidr_legacy(except.str()));
        let Some((inner, inner_length)) = parse_cidr_sloppy(except.str()) else { continue };
        if !in_network(inner, network, length) || length >= inner_length {
            except.invalid(errors, "must be a strict subset of `cidr`");
        }
    }
}

// Addresses.

pub fn ip_address(address: &At<'_>, errors: &mut Errors) {
    let name = address.dig("metadata.name");
    if !name.is_empty() {
        name.invalid_all(errors, crate::formats::ip(name.str()));
    }
    let parent = address.dig("spec.parentRef");
    if !parent.exists() {
        return parent.required(errors, "");
    }
    let group = parent.get("group");
    if !group.is_empty() {
        group.invalid_all(errors, names::is_dns1123_subdomain(group.str()));
    }
    for field in ["resource", "name", "namespace"] {
        let at = parent.get(field);
        if !at.is_empty() {
            at.invalid_all(errors, names::is_path_segment(at.str()));
        } else if field != "namespace" {
            at.required(errors, "");
        }
    }
}

pub fn ip_address_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.dig("spec.parentRef").immutable(errors, &old.dig("spec.parentRef"));
}

pub fn service_cidr(object: &At<'_>, errors: &mut Errors) {
    let list = object.dig("spec.cidrs");
    if list.is_empty() {
        return list.required(errors, "at least one CIDR required");
    }
    if list.len() > 2 {
        return list.invalid_as(errors, object.get("spec").value().clone(), "may only hold up to 2 values");
    }
    for one in list.items() {
        one.invalid_all(errors, cidr(one.str()));
    }
    let families: Vec<bool> =
        list.strings().iter().filter_map(|text| parse_cidr_sloppy(text)).map(|(ip, _)| ip.is_ipv4()).collect();
    if families.len() == 2 && families.first() == families.last() {
        let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        list.invalid(errors, text);
    }
}

pub fn service_cidr_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (list, before) = (new.dig("spec.cidrs"), old.dig("spec.cidrs"));
    let grows = before.len() == 1 && list.len() == 2;
    if list.len() != before.len() && !grows {
        return list.invalid(errors, IMMUTABLE);
    }
    for (now, then) in list.items().iter().zip(&before.items()) {
        if !same(now.value(), then.value()) {
            now.invalid(errors, IMMUTABLE);
        }
    }
}
