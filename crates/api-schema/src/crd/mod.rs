//! Custom resources: a version's `openAPIV3Schema`, checked and compiled to what requests need.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema` (structural schemas) and `.../validation`. Rules in CEL
//! (`x-kubernetes-validations`) are kept but not evaluated here.

mod format;
mod model;
mod node;
mod openapi;
mod rules;
mod shape;
mod structural;
mod validate;

use std::sync::Arc;

use coracle_api_meta::{FieldError, FieldPath, Value};

use crate::{
    builtin::builtin,
    decode::{DecodeError, Limits, decode_value, strict_problem},
    model::{Schemas, TypeId},
};
use node::Node;

/// A version of a custom resource, ready for requests.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Types for patching and applying; `root` is the object.
    pub schemas: Arc<Schemas>,
    pub root: TypeId,
    node: Node,
}

/// Compiles the schema of a version. Errors are those of creating the definition, at `path` (`...openAPIV3Schema`).
pub fn compile(schema: &Value, path: &FieldPath) -> Result<Compiled, Vec<FieldError>> {
    let mut node = Node::read(schema);
    let mut errors = structural::check(&node, path);
    if errors.is_empty() {
        shape::check_defaults(&node, path, &mut errors);
    }
    openapi::check(schema, path, &mut errors);
    if errors.is_empty() {
        errors = rules::compile(&mut node, path);
    }
    if errors.is_empty() { Ok(Compiled::of(node)) } else { Err(errors) }
}

/// Compiles without checks, for definitions that were stored before; what is not understood accepts everything.
#[must_use]
pub fn compile_stored(schema: &Value) -> Compiled {
    let mut node = Node::read(schema);
    rules::compile(&mut node, &FieldPath::default());
    Compiled::of(node)
}

/// A version without schema: every field is kept.
#[must_use]
pub fn schemaless() -> Compiled {
    Compiled::of(Node { preserve_unknown: true, ty: "object".to_owned(), ..Node::default() })
}

impl Compiled {
    fn of(node: Node) -> Self {
        let (schemas, root) = model::build(&node);
        Self { schemas: Arc::new(schemas), root, node }
    }

    /// Brings a decoded object into shape: metadata as Go leaves it, unknown fields dropped, nulls and defaults. Gives the
    /// strict problems (`unknown field "spec.foo"`).
    pub fn admit(&self, object: &mut Value) -> Result<Vec<String>, DecodeError> {
        let mut problems = coerce_metadata(object)?;
        problems.extend(self.prune(object));
        self.default(object);
        Ok(problems)
    }

    /// Drops the fields that the schema does not know, and says which.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut paths = Vec::new();
        shape::prune_root(object, &self.node, &mut paths);
        paths.sort();
        paths.iter().map(|path| strict_problem("unknown", path)).collect()
    }

    /// Drops nulls that no schema allows and fills in defaults.
    pub fn default(&self, object: &mut Value) {
        shape::drop_nulls(object, Some(&self.node));
        shape::default(object, &self.node);
    }

    /// Holds the object against the schema.
    #[must_use]
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate::value(&self.node, object, None, &FieldPath::default());
        errors.extend(shape::duplicates(&self.node, object));
        errors.extend(rules::hold(&self.node, object, None, &errors));
        errors
    }

    /// Holds a new object against the schema; what did not change may stay invalid.
    #[must_use]
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate::value(&self.node, object, Some(old), &FieldPath::default());
        if shape::duplicates(&self.node, old).is_empty() {
            errors.extend(shape::duplicates(&self.node, object));
        }
        errors.extend(rules::hold(&self.node, object, Some(old), &errors));
        errors
    }
}

/// Brings the metadata of a custom object to the form that Go leaves.
fn coerce_metadata(object: &mut Value) -> Result<Vec<String>, DecodeError> {
    const PARTIAL: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";
    let Some(metadata) = object.get("metadata").cloned() else { return Ok(Vec::new()) };
    let Some(ty) = builtin().named(PARTIAL) else { return Ok(Vec::new()) };
    let partial = serde_json::json!({ "metadata": metadata });
    let mut decoded = decode_value(&partial, Limits::default(), builtin(), Some(ty))?;
    object["metadata"] = decoded.value["metadata"].take();
    Ok(decoded.strict)
}
