//! Equality and order of values as structured-merge-diff has them: numbers compare as numbers, whatever their form.

use std::cmp::Ordering;

use coracle_api_meta::{Map, Value};

pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right).is_eq(),
        (left, right) => left == right,
    }
}

/// Numbers, then strings, booleans, lists, maps, null.
pub(crate) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => {
            let pairs = left.iter().zip(right).map(|(left, right)| compare(left, right));
            pairs.fold(Ordering::Equal, Ordering::then).then(left.len().cmp(&right.len()))
        }
        (Value::Object(left), Value::Object(right)) => compare_maps(left, right),
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn compare_numbers(left: &serde_json::Number, right: &serde_json::Number) -> Ordering {
    if left.is_f64() || right.is_f64() {
        let float = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
        return float(left).total_cmp(&float(right));
    }
    left.as_i128().cmp(&right.as_i128())
}

fn compare_maps(left: &Map, right: &Map) -> Ordering {
    let sorted = |map: &Map| {
        let mut keys: Vec<String> = map.keys().cloned().collect();
        keys.sort();
        keys
    };
    let (left_keys, right_keys) = (sorted(left), sorted(right));
    for (left_key, right_key) in left_keys.iter().zip(&right_keys) {
        let order = left_key.cmp(right_key).then_with(|| match (left.get(left_key), right.get(right_key)) {
            (Some(left), Some(right)) => compare(left, right),
            _ => Ordering::Equal,
        });
        if order.is_ne() {
            return order;
        }
    }
    left_keys.len().cmp(&right_keys.len())
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
