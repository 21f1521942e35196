//! The resolver configuration of a pod.

use std::net::IpAddr;

use coracle_api_types::Object;
use coracle_cri::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

/// Limits of resolvers. Source: kubelet `dns` (`MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars`).
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

/// What a pod is told. `host` is the content of the node's resolver configuration.
pub(crate) fn config_for(pod: &Pod, cluster_dns: &[IpAddr], cluster_domain: &str, host: &str) -> DnsConfig {
    let Some(spec) = &pod.spec else { return DnsConfig::default() };
    let host_network = spec.host_network == Some(true);
    let mut config = match spec.dns_policy.as_deref() {
        Some("None") => DnsConfig::default(),
        Some("Default") => parse(host),
        Some("ClusterFirst") | None if host_network => parse(host),
        _ if cluster_dns.is_empty() => parse(host),
        _ => cluster_first(pod.namespace(), cluster_dns, cluster_domain, &parse(host)),
    };
    if let Some(own) = &spec.dns_config {
        append(&mut config, own);
    }
    limit(&mut config);
    config
}

fn cluster_first(namespace: &str, cluster_dns: &[IpAddr], domain: &str, host: &DnsConfig) -> DnsConfig {
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    searches.extend(host.searches.iter().cloned());
    DnsConfig {
        servers: cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn append(config: &mut DnsConfig, own: &PodDNSConfig) {
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.searches.extend(own.searches.iter().flatten().cloned());
    for option in own.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        config.options.retain(|other| other.split(':').next() != Some(name));
        config.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        });
    }
}

fn limit(config: &mut DnsConfig) {
    let dedup = |list: &mut Vec<String>| {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|item| seen.insert(item.clone()));
    };
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    while config.searches.join(" ").len() > SEARCH_CHARACTERS_MAX {
        config.searches.pop();
    }
}

fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(keyword) = words.next() else { continue };
        let rest = words.map(str::to_owned);
        match keyword {
            "nameserver" => config.servers.extend(rest.take(1)),
            "search" => config.searches = rest.filter(|name| name != ".").map(|name| trim_dot(&name)).collect(),
            "options" => config.options = rest.collect(),
            _ => {}
        }
    }
    config
}

fn trim_dot(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(spec: &str, want: Expect) {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"namespace":"n"}},"spec":{{"containers":[],{spec}}}}}"#
        );
        let pod = Pod::from_slice(text.as_bytes()).expect("pod");
        let host = "# host\nnameserver 9.9.9.9\nsearch corp.example.\noptions timeout:2\n";
        let dns = config_for(&pod, &["10.96.0.10".parse().expect("ip")], "cluster.local", host);
        want.assert_eq(&format!("{} | {} | {}", dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" ")));
    }

    #[test]
    fn policies() {
        check(
            r#""dnsPolicy":"ClusterFirst""#,
            expect!["10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:5"],
        );
        check(r#""dnsPolicy":"ClusterFirst","hostNetwork":true"#, expect!["9.9.9.9 | corp.example | timeout:2"]);
        check(
            r#""dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true"#,
            expect!["10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:5"],
        );
        check(
            r#""dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"],"searches":["a.b"],"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}"#,
            expect!["1.1.1.1 | a.b | ndots:2 edns0"],
        );
    }
}
