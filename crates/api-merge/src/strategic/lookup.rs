//! What the schema says of the fields of an object: their types and patch strategies.

use coracle_api_schema::{PatchStrategy, Schemas, Type, TypeId};

use crate::error::PatchError;
use crate::golang;

static REPLACED: PatchStrategy = PatchStrategy { merge: false, retain_keys: false, merge_key: String::new() };

/// The type of an object that is merged.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'s> {
    schemas: &'s Schemas,
    /// `None` where anything may stand: maps merge, lists are replaced.
    ty: Option<TypeId>,
}

/// A field's type (the item's type, for lists) and strategy.
pub(crate) struct FieldLookup<'s> {
    pub lookup: Lookup<'s>,
    pub strategy: &'s PatchStrategy,
}

impl<'s> Lookup<'s> {
    pub(crate) fn of(schemas: &'s Schemas, ty: TypeId) -> Self {
        Self { schemas, ty: Some(ty) }
    }

    /// For a field whose value is an object.
    pub(crate) fn field(self, key: &str) -> Result<FieldLookup<'s>, PatchError> {
        let free = FieldLookup { lookup: Self { ty: None, ..self }, strategy: &REPLACED };
        let Some(ty) = self.ty else { return Ok(free) };
        match self.schemas.get(ty) {
            Type::Any => Ok(free),
            Type::Map(map) => Ok(FieldLookup { lookup: Self { ty: Some(map.value), ..self }, ..free }),
            Type::Struct(ty) => match ty.field(key) {
                Some(field) => Ok(FieldLookup { lookup: Self { ty: Some(field.ty), ..self }, strategy: &field.patch }),
                None if ty.preserve_unknown => Ok(free),
                None => Err(PatchError::Failed(format!(
                    "unable to find api field in struct {} for the json field {}",
                    short_name(&ty.name),
                    golang::quoted(key)
                ))),
            },
            other => Err(PatchError::Failed(format!(
                "merging an object in json but data type is not struct, instead is: {}",
                go_kind(other)
            ))),
        }
    }

    /// For a field whose value is a list; leads to the items' type.
    pub(crate) fn list(self, key: &str) -> Result<FieldLookup<'s>, PatchError> {
        let field = self.field(key)?;
        let Some(ty) = field.lookup.ty else { return Ok(field) };
        match self.schemas.get(ty) {
            Type::Any => Ok(FieldLookup { lookup: Self { ty: None, ..self }, ..field }),
            Type::List(list) => match self.schemas.get(list.item) {
                Type::List(_) => Err(PatchError::Failed("unexpected slice of slice".to_owned())),
                _ => Ok(FieldLookup { lookup: Self { ty: Some(list.item), ..self }, ..field }),
            },
            other => Err(PatchError::Failed(format!("expected slice or array type, but got: {}", go_kind(other)))),
        }
    }

    /// The Go kind of the type, which upstream's texts name.
    pub(crate) fn name(self) -> &'static str {
        self.ty.map_or("struct", |ty| go_kind(self.schemas.get(ty)))
    }
}

fn short_name(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, short)| short)
}

fn go_kind(ty: &Type) -> &'static str {
    match ty {
        Type::Struct(_) | Type::Any => "struct",
        Type::List(_) => "slice",
        Type::Map(_) => "map",
        Type::Scalar(_) => "string",
    }
}
