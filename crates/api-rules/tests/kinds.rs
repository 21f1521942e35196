//! One good object of each kind, and what is said about it once it is spoilt. The data files are goldens:
//! `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write;

use coracle_api_meta::{FieldError, Gvk, Value};
use coracle_api_rules::{Strategy, strategy, table};
use expect_test::expect_file;

fn gvk(object: &Value) -> Gvk {
    let text = |field: &str| object[field].as_str().expect("a string");
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    Gvk::new(group, version, text("kind"))
}

fn rules(object: &Value) -> &'static dyn Strategy {
    strategy(&gvk(object))
}

fn good() -> Vec<Value> {
    serde_json::from_str(include_str!("data/good.json")).expect("objects")
}

fn created(mut object: Value) -> Value {
    let rules = rules(&object);
    rules.default(&mut object);
    rules.prepare_for_create(&mut object);
    object
}

fn name(object: &Value) -> String {
    format!("{} {}", object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default())
}

fn lines(errors: &[FieldError]) -> String {
    errors.iter().fold(String::new(), |mut text, error| {
        let _ = writeln!(text, "  {error}");
        text
    })
}

#[test]
fn good_objects_are_good() {
    for object in good() {
        let object = created(object);
        let errors = rules(&object).validate_create(&object);
        assert!(errors.is_empty(), "{}: {}", name(&object), lines(&errors));
    }
}

#[test]
fn an_update_that_changes_nothing_is_nothing() {
    for object in good() {
        let rules = rules(&object);
        let mut old = created(object);
        old["metadata"]["resourceVersion"] = "1".into();
        let mut new = old.clone();
        rules.default(&mut new);
        assert_eq!(new, old, "{}: defaults twice", name(&old));
        rules.prepare_for_update(&mut new, &old);
        let errors = rules.validate_update(&new, &old);
        assert!(errors.is_empty(), "{}: {}", name(&old), lines(&errors));
        assert_eq!(new, old, "{}: prepared", name(&old));
        let mut new = old.clone();
        rules.prepare_for_status_update(&mut new, &old);
        let errors = rules.validate_status_update(&new, &old);
        assert!(errors.is_empty(), "{} status: {}", name(&old), lines(&errors));
    }
}

#[test]
fn every_kind_is_tried() {
    let tried: BTreeSet<String> = good().iter().map(name).collect();
    for resource in coracle_api_types::catalogue::CATALOGUE {
        let gvk = resource.gvk();
        let version =
            if gvk.group.is_empty() { gvk.version.to_string() } else { format!("{}/{}", gvk.group, gvk.version) };
        let this = format!("{version} {}", gvk.kind);
        if !tried.contains(&this) {
            println!("not tried: {this}");
        }
    }
}

#[test]
fn defaults() {
    let mut text = String::new();
    for object in good() {
        let _ = writeln!(text, "{}", serde_json::to_string_pretty(&created(object)).expect("JSON"));
    }
    expect_file!["data/defaults.txt"].assert_eq(&text);
}

#[test]
fn rows() {
    let now: jiff::Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
    let mut text = String::new();
    for object in good() {
        let (gvk, mut object) = (gvk(&object), created(object));
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let columns = table::columns(&gvk);
        let cells = table::row(&gvk, &object, now);
        assert_eq!(columns.len(), cells.len(), "{}", name(&object));
        let _ = writeln!(text, "{}", name(&object));
        for (column, cell) in columns.iter().zip(cells) {
            let wide = if column.priority > 0 { "+" } else { " " };
            let _ = writeln!(text, " {wide}{} ({}): {cell}", column.name, column.kind);
        }
    }
    expect_file!["data/rows.txt"].assert_eq(&text);
}

/// `path.to[0].field` of an object, made if it is not there. `~` stands for a dot within a key.
fn place<'v>(object: &'v mut Value, path: &str) -> &'v mut Value {
    let steps = path.replace('[', ".").replace(']', "");
    let steps = steps.split('.').map(|step| step.replace('~', "."));
    steps.fold(object, |at, step| match step.parse::<usize>() {
        Ok(index) if at.is_array() || at.is_null() => {
            if at.is_null() {
                *at = Value::Array(Vec::new());
            }
            let items = at.as_array_mut().expect("a list");
            while items.len() <= index {
                items.push(Value::Null);
            }
            &mut items[index]
        }
        _ => &mut at[step],
    })
}

/// Each case is a line `Kind path=json path=json…`; `old:path` changes the object that is updated.
#[test]
fn bad_objects() {
    let good = good();
    let mut text = String::new();
    for case in include_str!("data/bad.in").lines() {
        if case.is_empty() || case.starts_with('#') {
            let _ = writeln!(text, "{case}");
            continue;
        }
        let (kind, changes) = case.split_once(' ').unwrap_or((case, ""));
        let object = good.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        let rules = rules(object);
        let (mut new, mut old) = (object.clone(), None);
        for change in changes.split("; ") {
            let (path, value) = change.split_once('=').unwrap_or_else(|| panic!("{case}"));
            let value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{case}: {error}"));
            match path.strip_prefix("old:") {
                Some("") => old = Some(object.clone()),
                Some(path) => *place(old.get_or_insert_with(|| object.clone()), path) = value,
                None => *place(&mut new, path) = value,
            }
        }
        let errors = if let Some(old) = old {
            let (old, status) = (created(old.clone()), old["status"].clone());
            let mut old = old;
            if !status.is_null() {
                old["status"] = status;
            }
            rules.default(&mut new);
            if case.contains(" status.") {
                rules.prepare_for_status_update(&mut new, &old);
                rules.validate_status_update(&new, &old)
            } else {
                rules.prepare_for_update(&mut new, &old);
                rules.validate_update(&new, &old)
            }
        } else {
            rules.validate_create(&created(new))
        };
        let _ = write!(text, "{case}\n{}", lines(&errors));
    }
    expect_file!["data/bad.out"].assert_eq(&text);
}

fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(value, &format!("{at}/{key}"), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// Objects of the wrong shape are for the schema to refuse; here they must do no harm.
#[test]
fn nothing_panics() {
    use serde_json::json;
    let odd = [Value::Null, "é".into(), (-1).into(), i64::MAX.into(), json!([null]), json!(["é"]), json!({"é": "é"})];
    let now: jiff::Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
    for object in good() {
        let (gvk, rules, old) = (gvk(&object), rules(&object), created(object));
        let mut found = Vec::new();
        places(&old, "", &mut found);
        for (index, place) in found.iter().enumerate().filter(|(_, place)| !place.is_empty()) {
            // Trying all at every place takes minutes.
            for odd in odd.iter().cycle().skip(index).take(1) {
                let mut new = old.clone();
                *new.pointer_mut(place).expect("a place") = odd.clone();
                let raw = new.clone();
                rules.default(&mut new);
                let mut fresh = new.clone();
                rules.prepare_for_create(&mut fresh);
                let _ = rules.validate_create(&fresh);
                let _ = rules.warnings_on_create(&fresh);
                for (new, old) in [(&new, &old), (&old, &raw)] {
                    let mut changed = new.clone();
                    rules.prepare_for_update(&mut changed, old);
                    let _ = rules.validate_update(&changed, old);
                    let _ = rules.warnings_on_update(&changed, old);
                    for subresource in ["status", "ephemeralcontainers", "resize", "finalize", "approval"] {
                        let mut changed = new.clone();
                        rules.prepare_for_subresource_update(subresource, &mut changed, old);
                        let _ = rules.validate_subresource_update(subresource, &changed, old);
                    }
                }
                let _ = table::row(&gvk, &raw, now);
                for field in rules.selectable_fields() {
                    let _ = rules.field_value(&raw, field);
                }
                let _ = rules.grace_seconds(&raw, None);
            }
        }
    }
}
