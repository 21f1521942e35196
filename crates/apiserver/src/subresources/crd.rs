//! Custom resource definitions: rows for the registry, and the conditions that say they are served.
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/{status,establish}`.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Value};
use coracle_api_schema::crd as schema;
use coracle_store::Entry;
use serde_json::json;

use crate::http::Ctx;
use crate::registry::definition::Definition;
use crate::registry::fields::{Described, Facts, Names};
use crate::registry::resources::{CRDS, Custom, Resource, Subresource, collection};
use crate::time;

/// Keeps a definition until its objects are gone.
pub(super) const CLEAN_UP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// With which groups of the project say that they were approved.
const APPROVED: &str = "api-approved.kubernetes.io";

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a stored definition defines: one row for each served version once it is established, and the names it holds.
pub(crate) fn describe(definition: &Value, entry: &Entry) -> Described {
    let accepted = definition.at(&["status", "acceptedNames"]).unwrap_or(&Value::Null);
    let text = |field: &str| accepted.str_at(&[field]).to_owned();
    let mut resources = vec![text("plural"), text("singular")];
    resources.extend(texts(accepted.get("shortNames")));
    let names = Names {
        definition: definition.name().to_owned(),
        group: definition.str_at(&["spec", "group"]).to_owned(),
        resources,
        kinds: vec![text("kind"), text("listKind")],
        accepted: has_condition(definition, "NamesAccepted"),
        terminating: !definition.meta_str("deletionTimestamp").is_empty(),
    };
    Described { rows: rows(definition, entry), names }
}

pub(super) fn has_condition(definition: &Value, kind: &str) -> bool {
    let conditions = definition.at(&["status", "conditions"]).and_then(Value::as_array).into_iter().flatten();
    let mut own = conditions.filter(|own| own.str_at(&["type"]) == kind);
    own.any(|own| own.str_at(&["status"]) == "True")
}

/// Rows of a definition that no object of the store is.
pub(crate) fn rows_of(definition: &Value) -> Vec<Arc<Resource>> {
    let mut definition = definition.clone();
    definition["status"] = json!({"acceptedNames": definition["spec"]["names"],
        "conditions": [{"type": "Established", "status": "True"}]});
    let mut entry = Entry::default();
    entry.value = definition.to_string().into();
    rows(&definition, &entry)
}

fn rows(definition: &Value, entry: &Entry) -> Vec<Arc<Resource>> {
    if !has_condition(definition, "Established") {
        return Vec::new();
    }
    let Some(shared) = Definition::read(definition, entry).map(Arc::new) else { return Vec::new() };
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array).into_iter().flatten().enumerate();
    let served = versions.filter(|(_, version)| version.get("served") == Some(&Value::Bool(true)));
    served.map(|(index, version)| Arc::new(row(definition, &shared, version, index))).collect()
}

fn row(definition: &Value, shared: &Arc<Definition>, version: &Value, index: usize) -> Resource {
    let group = definition.str_at(&["spec", "group"]).to_owned();
    let names = definition.at(&["status", "acceptedNames"]).cloned().unwrap_or_default();
    let plural = names.str_at(&["plural"]).to_owned();
    let kind = names.str_at(&["kind"]).to_owned();
    let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
    let custom = custom(definition, shared, version, index);
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
    let storage = shared.versions.get(shared.storage).map(|version| version.name.clone()).unwrap_or_default();
    Resource {
        version: version.str_at(&["name"]).to_owned(),
        list_kind: or(names.str_at(&["listKind"]), format!("{kind}List")),
        singular: or(names.str_at(&["singular"]), kind.to_lowercase()),
        short_names: texts(names.get("shortNames")),
        categories: texts(names.get("categories")),
        namespaced: definition.str_at(&["spec", "scope"]) == "Namespaced",
        verbs: verbs(&VERBS),
        subresources,
        stored: true,
        collection: collection(&group, &plural).into(),
        storage: coracle_api_meta::Gvk::new(group.clone(), storage, kind.clone()),
        custom: Some(Arc::new(custom)),
        group,
        plural,
        kind,
    }
}

fn custom(definition: &Value, shared: &Arc<Definition>, version: &Value, index: usize) -> Custom {
    let list = |field: &str| version.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let selectable = list("selectableFields");
    let deprecated = version.get("deprecated") == Some(&Value::Bool(true));
    let warning = version.str_at(&["deprecationWarning"]).to_owned();
    let group = definition.str_at(&["spec", "group"]);
    let kind = definition.str_at(&["spec", "names", "kind"]);
    let default = format!("{group}/{} {kind} is deprecated", version.str_at(&["name"]));
    Custom {
        definition: Arc::clone(shared),
        version: index,
        columns: list("additionalPrinterColumns"),
        scale: version.at(&["subresources", "scale"]).cloned(),
        selectable: selectable
            .iter()
            .map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        has_status: version.at(&["subresources", "status"]).is_some(),
        deprecated: deprecated.then_some(if warning.is_empty() { default } else { warning }),
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
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    let (names, accepted) = claim(definition, &others(ctx, resource, definition));
    definition["status"]["acceptedNames"] = names;
    let good = accepted.0 == "True";
    set_condition(definition, "NamesAccepted", accepted);
    if good {
        let established = ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned());
        set_condition(definition, "Established", established);
    } else if !has_condition(definition, "Established") {
        set_condition(definition, "Established", ("False", "NotAccepted", "not all names are accepted".to_owned()));
    }
    if let Some(approval) = approval(definition) {
        set_condition(definition, "KubernetesAPIApprovalPolicyConformant", approval);
    }
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

/// Names that other definitions of the group hold: of resources, and of kinds.
fn others(ctx: &Ctx, resource: &Resource, definition: &Value) -> [BTreeSet<String>; 2] {
    let group = definition.str_at(&["spec", "group"]);
    let mut held = [BTreeSet::new(), BTreeSet::new()];
    for entry in ctx.server.store.local_range(CRDS, "") {
        let described = Facts::described(resource, &entry);
        let names = &described.names;
        if names.group == group && names.definition != definition.name() {
            held[0].extend(names.resources.iter().filter(|name| !name.is_empty()).cloned());
            held[1].extend(names.kinds.iter().filter(|name| !name.is_empty()).cloned());
        }
    }
    held
}

type Condition = (&'static str, &'static str, String);

/// The names that a definition gets of those that it wants. Source: `status/naming_controller.go`.
fn claim(definition: &Value, [resources, kinds]: &[BTreeSet<String>; 2]) -> (Value, Condition) {
    let wanted = definition.at(&["spec", "names"]).cloned().unwrap_or_default();
    let mut names =
        definition.at(&["status", "acceptedNames"]).filter(|own| own.is_object()).cloned().unwrap_or_else(|| json!({}));
    let mut condition = ("True", "NoConflicts", "no conflicts found".to_owned());
    let single = [
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("kind", "KindConflict", kinds),
        ("listKind", "ListKindConflict", kinds),
    ];
    for (field, reason, held) in single {
        let name = wanted.str_at(&[field]);
        if name != names.str_at(&[field]) && held.contains(name) {
            condition = ("False", reason, format!("{name:?} is already in use"));
        } else if !name.is_empty() {
            names[field] = name.into();
        }
        if field == "singular" {
            short_names(&wanted, &mut names, resources, &mut condition);
        }
    }
    match wanted.get("categories").filter(|own| own.is_array()) {
        Some(categories) => names["categories"] = categories.clone(),
        None => drop(names.as_object_mut().map(|names| names.shift_remove("categories"))),
    }
    (names, condition)
}

fn short_names(wanted: &Value, names: &mut Value, held: &BTreeSet<String>, condition: &mut Condition) {
    let (short, own) = (texts(wanted.get("shortNames")), texts(names.get("shortNames")));
    let clashes = short.iter().filter(|name| !own.contains(name) && held.contains(*name));
    let clashes: Vec<String> = clashes.map(|name| format!("{name:?} is already in use")).collect();
    match clashes.as_slice() {
        [] if short.is_empty() => drop(names.as_object_mut().map(|names| names.shift_remove("shortNames"))),
        [] => names["shortNames"] = json!(short),
        [one] => *condition = ("False", "ShortNamesConflict", one.clone()),
        many => *condition = ("False", "ShortNamesConflict", format!("[{}]", many.join(", "))),
    }
}

/// Whether a definition in a group of the project was approved. Source: `controller/apiapproval`.
fn approval(definition: &Value) -> Option<Condition> {
    let group = definition.str_at(&["spec", "group"]);
    let protected = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !protected("k8s.io") && !protected("kubernetes.io") {
        return None;
    }
    let pull = "see https://github.com/kubernetes/enhancements/pull/1111";
    let said = definition.annotations().and_then(|all| all.get(APPROVED)).and_then(Value::as_str).unwrap_or_default();
    let is_url = said.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some());
    Some(if said.is_empty() {
        ("False", "MissingAnnotation", format!("protected groups must have approval annotation {APPROVED:?}, {pull}"))
    } else if said.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {said:?}"))
    } else if is_url {
        ("True", "ApprovedAnnotation", format!("approved in {said}"))
    } else {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {pull}"
        );
        ("False", "InvalidAnnotation", message)
    })
}

pub(super) fn set_condition(definition: &mut Value, kind: &str, (status, reason, message): Condition) {
    let condition = json!({"type": kind, "status": status, "lastTransitionTime": time::now_text(), "reason": reason,
        "message": message});
    let conditions = &mut definition["status"]["conditions"];
    let Some(list) = conditions.as_array_mut() else {
        *conditions = json!([condition]);
        return;
    };
    match list.iter_mut().find(|own| own.str_at(&["type"]) == kind) {
        Some(own) if own.str_at(&["status"]) == status => {
            own["reason"] = reason.into();
            own["message"] = message.into();
        }
        Some(own) => *own = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_by_who_came_first() {
        let definition = json!({"spec": {"names": {"plural": "tabs", "singular": "tab", "kind": "Tab", "listKind": "TabList",
            "shortNames": ["t", "tb"], "categories": ["all"]}}});
        let held = |resources: &[&str], kinds: &[&str]| {
            [resources, kinds].map(|names| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<String>>())
        };
        let (names, condition) = claim(&definition, &held(&[], &[]));
        assert_eq!((names, condition.0), (definition["spec"]["names"].clone(), "True"));
        let (names, condition) = claim(&definition, &held(&["tab"], &[]));
        assert_eq!(condition, ("False", "SingularConflict", "\"tab\" is already in use".to_owned()));
        assert_eq!((names.str_at(&["plural"]), names.str_at(&["singular"])), ("tabs", ""));
        let (_, condition) = claim(&definition, &held(&["t", "tb"], &[]));
        let both = "[\"t\" is already in use, \"tb\" is already in use]";
        assert_eq!(condition, ("False", "ShortNamesConflict", both.to_owned()));
        let (_, condition) = claim(&definition, &held(&["tabs"], &["TabList"]));
        assert_eq!(condition, ("False", "ListKindConflict", "\"TabList\" is already in use".to_owned()));
    }

    #[test]
    fn groups_of_the_project_ask_for_approval() {
        let told = |group: &str, said: &str| {
            let definition = json!({"metadata": {"annotations": {APPROVED: said}}, "spec": {"group": group}});
            approval(&definition).map(|(status, reason, _)| format!("{status} {reason}")).unwrap_or_default()
        };
        assert_eq!(told("example.com", ""), "");
        assert_eq!(told("x.k8s.io", ""), "False MissingAnnotation");
        assert_eq!(told("x.k8s.io", "https://github.com/kubernetes/enhancements/pull/1"), "True ApprovedAnnotation");
        assert_eq!(told("x.k8s.io", "unapproved, testing"), "False UnapprovedAnnotation");
        assert_eq!(told("x.kubernetes.io", "yes"), "False InvalidAnnotation");
    }
}
