//! What must hold of any objects: applying twice changes nothing, disjoint appliers do not meet, sets survive the wire.

mod common;

use std::collections::BTreeSet;

use coracle_api_merge::{FieldFilter, FieldManager, FieldSet, OneShape, PathElement};
use coracle_api_meta::Gvk;
use coracle_api_schema::{Schemas, TypeId};
use proptest::prelude::*;
use serde_json::{Value, json};

fn with<T>(schemas: &Schemas, ty: Option<TypeId>, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
    let gvk = Gvk::new("apps", "v1", "Workload");
    let versions = OneShape { schemas, ty };
    let filter = FieldFilter::All;
    let time = "2026-01-01T00:00:00Z";
    work(&FieldManager { schemas, ty, gvk: &gvk, subresource: "", filter: &filter, versions: &versions, time })
}

/// A part of a workload's spec.
fn spec() -> impl Strategy<Value = Value> {
    let port = (1..4i64, prop::option::of(prop::sample::select(vec!["TCP", "UDP"])));
    let container = (0..4u8, prop::option::of(0..3u8), prop::collection::vec(port, 0..3));
    let containers = prop::collection::vec(container, 0..4).prop_map(|containers| {
        let mut names = BTreeSet::new();
        let unique = containers.into_iter().filter(|(name, ..)| names.insert(*name));
        let objects = unique.map(|(name, image, ports)| {
            let mut object = json!({"name": format!("c{name}")});
            if let Some(image) = image {
                object["image"] = json!(format!("i{image}"));
            }
            let mut seen = BTreeSet::new();
            let ports = ports.into_iter().filter(|(port, protocol)| seen.insert((*port, protocol.unwrap_or("TCP"))));
            let ports: Vec<Value> = ports
                .map(|(port, protocol)| match protocol {
                    Some(protocol) => json!({"containerPort": port, "protocol": protocol}),
                    None => json!({"containerPort": port}),
                })
                .collect();
            if !ports.is_empty() {
                object["ports"] = Value::Array(ports);
            }
            object
        });
        objects.collect::<Vec<_>>()
    });
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (containers, prop::option::of(1..4i64), any::<bool>(), labels, prop::collection::btree_set("[a-d]", 0..3)).prop_map(
        |(containers, replicas, atomic, labels, finalizers)| {
            let mut object =
                json!({"apiVersion": "apps/v1", "kind": "Workload", "metadata": {"name": "web"}, "spec": {}});
            if !containers.is_empty() {
                object["spec"]["containers"] = json!(containers);
            }
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = json!(replicas);
            }
            if atomic {
                object["spec"]["selector"] = json!({"matchLabels": labels});
            }
            if !labels.is_empty() {
                object["metadata"]["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                object["metadata"]["finalizers"] = json!(finalizers);
            }
            object
        },
    )
}

fn element() -> impl Strategy<Value = PathElement> {
    let scalar = prop_oneof![
        any::<i8>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-z<&\"é]{0,3}".prop_map(Value::from),
    ];
    prop_oneof![
        "[a-c/:.]{0,3}".prop_map(PathElement::Field),
        scalar.clone().prop_map(PathElement::Value),
        (0..4i64).prop_map(PathElement::Index),
        ("[a-b]", scalar.clone()).prop_map(|(name, value)| PathElement::Key(vec![(name, value)])),
        (scalar.clone(), scalar)
            .prop_map(|(one, other)| PathElement::Key(vec![("k".to_owned(), one), ("l".to_owned(), other)])),
    ]
}

fn set() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(prop::collection::vec(element(), 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        for path in &paths {
            set.insert(path);
        }
        set
    })
}

fn wild() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "spec",
        "metadata",
        "name",
        "containers",
        "finalizers",
        "labels",
        "selector",
        "ports",
        "data",
        "strategy",
        "managedFields",
        "status",
        "f:spec",
        "k:{}",
        ".",
        "containerPort",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        prop::sample::select(vec!["a", "b", "Apply", "FieldsV1"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys.clone(), inner), 0..5).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn typed(mut object: Value) -> Value {
    if let Value::Object(map) = &mut object {
        map.insert("apiVersion".to_owned(), json!("apps/v1"));
        map.insert("kind".to_owned(), json!("Workload"));
    }
    object
}

/// Whether all of `part` is in `whole`, items of lists of objects by their keys.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (whole, part) => whole == part,
    }
}

proptest! {
    #[test]
    fn sets_survive_the_wire(set in set()) {
        prop_assert_eq!(FieldSet::from_value(&set.to_value()).expect("well formed"), set);
    }

    #[test]
    fn sets_are_sets(left in set(), right in set()) {
        let union = left.union(&right);
        prop_assert_eq!(&union, &right.union(&left));
        let both = left.intersection(&right);
        prop_assert_eq!(union.len(), left.len() + right.len() - both.len());
        prop_assert_eq!(&left.difference(&right).union(&both), &left);
        prop_assert!(left.difference(&left).is_empty());
        prop_assert!(left.recursive_difference(&left).is_empty());
        prop_assert!(left.recursive_difference(&right).len() <= left.difference(&right).len());
    }

    #[test]
    fn applying_twice_changes_nothing(first in spec(), config in spec()) {
        let (schemas, ty) = common::workload();
        with(&schemas, Some(ty), |fields| {
            let live = fields.apply(None, &first, "a", false).expect("creates");
            let once = fields.apply(Some(&live), &config, "a", false).expect("its own");
            let twice = fields.apply(Some(&once), &config, "a", false).expect("its own");
            prop_assert_eq!(&once, &twice);
            prop_assert!(contains(&once, &config));
            Ok(())
        })?;
    }

    #[test]
    fn one_applier_alone_gets_what_it_applies(first in spec(), config in spec()) {
        let (schemas, ty) = common::workload();
        with(&schemas, Some(ty), |fields| {
            let live = fields.apply(None, &first, "a", false).expect("creates");
            let moved = fields.apply(Some(&live), &config, "a", false).expect("its own");
            let made = fields.apply(None, &config, "a", false).expect("creates");
            prop_assert!(contains(&made, &config));
            let bare = |object: &Value| { let mut object = object.clone(); object["metadata"]["managedFields"] = Value::Null; object };
            prop_assert!(contains(&bare(&moved), &bare(&made)));
            Ok(())
        })?;
    }

    #[test]
    fn disjoint_appliers_do_not_meet(labels in prop::collection::btree_map("a[a-c]", "[x-z]", 1..4), others in prop::collection::btree_map("b[a-c]", "[x-z]", 1..4)) {
        let (schemas, ty) = common::workload();
        let config = |labels: &std::collections::BTreeMap<String, String>| {
            typed(json!({"metadata": {"name": "web", "labels": labels}, "spec": {"containers": [{"name": labels.keys().next()}]}}))
        };
        with(&schemas, Some(ty), |fields| {
            let live = fields.apply(None, &config(&labels), "a", false).expect("creates");
            let both = fields.apply(Some(&live), &config(&others), "b", false).expect("disjoint");
            prop_assert!(contains(&both, &config(&labels)) && contains(&both, &config(&others)));
            let without = fields.apply(Some(&both), &typed(json!({"metadata": {"name": "web"}})), "a", false).expect("its own");
            prop_assert_eq!(&without["metadata"]["labels"], &json!(others));
            prop_assert_eq!(without["spec"]["containers"].as_array().map(Vec::len), Some(1));
            Ok(())
        })?;
    }

    #[test]
    fn never_panics(live in wild(), config in wild(), force in any::<bool>()) {
        let (schemas, ty) = common::workload();
        for ty in [Some(ty), None] {
            with(&schemas, ty, |fields| {
                let mut new = typed(config.clone());
                fields.update(Some(&typed(live.clone())), &mut new, "u");
                let _ = fields.apply(Some(&typed(live.clone())), &typed(config.clone()), "kubectl", force);
                if let Ok(object) = fields.apply(None, &typed(config.clone()), "a", force) {
                    let _ = fields.apply(Some(&object), &typed(live.clone()), "a", force);
                    let _ = fields.apply(Some(&object), &typed(live.clone()), "b", force);
                }
            });
        }
        let _ = FieldSet::from_value(&live);
        let _ = coracle_api_merge::validate_managed_fields(&live);
        let _ = coracle_api_merge::scale_to_subresource(Some(&live), &[]);
    }
}
