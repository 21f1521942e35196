//! Lists of tolerations. Source: `pkg/util/tolerations`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

/// Both lists, without those that others include.
pub(super) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|other| includes(other, toleration));
        let mut later = all.iter().skip(index + 1);
        if !before && !later.any(|other| other != toleration && includes(other, toleration)) {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether everything that `part` tolerates is tolerated by `whole`.
fn includes(whole: &Value, part: &Value) -> bool {
    if whole == part {
        return true;
    }
    let text = |value: &Value, field: &str| value.str_at(&[field]).to_owned();
    let (key, effect, operator) = (text(whole, "key"), text(whole, "effect"), text(whole, "operator"));
    if text(part, "key") != key && (!key.is_empty() || operator != "Exists") {
        return false;
    }
    if text(part, "effect") != effect && !effect.is_empty() {
        return false;
    }
    let seconds = |value: &Value| value.get("tolerationSeconds").and_then(Value::as_i64);
    if let Some(most) = seconds(whole).filter(|_| effect == "NoExecute")
        && seconds(part).is_none_or(|own| own > most)
    {
        return false;
    }
    match operator.as_str() {
        "" | "Equal" => text(part, "operator") == "Equal" && text(part, "value") == text(whole, "value"),
        "Exists" => true,
        _ => false,
    }
}
