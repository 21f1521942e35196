//! A small type table, written as JSON, with the shapes that merging cares about.
#![allow(dead_code, clippy::unwrap_used)]

use coracle_api_schema::model::{ListType, MapType, StructType};
use coracle_api_schema::{Field, ListKind, MapKind, PatchStrategy, ScalarKind, Schemas, Type, TypeId};
use serde_json::{Value, json};

/// A scalar's name; `{"struct": {field: type}}`; `{"list": type, "keys": [..] | "set": true}`; `{"map": type}`. Beside them
/// stand `atomic`, `unknown`, and for fields `default`, `required`, `merge` (the key, or "" for scalars), `retainKeys`.
pub fn build(schemas: &mut Schemas, spec: &Value) -> TypeId {
    let flag = |name: &str| spec.get(name).and_then(Value::as_bool).unwrap_or_default();
    let ty = match spec {
        Value::String(name) => scalar(name),
        _ if spec.get("struct").is_some() => {
            let fields = spec["struct"].as_object().unwrap();
            let fields = fields.iter().map(|(name, spec)| field(schemas, name, spec)).collect();
            Type::Struct(StructType {
                name: spec.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                fields,
                atomic: flag("atomic"),
                preserve_unknown: flag("unknown"),
                embedded_resource: false,
            })
        }
        _ if spec.get("list").is_some() => {
            let kind = match spec.get("keys").and_then(Value::as_array) {
                Some(keys) => ListKind::Map { keys: keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect() },
                None if flag("set") => ListKind::Set,
                None => ListKind::Atomic,
            };
            Type::List(ListType { item: build(schemas, &spec["list"]), kind })
        }
        _ if spec.get("map").is_some() => Type::Map(MapType {
            value: build(schemas, &spec["map"]),
            kind: if flag("atomic") { MapKind::Atomic } else { MapKind::Granular },
        }),
        _ => return build(schemas, &spec["type"]),
    };
    schemas.add(ty)
}

fn field(schemas: &mut Schemas, name: &str, spec: &Value) -> Field {
    let patch = PatchStrategy {
        merge: spec.get("merge").is_some(),
        retain_keys: spec.get("retainKeys").is_some(),
        merge_key: spec.get("merge").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    Field {
        name: name.to_owned(),
        ty: build(schemas, spec),
        required: spec.get("required").is_some(),
        default: spec.get("default").cloned(),
        patch,
        omit_empty: spec.get("required").is_none(),
        pointer: spec.get("struct").is_some() && spec.get("default").is_none(),
        ..Field::default()
    }
}

fn scalar(name: &str) -> Type {
    Type::Scalar(match name {
        "string" => ScalarKind::String,
        "boolean" => ScalarKind::Boolean,
        "integer" => ScalarKind::Int32,
        "quantity" => ScalarKind::Quantity,
        "intOrString" => ScalarKind::IntOrString,
        "time" => ScalarKind::Time,
        "any" => return Type::Any,
        other => panic!("no scalar {other}"),
    })
}

/// A workload: a bit of a pod, a bit of a deployment.
pub fn workload() -> (Schemas, TypeId) {
    let mut schemas = Schemas::default();
    let ty = build(&mut schemas, &workload_spec());
    schemas.by_name.insert("io.k8s.api.apps.v1.Workload".to_owned(), ty);
    (schemas, ty)
}

pub fn metadata_spec() -> Value {
    json!({"name": "io.k8s.ObjectMeta", "default": {}, "struct": {
        "name": "string", "namespace": "string", "uid": "string", "resourceVersion": "string", "generation": "integer",
        "creationTimestamp": "time",
        "labels": {"map": "string"},
        "annotations": {"map": "string"},
        "finalizers": {"list": "string", "set": true, "merge": ""},
        "ownerReferences": {"merge": "uid", "keys": ["uid"],
            "list": {"struct": {"uid": "string", "name": "string"}, "atomic": true}},
        "managedFields": {"list": "any"},
    }})
}

fn workload_spec() -> Value {
    let port = json!({"struct": {
        "name": "string", "containerPort": "integer", "protocol": {"type": "string", "default": "TCP"}, "hostPort": "integer",
    }});
    let container = json!({"struct": {
        "name": "string", "image": "string",
        "command": {"list": "string"},
        "ports": {"list": port, "keys": ["containerPort", "protocol"], "merge": "containerPort"},
        "env": {"list": {"struct": {"name": "string", "value": "string"}}, "keys": ["name"], "merge": "name"},
        "resources": {"default": {}, "name": "io.k8s.ResourceRequirements",
            "struct": {"limits": {"map": "quantity"}, "requests": {"map": "quantity"}}},
        "securityContext": {"struct": {"runAsUser": "integer"}},
    }});
    let volume = json!({"struct": {
        "name": "string",
        "emptyDir": {"struct": {"medium": "string"}},
        "hostPath": {"struct": {"path": "string"}},
    }});
    let spec = json!({"default": {}, "name": "io.k8s.api.apps.v1.WorkloadSpec", "struct": {
        "replicas": "integer",
        "paused": "boolean",
        "containers": {"list": container, "keys": ["name"], "merge": "name", "required": true},
        "volumes": {"list": volume, "keys": ["name"], "merge": "name", "retainKeys": true},
        "nodeSelector": {"map": "string", "atomic": true},
        "selector": {"struct": {"matchLabels": {"map": "string"}}, "atomic": true},
        "strategy": {"default": {}, "name": "io.k8s.Strategy", "retainKeys": true, "struct": {
            "type": "string", "rollingUpdate": {"struct": {"maxSurge": "intOrString"}}}},
        "data": "any",
    }});
    json!({"name": "io.k8s.api.apps.v1.Workload", "struct": {
        "apiVersion": "string", "kind": "string",
        "metadata": metadata_spec(),
        "spec": spec,
        "status": {"default": {}, "name": "io.k8s.api.apps.v1.WorkloadStatus", "struct": {
            "ready": "integer",
            "conditions": {"list": {"struct": {"type": "string", "status": "string"}}, "keys": ["type"], "merge": "type"},
        }},
    }})
}
