//! Types of CEL for what a schema describes: `object` in admission policies, and what they construct (`Object.spec{...}`).

use std::sync::Arc;

use coracle_api_cel::{ObjectType, Objects, REQUEST_BYTES_MAX, Ty};

use crate::model::{ScalarKind, Schemas, Type, TypeId};

/// The CEL type of a type of an arena. Structs are looked into when they are asked for.
#[must_use]
pub fn ty(schemas: &Arc<Schemas>, id: TypeId) -> Ty {
    named(&Source::Shared(Arc::clone(schemas)), id, "Object")
}

/// The CEL type of a built-in type.
#[must_use]
pub fn builtin_ty(id: TypeId) -> Ty {
    named(&Source::Builtin, id, "Object")
}

/// The types that mutating policies construct: `Object` is `root`, `Object.spec` the type of its field.
#[must_use]
pub fn objects(schemas: &Arc<Schemas>, root: TypeId) -> Objects {
    constructed(Source::Shared(Arc::clone(schemas)), root)
}

/// [`objects`] of a built-in type.
#[must_use]
pub fn builtin_objects(root: TypeId) -> Objects {
    constructed(Source::Builtin, root)
}

fn constructed(source: Source, root: TypeId) -> Objects {
    Arc::new(move |name: &str| {
        let mut path = name.split('.');
        if path.next() != Some("Object") {
            return None;
        }
        let schemas = source.schemas();
        let id = path.try_fold(root, |id, field| {
            let id = element(schemas, schemas.child(id, &coracle_api_cel::unescape(field))?);
            schemas.as_struct(id).map(|_| id).or(matches!(schemas.get(id), Type::Map(_)).then_some(id))
        })?;
        Some(Arc::new(Shape { source: source.clone(), id, name: name.to_owned() }) as Arc<dyn ObjectType>)
    })
}

/// What a list holds; other types as they are.
fn element(schemas: &Schemas, id: TypeId) -> TypeId {
    match schemas.get(id) {
        Type::List(list) => element(schemas, list.item),
        _ => id,
    }
}

#[derive(Debug, Clone)]
enum Source {
    Builtin,
    Shared(Arc<Schemas>),
}

impl Source {
    fn schemas(&self) -> &Schemas {
        match self {
            Self::Builtin => crate::builtin(),
            Self::Shared(schemas) => schemas,
        }
    }
}

#[derive(Debug)]
struct Shape {
    source: Source,
    id: TypeId,
    name: String,
}

impl ObjectType for Shape {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Ty> {
        let id = self.source.schemas().child(self.id, name)?;
        Some(named(&self.source, id, &format!("{}.{name}", self.name)))
    }
}

fn named(source: &Source, id: TypeId, name: &str) -> Ty {
    match source.schemas().get(id) {
        Type::Struct(ty) if ty.fields.is_empty() || ty.preserve_unknown => Ty::Dyn,
        Type::Struct(_) => Ty::Object(Arc::new(Shape { source: source.clone(), id, name: name.to_owned() })),
        Type::List(list) => Ty::list(named(source, list.item, name), REQUEST_BYTES_MAX / 3),
        Type::Map(map) => Ty::map(Ty::text(), named(source, map.value, name), REQUEST_BYTES_MAX / 8),
        Type::Any => Ty::Dyn,
        Type::Scalar(kind) => match kind {
            ScalarKind::Boolean => Ty::Bool,
            ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer => Ty::Int,
            ScalarKind::Double => Ty::Double,
            ScalarKind::Bytes => Ty::Bytes(REQUEST_BYTES_MAX),
            ScalarKind::Time | ScalarKind::MicroTime => Ty::Timestamp,
            ScalarKind::IntOrString => Ty::Dyn,
            // Quantities are texts until `quantity()` reads them.
            ScalarKind::String | ScalarKind::Quantity | ScalarKind::Duration => Ty::text(),
        },
    }
}

#[cfg(test)]
mod tests {
    use coracle_api_cel::{CALL_COST_MAX, Env, Meter, Val, compile};
    use coracle_api_meta::Gvk;
    use serde_json::json;

    use super::*;

    fn deployment() -> TypeId {
        crate::builtin().kind(&Gvk::new("apps", "v1", "Deployment")).expect("kind")
    }

    #[test]
    fn policies_see_the_fields_of_the_kind() {
        let env = Env::default().with("object", builtin_ty(deployment()));
        let object = json!({ "spec": { "replicas": 3, "template": { "spec": { "containers": [{ "image": "a:1" }] } } },
            "metadata": { "creationTimestamp": "2024-01-01T00:00:00Z" } });
        let source = "object.spec.replicas > 1 && object.spec.template.spec.containers.all(c, c.image.startsWith('a')) \
                      && object.metadata.creationTimestamp < timestamp('2025-01-01T00:00:00Z')";
        let program = compile(source, &env).expect("compiles");
        let value =
            program.eval(&[("object", Val::of(&object, &builtin_ty(deployment())))], &mut Meter::new(CALL_COST_MAX));
        assert_eq!(value.and_then(|value| value.as_bool()), Ok(true));
        for (source, expected) in [
            ("object.spec.nope", "undefined field 'nope'"),
            ("object.spec.replicas > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
            (
                "'wants replicas > 1, got ' + object.spec.replicas",
                "found no matching overload for '_+_' applied to '(string, int)'",
            ),
        ] {
            assert!(compile(source, &env).expect_err(source).to_string().contains(expected), "{source}");
        }
    }

    #[test]
    fn policies_construct_parts_of_the_kind() {
        let env = Env { objects: Some(builtin_objects(deployment())), ..Env::default() };
        let source =
            "Object{metadata: Object.metadata{annotations: {'mutated-by': 'x'}}, spec: Object.spec{replicas: 1337}}";
        let value = compile(source, &env).expect("compiles").eval(&[], &mut Meter::new(CALL_COST_MAX)).expect("value");
        let expected = json!({ "metadata": { "annotations": { "mutated-by": "x" } }, "spec": { "replicas": 1337 } });
        assert_eq!(value.to_json(), Some(expected));
        for (source, expected) in [
            (
                "Object{spec: Object.spec{replicas: 'x'}}",
                "expected type of field 'replicas' is 'int' but provided type is 'string'",
            ),
            ("Object{nope: 1}", "undefined field 'nope'"),
            ("Object.nope{}", "undeclared reference to 'Object.nope'"),
            ("Object{spec: Object.metadata{}}", "expected type of field 'spec'"),
        ] {
            let error = compile(source, &env).expect_err(source).to_string();
            assert!(error.contains(expected), "{source}: {error}");
        }
        let nested = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{\
                      containers: [Object.spec.template.spec.containers{name: 'a'}]}}}}";
        compile(nested, &env).expect("compiles");
    }
}
