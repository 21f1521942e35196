//! The environment of a container.

use std::collections::BTreeMap;

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};

use crate::context::Context;
use crate::fieldpath::{self, PodFacts};
use crate::{Error, Result};

/// Names and values; a later name wins over an earlier one.
pub(crate) type Environment = BTreeMap<String, String>;

/// Everything that is set for a container but what its image sets.
pub(crate) async fn environment(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
) -> Result<Environment> {
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    ctx.services.wait_synced().await;
    let services = service_environment(&ctx.services.list(), pod.namespace(), links);
    let mut own = Environment::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            if let Some(map) = config_map(ctx, pod, &reference.name, reference.optional).await? {
                let pairs = map.data.iter().flatten();
                own.extend(pairs.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
        } else if let Some(reference) = &source.secret_ref
            && let Some(secret) = secret(ctx, pod, &reference.name, reference.optional).await?
        {
            let pairs = secret.data.iter().flatten();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            own.extend(pairs.map(|(key, value)| (format!("{prefix}{key}"), text(&value.0))));
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().filter(|value| !value.is_empty()), &variable.value_from) {
            (Some(value), _) => Some(expand(value, &[&own, &services])),
            (None, Some(source)) => referenced(ctx, pod, container, source, facts).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            own.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        own.entry(name).or_insert(value);
    }
    Ok(own)
}

/// `None` for an optional thing that is not there.
async fn referenced(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &PodFacts,
) -> Result<Option<String>> {
    if let Some(selector) = &source.field_ref {
        return fieldpath::field(pod, selector, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fieldpath::resource(pod, container, selector, facts).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let Some(map) = config_map(ctx, pod, &selector.name, selector.optional).await? else { return Ok(None) };
        let value = map.data.as_ref().and_then(|data| data.get(&selector.key)).cloned();
        return missing_key(value, selector.optional, &selector.key, "ConfigMap", pod, &selector.name);
    }
    if let Some(selector) = &source.secret_key_ref {
        let Some(secret) = secret(ctx, pod, &selector.name, selector.optional).await? else { return Ok(None) };
        let value = secret.data.as_ref().and_then(|data| data.get(&selector.key));
        let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return missing_key(value, selector.optional, &selector.key, "Secret", pod, &selector.name);
    }
    Ok(Some(String::new()))
}

fn missing_key(
    value: Option<String>,
    optional: Option<bool>,
    key: &str,
    kind: &str,
    pod: &Pod,
    name: &str,
) -> Result<Option<String>> {
    if value.is_some() || optional == Some(true) {
        return Ok(value);
    }
    Err(Error::message(format!("couldn't find key {key} in {kind} {}/{name}", pod.namespace())))
}

async fn config_map(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<std::sync::Arc<k8s_openapi::api::core::v1::ConfigMap>>> {
    let found = ctx.config_maps.get(pod.namespace(), name).await?;
    if found.is_none() && optional != Some(true) {
        return Err(Error::message(format!("configmap \"{name}\" not found")));
    }
    Ok(found)
}

async fn secret(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<std::sync::Arc<k8s_openapi::api::core::v1::Secret>>> {
    let found = ctx.secrets.get(pod.namespace(), name).await?;
    if found.is_none() && optional != Some(true) {
        return Err(Error::message(format!("secret \"{name}\" not found")));
    }
    Ok(found)
}

/// Replaces `$(NAME)` where a scope knows the name; `$$` stands for one dollar.
/// Source: `third_party/forked/golang/expansion` as documented for `EnvVar.value`.
pub(crate) fn expand(text: &str, scopes: &[&Environment]) -> String {
    expand_with(text, |name| scopes.iter().find_map(|scope| scope.get(name)).cloned()).0
}

/// Also tells the names that nothing knows.
pub(crate) fn expand_with(text: &str, lookup: impl Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str(&format!("$({name})"));
                    unknown.push(name.to_owned());
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    (out, unknown)
}

/// Variables of services: the API server's always, those of the pod's namespace with `links`.
fn service_environment(services: &[std::sync::Arc<Service>], namespace: &str, links: bool) -> Environment {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let is_master = service.namespace() == "default" && service.name() == "kubernetes";
        if is_master {
            chosen.entry(service.name()).or_insert(service);
        }
        if links && service.namespace() == namespace {
            chosen.insert(service.name(), service);
        }
    }
    chosen.values().flat_map(|service| variables_of(service)).collect()
}

fn variables_of(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
    let (Some(ip), Some(ports)) = (ip, spec.ports.as_deref()) else { return Vec::new() };
    let Some(first) = ports.first() else { return Vec::new() };
    let upper = |name: &str| name.replace('-', "_").to_uppercase();
    let prefix = upper(service.name());
    let mut all = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn references_are_expanded() {
        let scope: Environment = [("A".to_owned(), "1".to_owned())].into();
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $( $", "$A $( $"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &[&scope]), want, "{text}");
        }
    }

    #[test]
    fn services_become_variables() {
        let service = Service::from_slice(
            br#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"foo-svc","namespace":"n"},
            "spec":{"clusterIP":"10.0.0.1","ports":[{"name":"web","port":80,"protocol":"TCP"}]}}"#,
        )
        .expect("service");
        let env = service_environment(&[std::sync::Arc::new(service)], "n", true);
        let lines: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect![[r#"
            FOO_SVC_PORT=tcp://10.0.0.1:80
            FOO_SVC_PORT_80_TCP=tcp://10.0.0.1:80
            FOO_SVC_PORT_80_TCP_ADDR=10.0.0.1
            FOO_SVC_PORT_80_TCP_PORT=80
            FOO_SVC_PORT_80_TCP_PROTO=tcp
            FOO_SVC_SERVICE_HOST=10.0.0.1
            FOO_SVC_SERVICE_PORT=80
            FOO_SVC_SERVICE_PORT_WEB=80"#]]
        .assert_eq(&lines.join("\n"));
    }
}
