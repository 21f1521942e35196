//! Server-side apply and the ownership of fields.

mod common;

use coracle_api_merge::{
    ApplyError, FieldFilter, FieldManager, FieldSet, OneShape, PathElement, manager_of, revert_times_if_unchanged,
};
use coracle_api_meta::Gvk;
use coracle_api_schema::{Schemas, TypeId};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

struct World {
    schemas: Schemas,
    ty: Option<TypeId>,
    gvk: Gvk,
    filter: FieldFilter,
    subresource: &'static str,
    time: String,
    live: Option<Value>,
}

impl World {
    fn new() -> Self {
        let (schemas, ty) = common::workload();
        Self::of(schemas, Some(ty))
    }

    fn of(schemas: Schemas, ty: Option<TypeId>) -> Self {
        let gvk = Gvk::new("apps", "v1", "Workload");
        let time = "2026-01-01T00:00:00Z".to_owned();
        Self { schemas, ty, gvk, filter: FieldFilter::All, subresource: "", time, live: None }
    }

    fn at(&mut self, second: u32) -> &mut Self {
        self.time = format!("2026-01-01T00:00:{second:02}Z");
        self
    }

    fn run<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let versions = OneShape { schemas: &self.schemas, ty: self.ty };
        work(&FieldManager {
            schemas: &self.schemas,
            ty: self.ty,
            gvk: &self.gvk,
            subresource: self.subresource,
            filter: &self.filter,
            versions: &versions,
            time: &self.time,
        })
    }

    fn store(&mut self, mut object: Value) {
        object["metadata"]["uid"] = json!("1");
        self.live = Some(object);
    }

    /// Whole configurations; type and name are added.
    fn try_apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), ApplyError> {
        let config = self.full(config);
        let live = self.live.clone();
        let object = self.run(|fields| fields.apply(live.as_ref(), &config, manager, force))?;
        self.store(object);
        Ok(())
    }

    fn apply(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, false).expect("no conflict");
        self
    }

    fn force(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, true).expect("forced");
        self
    }

    fn refused(&mut self, manager: &str, config: Value, expected: Expect) {
        expected.assert_eq(&self.try_apply(manager, config, false).expect_err("must be refused").to_string());
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        let mut new = self.live.clone().unwrap_or_else(|| self.full(json!({})));
        change(&mut new);
        let live = self.live.clone();
        self.run(|fields| fields.update(live.as_ref(), &mut new, manager));
        self.store(new);
        self
    }

    fn full(&self, mut config: Value) -> Value {
        config["apiVersion"] = json!(self.gvk.api_version());
        config["kind"] = json!(self.gvk.kind);
        config["metadata"]["name"] = json!("web");
        config
    }

    fn object(&self) -> Value {
        self.live.clone().unwrap_or_default()
    }

    fn spec(&self, expected: Expect) {
        expected.assert_eq(&self.object()["spec"].to_string());
    }

    /// One line an entry: manager, operation, time, fields.
    fn owners(&self, expected: Expect) {
        let object = self.object();
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let lines: Vec<String> = entries
            .iter()
            .map(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap_or("-");
                let second = text("time").get(17..19).unwrap_or("--").to_owned();
                let paths = FieldSet::from_value(&entry["fieldsV1"]).expect("well formed").paths();
                format!("{} {} {second}: {}", text("manager"), text("operation"), paths.join(" "))
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }
}

#[test]
fn the_first_apply_creates_and_owns() {
    let mut world = World::new();
    world.apply(
        "a",
        json!({"metadata": {"labels": {"x": "1"}}, "spec": {"replicas": 1,
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "command": ["sh"]}]}}),
    );
    world.spec(expect![[
        r#"{"replicas":1,"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"command":["sh"]}]}"#
    ]]);
    world.owners(expect![[r#"a Apply 00: .metadata.labels.x .spec.replicas .spec.containers[name="c"] .spec.containers[name="c"].command .spec.containers[name="c"].image .spec.containers[name="c"].name .spec.containers[name="c"].ports[containerPort=80,protocol="TCP"] .spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort"#]]);
    let entry = &world.object()["metadata"]["managedFields"][0];
    expect![[r#"{"manager":"a","operation":"Apply","apiVersion":"apps/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:x":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:command":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:replicas":{}}}}"#]]
        .assert_eq(&entry.to_string());
}

#[test]
fn applying_again_changes_nothing() {
    let mut world = World::new();
    let config = json!({"spec": {"replicas": 1, "containers": [{"name": "c"}], "strategy": {}}});
    let before = world.apply("a", config.clone()).object();
    assert_eq!(world.at(5).apply("a", config).object(), before);
}

#[test]
fn fields_that_are_no_longer_applied_go() {
    let mut world = World::new();
    world.apply(
        "a",
        json!({"spec": {"replicas": 1, "paused": true, "containers": [{"name": "c"}, {"name": "d", "image": "i"}]}}),
    );
    world.update("u", |object| object["spec"]["nodeSelector"] = json!({"k": "v"}));
    world.at(1).apply("a", json!({"spec": {"replicas": 1, "containers": [{"name": "c"}]}}));
    world.spec(expect![[r#"{"replicas":1,"containers":[{"name":"c"}],"nodeSelector":{"k":"v"}}"#]]);
    world.at(2).apply("a", json!({"spec": {"containers": []}}));
    world.spec(expect![[r#"{"nodeSelector":{"k":"v"}}"#]]);
    world.owners(expect!["u Update 00: .spec.nodeSelector"]);
}

#[test]
fn what_another_applier_shares_stays() {
    let mut world = World::new();
    let config = json!({"spec": {"replicas": 3, "containers": [{"name": "c", "image": "i"}]}});
    world.apply("a", config.clone()).at(1).apply("b", config);
    world.owners(expect![[r#"
        b Apply --: .spec.replicas .spec.containers[name="c"] .spec.containers[name="c"].image .spec.containers[name="c"].name
        a Apply 00: .spec.replicas .spec.containers[name="c"] .spec.containers[name="c"].image .spec.containers[name="c"].name"#]]);
    world.at(2).apply("a", json!({}));
    world.spec(expect![[r#"{"replicas":3,"containers":[{"name":"c","image":"i"}]}"#]]);
    world.owners(expect![[r#"b Apply --: .spec.replicas .spec.containers[name="c"] .spec.containers[name="c"].image .spec.containers[name="c"].name"#]]);
}

#[test]
fn conflicts() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1}}));
    world.update("kubectl-client-side-apply", |object| object["spec"]["paused"] = json!(true));
    world.refused(
        "b",
        json!({"spec": {"replicas": 2}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#]],
    );
    world.refused(
        "b",
        json!({"spec": {"paused": false}}),
        expect![[
            r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.paused"#
        ]],
    );
    world.refused(
        "b",
        json!({"spec": {"paused": false, "replicas": 2}}),
        expect![[r#"
        Apply failed with 2 conflicts: conflicts with "a":
        - .spec.replicas
        conflicts with "kubectl-client-side-apply" using apps/v1:
        - .spec.paused"#]],
    );
    let status = world.try_apply("b", json!({"spec": {"replicas": 2}}), false).expect_err("a conflict").status();
    expect![[r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Apply failed with 1 conflict: conflict with \"a\": .spec.replicas","reason":"Conflict","details":{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"a\"","field":".spec.replicas"}]},"code":409}"#]]
        .assert_eq(&String::from_utf8(status.to_vec()).expect("utf-8"));
    world.at(1).force("b", json!({"spec": {"replicas": 2}}));
    world.owners(expect![[r#"
        b Apply 01: .spec.replicas
        kubectl-client-side-apply Update 00: .spec.paused"#]]);
}

#[test]
fn updates_take_fields_from_appliers() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "paused": true}}));
    world.at(1).update("u", |object| object["spec"]["replicas"] = json!(5));
    world.owners(expect![[r#"
        a Apply 00: .spec.paused
        u Update 01: .spec.replicas"#]]);
    // Go omits false: upstream sees the field go.
    world.at(2).update("u", |object| object["spec"]["paused"] = json!(false));
    world.owners(expect!["u Update 01: .spec.replicas"]);
    world.at(2).update("u", |object| object["spec"]["paused"] = json!(true));
    world.owners(expect!["u Update 02: .spec.paused .spec.replicas"]);
    let before = world.object();
    assert_eq!(world.at(3).update("other", |_| ()).object(), before);
    world
        .at(4)
        .update("gone", |object| drop(object["spec"].as_object_mut().expect("an object").shift_remove("replicas")));
    world.owners(expect!["u Update 02: .spec.paused"]);
}

#[test]
fn creating_owns_as_go_structs_do() {
    let mut world = World::new();
    world.update("kubelet", |object| {
        object["metadata"] = json!({"name": "web", "namespace": "n", "labels": {"x": "1"}, "uid": "u"});
        object["spec"] = json!({"replicas": 0, "containers": [{"name": "c", "resources": {}}], "strategy": {"rollingUpdate": {"maxSurge": 1}}});
        object["status"] = json!({});
    });
    let entry = &world.object()["metadata"]["managedFields"][0]["fieldsV1"];
    expect![[r#"{"f:metadata":{"f:labels":{".":{},"f:x":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:resources":{}}},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}}}}}"#]]
        .assert_eq(&entry.to_string());
}

#[test]
fn objects_that_nobody_tracked() {
    let mut world = World::new();
    world.store(json!({"apiVersion": "apps/v1", "kind": "Workload", "metadata": {"name": "web"}, "spec": {"replicas": 1, "paused": true}}));
    world.update("u", |object| object["spec"]["replicas"] = json!(2));
    world.owners(expect![""]);
    world.refused(
        "a",
        json!({"spec": {"replicas": 3}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#]],
    );
    world.at(1).apply("a", json!({"spec": {"replicas": 2}}));
    world.owners(expect![[r#"
        a Apply --: .spec.replicas
        before-first-apply Update 01: .spec.paused .spec.replicas"#]]);
}

#[test]
fn clients_may_drop_all_entries() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1}}));
    let with = |entries: Value| move |object: &mut Value| object["metadata"]["managedFields"] = entries;
    world.update("u", with(json!([{"manager": "x"}])));
    world.owners(expect!["a Apply 00: .spec.replicas"]);
    world.update("u", with(Value::Null));
    world.owners(expect!["a Apply 00: .spec.replicas"]);
    world.update("u", with(json!([{}])));
    world.owners(expect![""]);
    assert!(world.object()["metadata"].get("managedFields").is_none());
}

#[test]
fn configurations_that_do_not_fit() {
    let mut world = World::new();
    world.refused("a", json!({"spec": {"replicas": "x"}}), expect!["failed to create typed patch object (/web; apps/v1, Kind=Workload): .spec.replicas: expected numeric (int or float), got string"]);
    world.refused("a", json!({"spec": {"replica": 1}}), expect!["failed to create typed patch object (/web; apps/v1, Kind=Workload): .spec.replica: field not declared in schema"]);
    world.refused("a", json!({"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}), expect![[r#"failed to create typed patch object (/web; apps/v1, Kind=Workload): .spec.containers: duplicate entries for key [name="c"]"#]]);
    world.refused("a", json!({"spec": {"containers": [{"image": "c"}]}}), expect![[r#"failed to create typed patch object (/web; apps/v1, Kind=Workload): .spec.containers: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)"#]]);
    world.refused(
        "a",
        json!({"metadata": {"labels": {"x": 1}}, "spec": []}),
        expect![[r#"
        failed to create typed patch object (/web; apps/v1, Kind=Workload): errors:
          .metadata.labels.x: expected string, got &value.valueUnstructured{Value:1}
          .spec: expected map, got &{[]}"#]],
    );
    world.refused("a", json!({"metadata": {"managedFields": []}}), expect!["metadata.managedFields must be nil"]);
    world.gvk.version = "v2".to_owned();
    let config = json!({"apiVersion": "apps/v1", "kind": "Workload", "metadata": {"name": "web"}});
    let error = world.run(|fields| fields.apply(None, &config, "a", false)).expect_err("another version");
    assert_eq!((error.status().code, error.to_string().as_str()), (400, "invalid object type: apps/v1, Kind=Workload"));
}

#[test]
fn lists_are_ordered_by_the_applier() {
    let mut world = World::new();
    let names = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()}});
    world.apply("a", names(&["a", "b", "c"])).apply("b", names(&["x", "b", "y"]));
    world.spec(expect![[r#"{"containers":[{"name":"a"},{"name":"x"},{"name":"b"},{"name":"c"},{"name":"y"}]}"#]]);
    world.apply("a", names(&["c", "a"]));
    world.spec(expect![[r#"{"containers":[{"name":"x"},{"name":"b"},{"name":"c"},{"name":"y"},{"name":"a"}]}"#]]);
}

#[test]
fn sets_and_atomics() {
    let mut world = World::new();
    world.apply("a", json!({"metadata": {"finalizers": ["x", "y"]}, "spec": {"selector": {"matchLabels": {"k": "1"}}, "data": {"deep": {"er": [1]}}}}));
    world.owners(expect![[r#"a Apply 00: .metadata.finalizers[="x"] .metadata.finalizers[="y"] .spec.selector .spec.data.deep .spec.data.deep.er"#]]);
    world.apply("b", json!({"metadata": {"finalizers": ["z"]}}));
    world.refused(
        "b",
        json!({"metadata": {"finalizers": ["z"]}, "spec": {"selector": {"matchLabels": {"l": "2"}}}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.selector"#]],
    );
    world.apply("a", json!({"metadata": {"finalizers": ["y"]}}));
    expect![[r#"["y","z"]"#]].assert_eq(&world.object()["metadata"]["finalizers"].to_string());
}

#[test]
fn null_is_owned() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "paused": null, "strategy": {}}}));
    world.owners(expect!["a Apply 00: .spec.paused .spec.replicas .spec.strategy"]);
}

#[test]
fn custom_resources_without_a_schema() {
    let mut world = World::of(Schemas::default(), None);
    world.apply("a", json!({"spec": {"m": {"x": 1, "y": {"z": true}}, "l": [{"name": "a"}], "e": {}}}));
    world.owners(expect!["a Apply 00: .spec .spec.e .spec.l .spec.m .spec.m.x .spec.m.y .spec.m.y.z"]);
    world.apply("b", json!({"spec": {"m": {"w": 1}}}));
    world.apply("a", json!({"spec": {"m": {"x": 2}}}));
    world.spec(expect![[r#"{"m":{"x":2,"w":1}}"#]]);
    world.refused(
        "b",
        json!({"spec": {"l": [], "m": {"x": 3}}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.m.x"#]],
    );
    world.update("u", |object| object["spec"]["m"]["v"] = json!(1));
    world.owners(expect![[r#"
        a Apply 00: .spec .spec.m .spec.m.x
        b Apply 00: .spec .spec.m .spec.m.w
        u Update 00: .spec.m.v"#]]);
}

#[test]
fn client_side_apply_is_taken_over() {
    let mut world = World::new();
    let last = r#"{"apiVersion":"apps/v1","kind":"Workload","metadata":{"annotations":{},"name":"web"},"spec":{"replicas":1,"paused":true}}"#;
    world.update("kubectl-client-side-apply", |object| {
        object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
        object["spec"] = json!({"replicas": 1, "paused": true});
    });
    world.at(1).update("autoscaler", |object| object["spec"]["replicas"] = json!(7));
    world.refused(
        "kubectl",
        json!({"spec": {"replicas": 3, "paused": false}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "autoscaler" using apps/v1: .spec.replicas"#]],
    );
    world.refused(
        "other",
        json!({"spec": {"paused": false}}),
        expect![[
            r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.paused"#
        ]],
    );
    world.at(2).apply("kubectl", json!({"spec": {"paused": false}}));
    world.spec(expect![[r#"{"replicas":7,"paused":false}"#]]);
    let object = world.object();
    let annotation = object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    expect![[r#"
        {"apiVersion":"apps/v1","kind":"Workload","metadata":{"name":"web"},"spec":{"paused":false}}
    "#]]
    .assert_eq(annotation.unwrap_or_default());
}

#[test]
fn subresources_and_what_the_strategy_resets() {
    let mut world = World::new();
    world.filter = FieldFilter::Except(FieldSet::of_fields(&[&["status"]]));
    world.apply("a", json!({"spec": {"replicas": 1}, "status": {"ready": 1}}));
    world.owners(expect!["a Apply 00: .spec.replicas"]);
    world.filter = FieldFilter::Except(FieldSet::of_fields(&[&["spec"]]));
    world.subresource = "status";
    world.at(1).update("kubelet", |object| {
        object["spec"]["replicas"] = json!(9);
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    });
    world.owners(expect![[r#"
        a Apply 00: .spec.replicas
        kubelet Update 01: .status.conditions .status.conditions[type="Ready"] .status.conditions[type="Ready"].status .status.conditions[type="Ready"].type"#]]);
    world.refused("b", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}), expect![[r#"Apply failed with 1 conflict: conflict with "kubelet" with subresource "status" using apps/v1: .status.conditions[type="Ready"].status"#]]);
    let any = PathElement::field;
    world.filter = FieldFilter::Only(vec![vec![Some(any("spec")), Some(any("containers")), None, Some(any("image"))]]);
    world.subresource = "image";
    world.at(2).update("c", |object| {
        object["spec"]["paused"] = json!(true);
        object["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
    });
    let object = world.object();
    expect![[r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}}}}"#]]
        .assert_eq(&object["metadata"]["managedFields"][2]["fieldsV1"].to_string());
}

#[test]
fn old_updates_are_merged() {
    let mut world = World::new();
    for n in 0..14u32 {
        world.at(n).update(&format!("m{n}"), |object| object["metadata"]["labels"][format!("l{n}")] = json!("1"));
    }
    let object = world.object();
    let entries = object["metadata"]["managedFields"].as_array().expect("entries");
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["manager"].as_str()).collect();
    assert_eq!(names, ["ancient-changes", "m5", "m6", "m7", "m8", "m9", "m10", "m11", "m12", "m13"]);
    assert_eq!(entries[0]["time"], json!("2026-01-01T00:00:04Z"));
}

#[test]
fn versions_are_converted() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "paused": true}}));
    world.gvk.version = "v1beta1".to_owned();
    world.at(1).apply("a", json!({"spec": {"paused": true}}));
    world.spec(expect![[r#"{"paused":true}"#]]);
    world.owners(expect!["a Apply 01: .spec.paused"]);
    world.at(2).update("u", |object| object["spec"]["replicas"] = json!(4));
    world.owners(expect![[r#"
        a Apply 01: .spec.paused
        u Update 02: .spec.replicas"#]]);
    world.update("u", |object| object["metadata"]["managedFields"][0]["apiVersion"] = json!("other/v1"));
    world.owners(expect!["u Update 02: .spec.replicas"]);
}

#[test]
fn a_schema_that_became_atomic() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"selector": {"matchLabels": {"k": "1"}}}}));
    let mut object = world.object();
    object["metadata"]["managedFields"][0]["fieldsV1"] =
        json!({"f:spec": {"f:selector": {"f:matchLabels": {"f:k": {}}}}});
    world.live = Some(object);
    world.refused(
        "b",
        json!({"spec": {"selector": {"matchLabels": {"k": "2"}}}}),
        expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.selector"#]],
    );
}

#[test]
fn times_alone_are_no_change() {
    let mut world = World::new();
    let old = world.apply("a", json!({"spec": {"replicas": 1}})).object();
    let mut new = old.clone();
    new["metadata"]["managedFields"][0]["time"] = json!("2027-01-01T00:00:00Z");
    let mut changed = new.clone();
    changed["spec"]["replicas"] = json!(2);
    assert!(revert_times_if_unchanged(&old, &mut new));
    assert_eq!(new, old);
    assert!(!revert_times_if_unchanged(&old, &mut changed));
}

#[test]
fn managers_by_user_agent() {
    assert_eq!(manager_of("given", "kubectl/v1.36"), "given");
    assert_eq!(manager_of("", "kubectl/v1.36 (linux/amd64)"), "kubectl");
    assert_eq!(manager_of("", &"é".repeat(100)).len(), 128);
}
