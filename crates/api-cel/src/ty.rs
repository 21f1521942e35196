//! Types, and how large their values may get.

use std::{fmt, sync::Arc};

/// Most items, fields or characters of a value.
pub type Size = u64;

/// A type with named fields: an object of a schema.
pub trait ObjectType: fmt::Debug + Send + Sync {
    /// `Object.spec`, `object`; shown in errors and used to construct values.
    fn name(&self) -> &str;
    /// The type of a field by its name in JSON.
    fn field(&self, name: &str) -> Option<Ty>;
}

#[derive(Debug, Clone)]
pub enum Ty {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String(Size),
    Bytes(Size),
    Duration,
    Timestamp,
    List(Arc<Ty>, Size),
    Map(Arc<Ty>, Arc<Ty>, Size),
    Object(Arc<dyn ObjectType>),
    Optional(Arc<Ty>),
    Type,
    /// Types of libraries, by name: `kubernetes.Quantity`.
    Opaque(&'static str),
    /// Stands for any type in a signature.
    Param(char),
}

/// Size of values that nothing bounds but the request.
pub const REQUEST_BYTES_MAX: Size = 3 << 20;

impl Ty {
    #[must_use]
    pub fn text() -> Self {
        Self::String(REQUEST_BYTES_MAX)
    }

    #[must_use]
    pub fn list(item: Self, max: Size) -> Self {
        Self::List(Arc::new(item), max)
    }

    #[must_use]
    pub fn map(key: Self, value: Self, max: Size) -> Self {
        Self::Map(Arc::new(key), Arc::new(value), max)
    }

    /// How many elements a value has at most.
    #[must_use]
    pub(crate) fn size_max(&self) -> Size {
        match self {
            Self::String(max) | Self::Bytes(max) | Self::List(_, max) | Self::Map(_, _, max) => *max,
            Self::Dyn | Self::Param(_) => REQUEST_BYTES_MAX,
            _ => 1,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String(_) => f.write_str("string"),
            Self::Bytes(_) => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(item, _) => write!(f, "list({item})"),
            Self::Map(key, value, _) => write!(f, "map({key}, {value})"),
            Self::Object(object) => f.write_str(object.name()),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(name) => write!(f, "{name}"),
        }
    }
}

/// What stands for the parameters of a signature.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bindings(Vec<(char, Ty)>);

impl Bindings {
    fn get(&self, name: char) -> Option<&Ty> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, ty)| ty)
    }

    fn set(&mut self, name: char, ty: Ty) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, ty));
    }

    /// The type with its parameters filled in.
    pub fn apply(&self, ty: &Ty) -> Ty {
        match ty {
            Ty::Param(name) => self.get(*name).cloned().unwrap_or(Ty::Dyn),
            Ty::List(item, max) => Ty::List(Arc::new(self.apply(item)), *max),
            Ty::Map(key, value, max) => Ty::Map(Arc::new(self.apply(key)), Arc::new(self.apply(value)), *max),
            Ty::Optional(inner) => Ty::Optional(Arc::new(self.apply(inner))),
            other => other.clone(),
        }
    }

    /// Whether a value of type `given` may stand where `wanted` is asked for.
    pub fn fits(&mut self, wanted: &Ty, given: &Ty) -> bool {
        match (wanted, given) {
            (Ty::Param(name), given) => match self.get(*name).cloned() {
                None | Some(Ty::Dyn | Ty::Null) => {
                    self.set(*name, given.clone());
                    true
                }
                Some(known) => {
                    let fits = self.fits(&known, given);
                    if fits && matches!(given, Ty::Dyn) {
                        self.set(*name, Ty::Dyn);
                    }
                    fits
                }
            },
            (Ty::Dyn, _) | (_, Ty::Dyn | Ty::Param(_)) => true,
            (Ty::Null, Ty::Null)
            | (Ty::Object(_) | Ty::Duration | Ty::Timestamp | Ty::Opaque(_) | Ty::Optional(_), Ty::Null) => true,
            (Ty::Null, Ty::Object(_) | Ty::Duration | Ty::Timestamp | Ty::Opaque(_) | Ty::Optional(_)) => true,
            (Ty::List(wanted, _), Ty::List(given, _)) | (Ty::Optional(wanted), Ty::Optional(given)) => {
                self.fits(wanted, given)
            }
            (Ty::Map(wanted_key, wanted, _), Ty::Map(given_key, given, _)) => {
                self.fits(wanted_key, given_key) && self.fits(wanted, given)
            }
            (Ty::Object(wanted), Ty::Object(given)) => wanted.name() == given.name(),
            (Ty::Opaque(wanted), Ty::Opaque(given)) => wanted == given,
            (wanted, given) => std::mem::discriminant(wanted) == std::mem::discriminant(given),
        }
    }
}
