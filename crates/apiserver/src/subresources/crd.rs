//! Custom resource definitions: rows for the registry, and the conditions that say they are served.
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/{status,establish}`.

use std::sync::Arc;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use crate::registry::resources::{CRDS, Custom, Resource, Resources, Subresource, collection};
use crate::server::Server;

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// Takes over a change of the definitions. Cheap for all other resources.
pub(crate) fn changed(server: &Server, resource: &Resource) {
    if &*resource.collection == CRDS {
        server.set_resources(Resources::with_custom(&*server.store));
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// One row for each served version.
pub(crate) fn rows(definition: &Value) -> Vec<Resource> {
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array);
    let stored = versions.into_iter().flatten().find(|version| version.get("storage") == Some(&Value::Bool(true)));
    let Some(stored) = stored.map(|version| version.str_at(&["name"])) else { return Vec::new() };
    let served = versions.into_iter().flatten().filter(|version| version.get("served") == Some(&Value::Bool(true)));
    served.map(|version| row(definition, version, stored)).collect()
}

fn row(definition: &Value, version: &Value, stored: &str) -> Resource {
    let group = definition.str_at(&["spec", "group"]).to_owned();
    let names = definition.at(&["spec", "names"]).cloned().unwrap_or_default();
    let plural = names.str_at(&["plural"]).to_owned();
    let kind = names.str_at(&["kind"]).to_owned();
    let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
    let custom = custom(definition, version);
    let verbs = |list: &[&str]| list.iter().map(|&verb| verb.to_owned()).collect::<Vec<_>>();
    let mut subresources = Vec::new();
    let subresource = |name: &str, kind: &str, kind_group_version: &str| Subresource {
        name: name.to_owned(),
        kind: kind.to_owned(),
        kind_group_version: kind_group_version.to_owned(),
        verbs: verbs(&["get", "patch", "update"]),
    };
    if custom.has_status {
        subresources.push(subresource("status", &kind, ""));
    }
    if custom.scale.is_some() {
        subresources.push(subresource("scale", "Scale", "autoscaling/v1"));
    }
    let terminating = !definition.meta_str("deletionTimestamp").is_empty();
    let verbs =
        if terminating { verbs(&["delete", "deletecollection", "get", "list", "watch"]) } else { verbs(&VERBS) };
    Resource {
        version: version.str_at(&["name"]).to_owned(),
        list_kind: or(names.str_at(&["listKind"]), format!("{kind}List")),
        singular: or(names.str_at(&["singular"]), kind.to_lowercase()),
        short_names: texts(names.get("shortNames")),
        categories: texts(names.get("categories")),
        namespaced: definition.str_at(&["spec", "scope"]) == "Namespaced",
        verbs,
        subresources,
        stored: true,
        collection: collection(&group, &plural).into(),
        storage: coracle_api_meta::Gvk::new(group.clone(), stored, kind.clone()),
        custom: Some(Arc::new(custom)),
        group,
        plural,
        kind,
    }
}

fn custom(definition: &Value, version: &Value) -> Custom {
    let list = |field: &str| version.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let selectable = list("selectableFields");
    let deprecated = version.get("deprecated") == Some(&Value::Bool(true));
    let warning = version.str_at(&["deprecationWarning"]).to_owned();
    let group = definition.str_at(&["spec", "group"]);
    let kind = definition.str_at(&["spec", "names", "kind"]);
    let default = format!("{group}/{} {kind} is deprecated", version.str_at(&["name"]));
    Custom {
        crd_name: definition.name().to_owned(),
        schema: version.at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_default(),
        columns: list("additionalPrinterColumns"),
        scale: version.at(&["subresources", "scale"]).cloned(),
        selectable: selectable
            .iter()
            .map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        preserve_unknown: definition.at(&["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)),
        has_status: version.at(&["subresources", "status"]).is_some(),
        deprecated: deprecated.then(|| if warning.is_empty() { default } else { warning }),
        compiled: Default::default(),
    }
}
