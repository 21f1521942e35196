//! Groups, versions and resources, in the old form and aggregated (KEP-3352).

use coracle_api_meta::{Status, Value};
use http::StatusCode;
use serde_json::json;

use crate::aggregation::{self, Group, Source};
use crate::http::negotiate::{accept_text, media_types};
use crate::http::{Ctx, Reply, reply};
use crate::registry::resources::{Resource, Resources, Subresource};

fn aggregated_version(ctx: &Ctx) -> Option<&'static str> {
    media_types(accept_text(&ctx.headers)).iter().find_map(|media| {
        let wanted = media.parameter("as") == "APIGroupDiscoveryList" && media.parameter("g") == "apidiscovery.k8s.io";
        match media.parameter("v") {
            "v2" if wanted => Some("v2"),
            "v2beta1" if wanted => Some("v2beta1"),
            _ => None,
        }
    })
}

fn aggregated(ctx: &Ctx, version: &'static str, core: bool) -> Reply {
    let resources = ctx.server.resources();
    let groups = aggregation::groups(&ctx.server);
    let items: Vec<Value> = groups
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|(version, source)| of_version(ctx, &resources, &group.name, version, source))
                .collect();
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group.name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    });
    let content_type = if version == "v2" {
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    } else {
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    };
    let mut reply = reply::bytes(StatusCode::OK, content_type, list.to_string());
    reply.headers_mut().insert(http::header::VARY, http::HeaderValue::from_static("Accept"));
    reply
}

fn of_version(ctx: &Ctx, resources: &Resources, group: &str, version: &str, source: &Source) -> Value {
    let Source::Remote(service) = source else {
        let rows = resources.all().iter().filter(|row| row.group == group && row.version == version);
        let list: Vec<Value> = rows.map(|row| discovered(row)).collect();
        return json!({"version": version, "resources": list, "freshness": "Current"});
    };
    let known = ctx.server.aggregation.remote.of(&service.name);
    let (list, stale) = known.map_or((Value::Null, true), |known| (known.resources.clone(), known.stale));
    let mut value = json!({"version": version});
    if list.as_array().is_some_and(|list| !list.is_empty()) {
        value["resources"] = list;
    }
    value["freshness"] = if stale { "Stale" } else { "Current" }.into();
    value
}

fn kind_of(row: &Resource, kind: &str, kind_group_version: &str) -> Value {
    let (group, version) = match kind_group_version {
        "" => (row.group.as_str(), row.version.as_str()),
        other => other.split_once('/').unwrap_or(("", other)),
    };
    json!({"group": group, "version": version, "kind": kind})
}

fn discovered(row: &Resource) -> Value {
    let mut item = json!({
        "resource": row.plural, "responseKind": kind_of(row, &row.kind, ""),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": row.singular, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        item["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        item["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let subresources = row.subresources.iter().map(|sub| {
            json!({"subresource": sub.name, "responseKind": kind_of(row, &sub.kind, &sub.kind_group_version), "verbs": sub.verbs})
        });
        item["subresources"] = subresources.collect();
    }
    item
}

pub(super) fn core(ctx: &Ctx) -> Result<Reply, Status> {
    if let Some(version) = aggregated_version(ctx) {
        return Ok(aggregated(ctx, version, true));
    }
    let address = ctx.server.config.advertise.to_string();
    Ok(reply::json(&json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })))
}

pub(super) fn all(ctx: &Ctx) -> Result<Reply, Status> {
    if let Some(version) = aggregated_version(ctx) {
        return Ok(aggregated(ctx, version, false));
    }
    let groups: Vec<Value> =
        aggregation::groups(&ctx.server).iter().filter(|group| !group.name.is_empty()).map(described).collect();
    Ok(reply::json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
}

fn described(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": format!("{}/{version}", group.name), "version": version}))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

pub(super) fn one(ctx: &Ctx, name: &str) -> Result<Reply, Status> {
    let groups = aggregation::groups(&ctx.server);
    let group = groups.iter().find(|group| group.name == name && !name.is_empty()).ok_or_else(Status::no_such_path)?;
    let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), described(group)) {
        fields.extend(more);
    }
    Ok(reply::json(&value))
}

pub(super) fn resources(ctx: &Ctx, group: &str, version: &str) -> Result<Reply, Status> {
    let resources = ctx.server.resources();
    let mut list = Vec::new();
    for row in resources.all().iter().filter(|row| row.group == group && row.version == version) {
        list.push(listed(row));
        list.extend(row.subresources.iter().map(|sub| listed_subresource(row, sub)));
    }
    if list.is_empty() {
        return Err(Status::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut value = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    Ok(reply::json(&value))
}

fn listed(row: &Resource) -> Value {
    let mut item = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        item["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        item["categories"] = json!(row.categories);
    }
    item
}

fn listed_subresource(row: &Resource, sub: &Subresource) -> Value {
    let mut item = json!({
        "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced, "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if !sub.kind_group_version.is_empty() {
        let (group, version) = sub.kind_group_version.split_once('/').unwrap_or(("", &sub.kind_group_version));
        item["group"] = group.into();
        item["version"] = version.into();
    }
    item
}

/// What `/` lists.
pub(super) fn paths(ctx: &Ctx) -> Vec<String> {
    let mut paths = vec![
        "/.well-known/openid-configuration".to_owned(),
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
    ];
    for group in aggregation::groups(&ctx.server).iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|(version, _)| format!("/apis/{}/{version}", group.name)));
    }
    let rest =
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(rest.map(str::to_owned));
    paths.sort();
    paths
}
