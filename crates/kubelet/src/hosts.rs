//! `/etc/hosts` and the name of a pod.

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{HostAlias, Pod};

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
/// Characters of a host name that the kernel takes.
const HOSTNAME_MAX: usize = 63;

/// Host name of a pod, and its domain when it has a subdomain.
pub(crate) fn name_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let Some(spec) = &pod.spec else { return (pod.name().to_owned(), String::new()) };
    if let Some(name) = &spec.hostname_override {
        return (truncated(name), String::new());
    }
    let own = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = truncated(own.unwrap_or(pod.name()));
    let domain = match spec.subdomain.as_deref().filter(|name| !name.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    (name, domain)
}

fn truncated(name: &str) -> String {
    let end = name.char_indices().map(|(at, _)| at).take_while(|at| *at <= HOSTNAME_MAX).last().unwrap_or(0);
    if name.len() <= HOSTNAME_MAX { name.to_owned() } else { name[..end].trim_end_matches(['-', '.']).to_owned() }
}

/// What the kernel's host name of the sandbox is. Source: `setHostnameAsFQDN` (KEP-1797).
pub(crate) fn kernel_hostname(pod: &Pod, name: &str, domain: &str) -> Result<String, String> {
    let as_fqdn = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    if !as_fqdn || domain.is_empty() {
        return Ok(name.to_owned());
    }
    let full = format!("{name}.{domain}");
    if full.len() > HOSTNAME_MAX + 1 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The managed file of a pod with a network of its own.
pub(crate) fn managed(ips: &[String], name: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut text = String::from(HEADER);
    text.push_str("127.0.0.1\tlocalhost\n");
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("fe00::0\tip6-localnet\n");
    text.push_str("fe00::0\tip6-mcastprefix\n");
    text.push_str("fe00::1\tip6-allnodes\n");
    text.push_str("fe00::2\tip6-allrouters\n");
    for ip in ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{name}\n"));
        } else {
            text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
        }
    }
    text.push_str(&alias_lines(aliases));
    text
}

/// The managed file of a pod of the host's network.
pub(crate) fn of_host(host_file: &str, aliases: &[HostAlias]) -> String {
    format!("{HEADER_HOST_NETWORK}{host_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_pod_of_a_subdomain_has_a_full_name() {
        let pod = Pod::from_slice(
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n"},
            "spec":{"containers":[],"hostname":"h","subdomain":"s"}}"#,
        )
        .expect("pod");
        let (name, domain) = name_and_domain(&pod, "cluster.local");
        let alias = HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["foo".into(), "bar".into()]) };
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.1.0.2	h.s.n.svc.cluster.local	h

            # Entries added by HostAliases.
            1.2.3.4	foo	bar
        "#]]
        .assert_eq(&managed(&["10.1.0.2".into()], &name, &domain, &[alias]));
        assert_eq!(truncated(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    }
}
