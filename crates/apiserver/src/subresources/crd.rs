//! Custom resource definitions: rows for the registry, and the conditions that say they are served.
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/{status,establish}`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Status, Value};
use coracle_api_schema::crd as schema;
use coracle_store::{Durability, Transaction, Write};
use serde_json::json;

use crate::bootstrap::{options, target_of};
use crate::http::Ctx;
use crate::registry::resources::{CRDS, Custom, Resource, Subresource, collection};
use crate::registry::{storage, update};
use crate::server::Server;
use crate::time;

/// Keeps a definition until its objects are gone.
const CLEAN_UP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Objects that are deleted in one transaction.
const CLEAN_UP_BATCH: usize = 500;

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

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
    let compiled = match version.at(&["schema", "openAPIV3Schema"]) {
        Some(schema) => schema::compile_stored(schema),
        None => schema::schemaless(),
    };
    Custom {
        schema: version.at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_default(),
        columns: list("additionalPrinterColumns"),
        scale: version.at(&["subresources", "scale"]).cloned(),
        selectable: selectable
            .iter()
            .map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        has_status: version.at(&["subresources", "status"]).is_some(),
        deprecated: deprecated.then_some(if warning.is_empty() { default } else { warning }),
        compiled: Some(Arc::new(compiled)),
    }
}

/// What is wrong with the schemas of a definition.
pub(crate) fn schema_errors(definition: &Value) -> Vec<FieldError> {
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array).into_iter().flatten();
    let root = FieldPath::new("spec").child("versions");
    let mut errors = Vec::new();
    for (index, version) in versions.enumerate() {
        let path = root.index(index).child("schema").child("openAPIV3Schema");
        if let Some(schema) = version.at(&["schema", "openAPIV3Schema"])
            && let Err(found) = schema::compile(schema, &path)
        {
            errors.extend(found);
        }
    }
    errors
}

/// Sets the conditions and names of a definition that is written, and the finalizer that keeps it for the clean-up.
pub(crate) fn prepare(ctx: &Ctx, resource: &Resource, definition: &mut Value) {
    if &*resource.collection != CRDS || !definition["spec"].is_object() {
        return;
    }
    let taken = name_taken(ctx, definition);
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    if taken.is_none() {
        let mut names = definition["spec"]["names"].clone();
        if let Some(names) = names.as_object_mut() {
            names.retain(|_, value| !value.is_null());
        }
        definition["status"]["acceptedNames"] = names;
    }
    let accepted = match &taken {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some(why) => ("False", "ListKindConflict", why.clone()),
    };
    set_condition(definition, "NamesAccepted", accepted);
    let established = match taken {
        None => ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned()),
        Some(_) => ("False", "NotAccepted", "not all names are accepted".to_owned()),
    };
    set_condition(definition, "Established", established);
    if definition.meta_str("deletionTimestamp").is_empty()
        && let Some(meta) = definition.meta_mut()
    {
        let list = meta.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|own| own == CLEAN_UP)
        {
            list.push(CLEAN_UP.into());
        }
    }
}

fn name_taken(ctx: &Ctx, definition: &Value) -> Option<String> {
    let group = definition.str_at(&["spec", "group"]);
    let others = crate::http::authz::objects(&*ctx.server.store, CRDS);
    for field in ["plural", "kind"] {
        let name = definition.str_at(&["spec", "names", field]);
        let clash = others.iter().any(|other| {
            other.name() != definition.name()
                && other.str_at(&["spec", "group"]) == group
                && other.str_at(&["status", "acceptedNames", field]) == name
        });
        if clash {
            return Some(format!("{name:?} is already in use"));
        }
    }
    None
}

fn set_condition(definition: &mut Value, kind: &str, (status, reason, message): (&str, &str, String)) {
    let condition = json!({"type": kind, "status": status, "lastTransitionTime": time::now_text(), "reason": reason,
        "message": message});
    let conditions = &mut definition["status"]["conditions"];
    let Some(list) = conditions.as_array_mut() else {
        *conditions = json!([condition]);
        return;
    };
    match list.iter_mut().find(|own| own.str_at(&["type"]) == kind) {
        Some(own) if own.str_at(&["status"]) == status => {}
        Some(own) => *own = condition,
        None => list.push(condition),
    }
}

/// Deletes the objects of definitions that are on their way out, then lets the definitions go.
pub(crate) fn clean_up(server: &Arc<Server>, resource: &Resource) {
    if &*resource.collection != CRDS {
        return;
    }
    let server = Arc::clone(server);
    tokio::spawn(async move {
        for definition in crate::http::authz::objects(&*server.store, CRDS) {
            if definition.meta_str("deletionTimestamp").is_empty() {
                continue;
            }
            if let Err(error) = clean_up_one(&server, &definition).await {
                tracing::error!(%error, name = definition.name(), "clean up after a custom resource definition");
            }
        }
    });
}

async fn clean_up_one(server: &Arc<Server>, definition: &Value) -> Result<(), Status> {
    let plural = definition.str_at(&["spec", "names", "plural"]);
    let objects: Arc<str> = collection(definition.str_at(&["spec", "group"]), plural).into();
    loop {
        let entries = server.store.local_range(&objects, "");
        if entries.is_empty() {
            break;
        }
        let writes = entries
            .iter()
            .take(CLEAN_UP_BATCH)
            .map(|entry| Write::Delete { key: coracle_store::Key::new(Arc::clone(&objects), entry.name()) });
        let transaction =
            Transaction { writes: writes.collect(), durability: Durability::Synced, ..Default::default() };
        server.store.commit(transaction).await.map_err(|error| storage::failed(&error))?;
    }
    let ctx = Ctx::internal(Arc::clone(server));
    let target = target_of(server, definition)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        let list = next["metadata"]["finalizers"].as_array_mut();
        if let Some(list) = list {
            list.retain(|own| own != CLEAN_UP);
        }
        Ok(next)
    };
    match update::apply(&ctx, &target, "", &options("coracle"), &mut change).await {
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}
