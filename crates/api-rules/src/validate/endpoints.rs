//! Endpoints and endpoint slices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use coracle_api_meta::{Value, names};

use crate::at::{At, Errors};
use crate::formats::{ip, ip_legacy, parse_ip_sloppy, port_number};
use crate::same::same;

pub fn endpoints(endpoints: &At<'_>, errors: &mut Errors) {
    for subset in endpoints.get("subsets").items() {
        let (ready, waiting, ports) = (subset.get("addresses"), subset.get("notReadyAddresses"), subset.get("ports"));
        if ready.is_empty() && waiting.is_empty() {
            subset.required(errors, "must specify `addresses` or `notReadyAddresses`");
        }
        ready.items().iter().chain(&waiting.items()).for_each(|one| address(one, errors));
        ports.items().iter().for_each(|one| port(one, ports.len() > 1, errors));
    }
}

pub fn endpoints_warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
}

fn address(address: &At<'_>, errors: &mut Errors) {
    let ip = address.get("ip");
    for text in ip_legacy(ip.str()) {
        ip.invalid(errors, text);
    }
    let (host, node) = (address.get("hostname"), address.get("nodeName"));
    if !host.is_empty() {
        host.invalid_all(errors, names::is_dns1123_label(host.str()));
    }
    if node.exists() {
        node.invalid_all(errors, names::is_dns1123_subdomain(node.str()));
    }
    usable_ip(&ip, ip.str(), errors);
}

/// Addresses that traffic can be sent to from elsewhere.
pub(crate) fn usable_ip(at: &At<'_>, text: &str, errors: &mut Errors) {
    let Some(ip) = parse_ip_sloppy(text) else { return at.invalid_as(errors, text, "must be a valid IP address") };
    let (link_local, multicast) = match ip {
        IpAddr::V4(four) => (four.is_link_local(), four.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(six) => (six.is_unicast_link_local(), six.segments()[0] & 0xff0f == 0xff02),
    };
    let findings = [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    findings.into_iter().filter(|(bad, _)| *bad).for_each(|(_, detail)| at.invalid_as(errors, text, detail));
}

fn port(port: &At<'_>, named: bool, errors: &mut Errors) {
    let name = port.get("name");
    if !name.is_empty() {
        name.invalid_all(errors, names::is_dns1123_label(name.str()));
    } else if named {
        name.required(errors, "");
    }
    for text in port_number(port.number("port")) {
        port.get("port").invalid_as(errors, port.number("port"), text);
    }
    port.get("protocol").required_one_of(errors, &["SCTP", "TCP", "UDP"]);
    let application = port.get("appProtocol");
    if application.exists() {
        application.invalid_all(errors, names::is_qualified_name(application.str()));
    }
}

// Slices.

const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1000;
const ZONE_HINTS_MAX: usize = 8;
const TOPOLOGY_MAX: usize = 16;
const FAMILIES: &[&str] = &["FQDN", "IPv4", "IPv6"];

pub fn slice(slice: &At<'_>, errors: &mut Errors) {
    let kind = slice.get("addressType");
    kind.required_one_of(errors, FAMILIES);
    slice_ports(&slice.get("ports"), errors);
    slice_endpoints(&slice.get("endpoints"), kind.str(), errors);
}

fn slice_endpoints(endpoints: &At<'_>, kind: &str, errors: &mut Errors) {
    if endpoints.len() > ENDPOINTS_MAX {
        return endpoints.too_many(errors, ENDPOINTS_MAX);
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        if addresses.is_empty() {
            addresses.required(errors, "must contain at least 1 address");
        } else if addresses.len() > ADDRESSES_MAX {
            addresses.too_many(errors, ADDRESSES_MAX);
        }
        addresses.items().iter().for_each(|address| slice_address(address, &addresses, kind, errors));
        let node = endpoint.get("nodeName");
        if node.exists() {
            node.invalid_all(errors, names::is_dns1123_subdomain(node.str()));
        }
        let topology = endpoint.get("deprecatedTopology");
        if topology.len() > TOPOLOGY_MAX {
            topology.too_many(errors, TOPOLOGY_MAX);
        }
        crate::meta::labels(&topology, errors);
        let host = endpoint.get("hostname");
        if host.exists() {
            host.invalid_all(errors, names::is_dns1123_label(host.str()));
        }
        hints(&endpoint.get("hints"), errors);
    }
}

fn slice_address(address: &At<'_>, addresses: &At<'_>, kind: &str, errors: &mut Errors) {
    match kind {
        "FQDN" => {
            let bare = address.str().strip_suffix('.').unwrap_or(address.str());
            let texts = names::is_dns1123_subdomain(bare);
            if !texts.is_empty() {
                address.invalid_as(errors, bare, texts.join(","));
            } else if !bare.contains('.') {
                address.invalid_as(errors, bare, "should be a domain with at least two segments separated by dots");
            }
        }
        "IPv4" | "IPv6" => {
            let texts = if kind == "IPv4" { ip_legacy(address.str()) } else { ip(address.str()) };
            if !texts.is_empty() {
                return address.invalid_all(errors, texts);
            }
            if parse_ip_sloppy(address.str()).is_some_and(|ip| ip.is_ipv4() != (kind == "IPv4")) {
                // Upstream names the list here, and not the element.
                addresses.invalid_as(errors, address.str(), format!("must be an {kind} address"));
            }
            usable_ip(address, address.str(), errors);
        }
        _ => {}
    }
}

fn hints(hints: &At<'_>, errors: &mut Errors) {
    for list in ["forZones", "forNodes"].map(|field| hints.get(field)) {
        let mut seen = BTreeSet::new();
        if list.len() > ZONE_HINTS_MAX {
            list.too_many(errors, ZONE_HINTS_MAX);
            continue;
        }
        for hint in list.items() {
            let name = hint.get("name");
            if !seen.insert(name.str()) {
                name.duplicate(errors);
            }
            name.invalid_all(errors, names::is_label_value(name.str()));
        }
    }
}

fn slice_ports(ports: &At<'_>, errors: &mut Errors) {
    if ports.len() > PORTS_MAX {
        return ports.too_many(errors, PORTS_MAX);
    }
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let (name, application) = (port.get("name"), port.get("appProtocol"));
        if !name.is_empty() {
            name.invalid_all(errors, names::is_dns1123_label(name.str()));
        }
        if !seen.insert(name.str()) {
            name.duplicate(errors);
        }
        port.get("protocol").required_one_of(errors, &["SCTP", "TCP", "UDP"]);
        if application.exists() {
            application.invalid_all(errors, names::is_qualified_name(application.str()));
        }
    }
}

pub fn slice_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    tolerate_unchanged(new, old, "endpoints", errors);
    new.get("addressType").immutable(errors, &old.get("addressType"));
}

pub fn endpoints_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    tolerate_unchanged(new, old, "subsets", errors);
}

/// What older servers let in may stay as it is.
fn tolerate_unchanged(new: &At<'_>, old: &At<'_>, field: &'static str, errors: &mut Errors) {
    let place = format!("{field}[");
    if errors.iter().any(|error| error.path.as_str().starts_with(&place))
        && same(new.get(field).value(), old.get(field).value())
    {
        errors.retain(|error| !error.path.as_str().starts_with(&place));
    }
}
