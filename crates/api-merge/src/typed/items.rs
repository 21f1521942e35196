//! What tells the items of associative lists apart.

use coracle_api_meta::Value;
use coracle_api_schema::{ListKind, Type};

use super::shape::{ListAtom, Shape, Types};
use crate::fields::PathElement;
use crate::golang;

impl<'s> Types<'s> {
    /// The path element of an item.
    ///
    /// # Errors
    /// A text in upstream's words when the item has none.
    pub(crate) fn item_element(self, list: ListAtom<'_>, item: &Value) -> Result<PathElement, String> {
        match list.kind {
            ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            ListKind::Set => set_element(item),
            ListKind::Map { keys } => self.keyed_element(list.item, keys, item),
        }
    }

    fn keyed_element(self, shape: Shape, keys: &[String], item: &Value) -> Result<PathElement, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut fields = Vec::with_capacity(keys.len());
        for key in keys {
            let value = map.get(key).or_else(|| self.default_of(shape, key));
            fields.extend(value.map(|value| (key.clone(), value.clone())));
        }
        if fields.is_empty() && !keys.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| golang::quoted(key)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                keys.join(" ")
            ));
        }
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(PathElement::Key(fields))
    }

    fn default_of(self, shape: Shape, key: &str) -> Option<&'s Value> {
        let Shape::Typed(id) = shape else { return None };
        match self.schemas.get(id) {
            Type::Struct(ty) => ty.field(key)?.default.as_ref(),
            _ => None,
        }
    }
}

fn set_element(item: &Value) -> Result<PathElement, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(PathElement::Value(scalar.clone())),
    }
}
