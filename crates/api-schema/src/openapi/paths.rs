//! Paths and operations of resources.

use coracle_api_meta::{GroupVersion, Gvk, Map, Value};
use serde_json::json;

use super::{Dialect, Served, ServedSubresource, path_of};

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const RESOURCES: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

const LIST_PARAMETERS: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE_PARAMETERS: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION_PARAMETERS: [(&str, &str); 13] = [
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
const WRITE_PARAMETERS: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_PARAMETERS: [(&str, &str); 4] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];

const OBJECT_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WATCH_TYPES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
/// HTTP methods of `connect`, by verb.
const CONNECT: [(&str, &str); 5] =
    [("get", "get"), ("create", "post"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];

/// One operation, before it is written in a dialect.
struct Operation<'a> {
    method: &'static str,
    action: &'static str,
    /// `listCoreV1NamespacedPod`.
    id: String,
    description: String,
    gvk: &'a Gvk,
    parameters: &'static [(&'static str, &'static str)],
    body: Body<'a>,
    /// Component of the answer; empty for text.
    answer: &'a str,
    codes: &'static [(&'static str, &'static str)],
    watchable: bool,
    custom: bool,
}

enum Body<'a> {
    None,
    Patch,
    Component(&'a str, bool),
}

const OK: &[(&str, &str)] = &[("200", "OK")];
const WRITTEN: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

/// Adds the paths of a group and version. `name_of` gives the component of a kind.
pub(super) fn add(
    dialect: Dialect,
    gv: &GroupVersion,
    resources: &[Served],
    name_of: &impl Fn(&Gvk) -> String,
    out: &mut Map,
) {
    let writer = Writer { dialect, gv, base: format!("/{}", path_of(gv)), name_of };
    out.insert(format!("{}/", writer.base), writer.discovery());
    for resource in resources {
        writer.resource(resource, out);
    }
}

struct Writer<'a, N> {
    dialect: Dialect,
    gv: &'a GroupVersion,
    base: String,
    name_of: &'a N,
}

impl<N: Fn(&Gvk) -> String> Writer<'_, N> {
    fn discovery(&self) -> Value {
        let mut operation = json!({
            "description": "get available resources",
            "operationId": format!("get{}APIResources", self.group_id()),
            "tags": [self.tag()],
            "responses": self.responses(OK, RESOURCES, &OBJECT_TYPES),
        });
        self.media(&mut operation, &OBJECT_TYPES);
        json!({ "get": operation })
    }

    fn resource(&self, resource: &Served, out: &mut Map) {
        let gvk = Gvk::new(self.gv.group.clone(), self.gv.version.clone(), resource.kind.clone());
        let list = Gvk { kind: resource.list_kind.clone(), ..gvk.clone() };
        let (own, list) = ((self.name_of)(&gvk), (self.name_of)(&list));
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let group = self.group_id();
        let kind = &resource.kind;
        let custom = resource.custom.is_some();
        let has = |verb: &str| resource.verbs.iter().any(|known| known == verb);
        let collection = self.collection(resource);

        let read_list = |id: String, gvk| Operation {
            method: "get",
            action: "list",
            id,
            description: format!("list or watch objects of kind {kind}"),
            gvk,
            parameters: &LIST_PARAMETERS,
            body: Body::None,
            answer: &list,
            codes: OK,
            watchable: has("watch"),
            custom,
        };
        let mut operations = Vec::new();
        if has("list") {
            operations.push(read_list(format!("list{group}{scope}{kind}"), &gvk));
            if resource.namespaced {
                let operation = read_list(format!("list{group}{kind}ForAllNamespaces"), &gvk);
                let path = format!("{}/{}", self.base, resource.plural);
                out.insert(path, self.item(vec![operation], &[]));
            }
        }
        if has("create") {
            let id = format!("create{group}{scope}{kind}");
            operations.push(Operation { custom, ..create(id, &gvk, &own) });
        }
        if has("deletecollection") {
            let id = format!("delete{group}Collection{scope}{kind}");
            operations.push(Operation {
                method: "delete",
                action: "deletecollection",
                description: format!("delete collection of {kind}"),
                parameters: &DELETE_COLLECTION_PARAMETERS,
                body: Body::Component(DELETE_OPTIONS, false),
                codes: OK,
                custom,
                ..create(id, &gvk, STATUS)
            });
        }
        let places: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
        if !operations.is_empty() {
            out.insert(collection.clone(), self.item(operations, places));
        }
        let item = format!("{collection}/{{name}}");
        let places: &[&str] = if resource.namespaced { &["name", "namespace"] } else { &["name"] };
        let suffix = format!("{group}{scope}{kind}");
        let operations = object_operations(&resource.verbs, &suffix, "", &gvk, &own, custom);
        if !operations.is_empty() {
            out.insert(item.clone(), self.item(operations, places));
        }
        for sub in &resource.subresources {
            self.subresource(sub, &item, &suffix, places, (&gvk, &own), custom, out);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn subresource(
        &self,
        sub: &ServedSubresource,
        item: &str,
        suffix: &str,
        places: &[&str],
        owner: (&Gvk, &str),
        custom: bool,
        out: &mut Map,
    ) {
        let name = title(&sub.name);
        let path = format!("{item}/{}", sub.name);
        if sub.gvk.kind.ends_with("Options") {
            let operations = CONNECT.iter().filter(|(verb, _)| sub.verbs.iter().any(|known| known == verb));
            let operations = operations.map(|(_, method)| Operation {
                method,
                action: "connect",
                description: format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, owner.0.kind),
                parameters: &[],
                body: Body::None,
                codes: OK,
                ..create(connect_id(suffix, method, &name), &sub.gvk, "")
            });
            out.insert(path, self.item(operations.collect(), places));
            return;
        }
        let text = sub.name == "log";
        let component = if text { String::new() } else { (self.name_of)(&sub.gvk) };
        let own = if sub.gvk == *owner.0 && !text { owner.1 } else { &component };
        let operations = object_operations(&sub.verbs, suffix, &name, &sub.gvk, own, custom);
        out.insert(path, self.item(operations, places));
    }

    fn collection(&self, resource: &Served) -> String {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{scope}/{}", self.base, resource.plural)
    }

    /// The item of a path: operations by method, and what stands in the path itself.
    fn item(&self, operations: Vec<Operation<'_>>, places: &[&str]) -> Value {
        let mut item: Map =
            operations.into_iter().map(|operation| (operation.method.to_owned(), self.operation(&operation))).collect();
        let mut parameters: Vec<Value> = places.iter().map(|name| self.parameter(name, "path", "string")).collect();
        parameters.push(self.parameter("pretty", "query", "string"));
        item.insert("parameters".to_owned(), Value::Array(parameters));
        Value::Object(item)
    }

    fn operation(&self, operation: &Operation<'_>) -> Value {
        let protobuf = |kind: &&&str| !(operation.custom && kind.contains("protobuf"));
        let mut media: Vec<&str> = OBJECT_TYPES.iter().filter(protobuf).copied().collect();
        if operation.watchable {
            media.extend(WATCH_TYPES.iter().filter(protobuf));
        }
        if operation.answer.is_empty() {
            media = vec!["*/*"];
        }
        let parameters = operation.parameters.iter().map(|(name, kind)| self.parameter(name, "query", kind));
        let mut value = json!({
            "description": operation.description,
            "operationId": operation.id,
            "tags": [self.tag()],
            "parameters": parameters.collect::<Vec<_>>(),
            "responses": self.responses(operation.codes, operation.answer, &media),
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind":
                { "group": operation.gvk.group, "version": operation.gvk.version, "kind": operation.gvk.kind },
        });
        self.media(&mut value, &media);
        self.body(operation, &mut value);
        value
    }

    fn body(&self, operation: &Operation<'_>, value: &mut Value) {
        let (component, required, media): (&str, bool, &[&str]) = match operation.body {
            Body::None => return,
            Body::Patch if operation.custom => (PATCH, true, &PATCH_TYPES[..3]),
            Body::Patch => (PATCH, true, &PATCH_TYPES),
            Body::Component(component, required) => (component, required, &["*/*"]),
        };
        let schema = self.dialect.reference(component);
        if self.dialect == Dialect::V2 {
            let mut parameter = json!({ "name": "body", "in": "body", "schema": schema });
            if required {
                parameter["required"] = true.into();
            }
            if let Some(parameters) = value["parameters"].as_array_mut() {
                parameters.push(parameter);
            }
            value["consumes"] = json!(media);
            return;
        }
        let content: Map = media.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
        value["requestBody"] = json!({ "content": content });
        if required {
            value["requestBody"]["required"] = true.into();
        }
    }

    fn responses(&self, codes: &[(&str, &str)], answer: &str, media: &[&str]) -> Value {
        let schema = if answer.is_empty() { json!({ "type": "string" }) } else { self.dialect.reference(answer) };
        let response = |description: &str| {
            if self.dialect == Dialect::V2 {
                return json!({ "description": description, "schema": schema });
            }
            let content: Map = media.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
            json!({ "description": description, "content": content })
        };
        let mut responses: Map =
            codes.iter().map(|(code, description)| ((*code).to_owned(), response(description))).collect();
        responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
        Value::Object(responses)
    }

    /// What an operation takes and gives is said once per operation in v2.
    fn media(&self, operation: &mut Value, media: &[&str]) {
        if self.dialect == Dialect::V2 {
            operation["consumes"] = json!(["*/*"]);
            operation["produces"] = json!(media);
            operation["schemes"] = json!(["https"]);
        }
    }

    fn parameter(&self, name: &str, place: &str, kind: &str) -> Value {
        let mut parameter = json!({ "name": name, "in": place });
        if place == "path" {
            parameter["required"] = true.into();
        }
        if self.dialect == Dialect::V2 {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        } else {
            parameter["schema"] = json!({ "type": kind, "uniqueItems": true });
        }
        parameter
    }

    /// `CoreV1`, `RbacAuthorizationV1`, `StableExampleComV1`.
    fn group_id(&self) -> String {
        let group = self.gv.group.trim_end_matches(".k8s.io");
        let group: String =
            if group.is_empty() { "Core".to_owned() } else { group.split(['.', '-']).map(title).collect() };
        format!("{group}{}", title(&self.gv.version))
    }

    /// `core_v1`, `rbacAuthorization_v1`.
    fn tag(&self) -> String {
        let id = self.group_id();
        let group = &id[..id.len().saturating_sub(self.gv.version.len())];
        let mut first = group.chars();
        let lower: String = first.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(first).collect();
        format!("{lower}_{}", self.gv.version)
    }
}

fn create<'a>(id: String, gvk: &'a Gvk, answer: &'a str) -> Operation<'a> {
    Operation {
        method: "post",
        action: "post",
        id,
        description: format!("create a {}", gvk.kind),
        gvk,
        parameters: &WRITE_PARAMETERS,
        body: Body::Component(answer, true),
        answer,
        codes: CREATED,
        watchable: false,
        custom: false,
    }
}

/// Operations on one object, or on a subresource of it (`sub` is `Status`).
fn object_operations<'a>(
    verbs: &[String],
    suffix: &str,
    sub: &str,
    gvk: &'a Gvk,
    own: &'a str,
    custom: bool,
) -> Vec<Operation<'a>> {
    let has = |verb: &str| verbs.iter().any(|known| known == verb);
    let what = if sub.is_empty() {
        format!("the specified {}", gvk.kind)
    } else {
        format!("{} of the specified {}", sub.to_lowercase(), gvk.kind)
    };
    let operation = |verb: &str, id: &str| Operation {
        custom,
        description: format!("{verb} {what}"),
        ..create(format!("{id}{suffix}{sub}"), gvk, own)
    };
    let mut operations = Vec::new();
    if has("get") {
        operations.push(Operation {
            method: "get",
            action: "get",
            parameters: &[],
            body: Body::None,
            codes: OK,
            ..operation("read", "read")
        });
    }
    if has("update") {
        operations.push(Operation { method: "put", action: "put", codes: WRITTEN, ..operation("replace", "replace") });
    }
    if has("patch") {
        operations.push(Operation {
            method: "patch",
            action: "patch",
            parameters: &PATCH_PARAMETERS,
            body: Body::Patch,
            codes: WRITTEN,
            ..operation("partially update", "patch")
        });
    }
    if has("delete") {
        operations.push(Operation {
            method: "delete",
            action: "delete",
            parameters: &DELETE_PARAMETERS,
            body: Body::Component(DELETE_OPTIONS, false),
            answer: if returns_object(gvk) { own } else { STATUS },
            codes: DELETED,
            ..operation("delete", "delete")
        });
    }
    if has("create") && !sub.is_empty() {
        operations.push(operation("create", "create"));
    }
    operations
}

/// Deleting these answers with the object.
fn returns_object(gvk: &Gvk) -> bool {
    let core = [
        "Pod",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PodTemplate",
        "ResourceQuota",
        "Service",
        "ServiceAccount",
    ];
    (gvk.group.is_empty() && core.contains(&gvk.kind.as_str()))
        || (gvk.group == "storage.k8s.io" && gvk.kind != "CSIStorageCapacity")
        || gvk.group == "resource.k8s.io"
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// `connectCoreV1GetNamespacedPodExec`: the method stands between group and scope.
fn connect_id(suffix: &str, method: &str, name: &str) -> String {
    let cut = suffix.find("Namespaced").or_else(|| suffix.find("Node")).unwrap_or(suffix.len());
    let (group, rest) = suffix.split_at(cut);
    format!("connect{group}{}{rest}{name}", title(method))
}
