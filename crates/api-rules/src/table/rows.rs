//! The printers of kinds.

use coracle_api_meta::{Gvk, ObjectExt, Value};
use jiff::Timestamp;

use super::{Column, duration::age};

pub(crate) type Printer = fn(&Value, Timestamp) -> Vec<Value>;

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
    priority: 0,
};
const AGE: Column = Column { name: "Age", kind: "string", format: "", description: "", priority: 0 };
const NAME_AGE: &[Column] = &[NAME, AGE];

fn name_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), age(object, now).into()]
}

pub(crate) fn printer(_gvk: &Gvk) -> (&'static [Column], Printer) {
    (NAME_AGE, name_age)
}
