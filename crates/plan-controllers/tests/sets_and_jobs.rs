//! Stateful sets, daemon sets and jobs played through until nothing is left to do.

mod world;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_plan_controllers::{daemonset, job, statefulset};
use coracle_plan_core::Action;
use expect_test::expect;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use world::World;

const STEPS_MAX: usize = 200;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("time")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// One turn of every controller. Says whether anything was done.
fn turn(world: &mut World) -> bool {
    let mut busy = false;
    let (nodes, revisions, claims) =
        (world.list::<Node>(), world.list::<ControllerRevision>(), world.list::<PersistentVolumeClaim>());
    for set in world.list::<StatefulSet>() {
        let pods = world.list::<Pod>();
        let view =
            statefulset::View { set: &set, pods: &pods, revisions: &revisions, claims: &claims, name_taken: false };
        busy |= world.carry_out(&statefulset::plan(&view, now()));
    }
    for set in world.list::<DaemonSet>() {
        let pods = world.list::<Pod>();
        let view = daemonset::View { set: &set, nodes: &nodes, pods: &pods, revisions: &revisions, name_taken: false };
        busy |= world.carry_out(&daemonset::plan(&view, now()));
    }
    for own in world.list::<Job>() {
        let pods = world.list::<Pod>();
        let mut plan = job::plan(&job::View { job: &own, pods: &pods }, now());
        // The world knows merge patches only.
        for action in &mut plan.actions {
            if let Action::Patch { patch, .. } = action {
                *patch = coracle_plan_core::PlannedPatch::Merge(json!({"metadata": {"finalizers": null}}));
            }
        }
        busy |= world.carry_out(&plan);
    }
    busy
}

/// Readies one pod at a time when nothing else is to do, or ends it when `end` says how.
fn settle(world: &mut World, end: impl Fn(&Pod) -> Option<&'static str>) {
    for _ in 0..STEPS_MAX {
        if turn(world) {
            continue;
        }
        let pods = world.list::<Pod>();
        let open = |pod: &&std::sync::Arc<Pod>| coracle_plan_core::pod::phase(pod).is_empty();
        let Some(pod) = pods.iter().find(open) else { return };
        let (phase, ready) = end(pod).map_or(("Running", "True"), |phase| (phase, "False"));
        world.edit::<Pod>(&key(pod.name()), |pod| {
            pod["status"] = json!({"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:30Z"}]});
        });
    }
    panic!("no end after {STEPS_MAX} steps:\n{}", world.log);
}

fn calls(world: &World) -> String {
    let lines = world.log.lines().filter(|line| line.starts_with("create") || line.starts_with("delete"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn stateful(policy: &str) -> World {
    let mut world = World::default();
    world.put::<StatefulSet>(json!({
        "metadata": {"name": "ss", "namespace": "default"},
        "spec": {"serviceName": "ss", "replicas": 2, "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "x"}}, "template": template("v1"),
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}},
    }));
    world
}

#[test]
fn a_stateful_set_goes_up_and_down_in_order() {
    let mut world = stateful("OrderedReady");
    settle(&mut world, |_| None);
    expect![[r"
        create controllerrevisions.apps default/ss-5c67c49c94
        create persistentvolumeclaims default/data-ss-0
        create pods default/ss-0
        create persistentvolumeclaims default/data-ss-1
        create pods default/ss-1
    "]]
    .assert_eq(&calls(&world));
    let status = world.get::<StatefulSet>(&key("ss")).and_then(|set| set.status.clone()).expect("status");
    assert_eq!((status.ready_replicas, status.updated_replicas), (Some(2), Some(2)));
    assert_eq!(status.current_revision, status.update_revision);
    world.log.clear();
    let first = status.current_revision;
    world.edit_spec::<StatefulSet>(&key("ss"), |spec| spec["template"] = template("v2"));
    settle(&mut world, |_| None);
    let order = calls(&world).replace("controllerrevisions.apps", "revision");
    let pods: Vec<&str> = order.lines().filter(|line| line.contains(" pods ")).collect();
    assert_eq!(
        pods,
        [
            "delete pods default/ss-1",
            "create pods default/ss-1",
            "delete pods default/ss-0",
            "create pods default/ss-0"
        ]
    );
    world.edit_spec::<StatefulSet>(&key("ss"), |spec| spec["template"] = template("v1"));
    settle(&mut world, |_| None);
    let status = world.get::<StatefulSet>(&key("ss")).and_then(|set| set.status.clone()).expect("status");
    assert_eq!(status.current_revision, first, "an earlier template takes up its revision again");
    world.log.clear();
    world.edit_spec::<StatefulSet>(&key("ss"), |spec| spec["replicas"] = json!(0));
    settle(&mut world, |_| None);
    assert_eq!(calls(&world), "delete pods default/ss-1\ndelete pods default/ss-0\n");
}

#[test]
fn an_ordered_set_waits_for_each_pod_and_a_parallel_one_does_not() {
    let count = |policy: &str| {
        let mut world = stateful(policy);
        while turn(&mut world) {}
        world.list::<Pod>().len()
    };
    assert_eq!((count("OrderedReady"), count("Parallel")), (1, 2));
}

#[test]
fn a_daemon_set_follows_nodes_and_templates() {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.put::<Node>(json!({"metadata": {"name": name}}));
    }
    world.put::<Node>(json!({"metadata": {"name": "c"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    world.put::<DaemonSet>(json!({
        "metadata": {"name": "ds", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template("v1"), "revisionHistoryLimit": 1},
    }));
    settle(&mut world, |_| None);
    let status = world.get::<DaemonSet>(&key("ds")).and_then(|set| set.status.clone()).expect("status");
    assert_eq!((status.desired_number_scheduled, status.number_ready), (2, 2));
    world.log.clear();
    world.edit_spec::<DaemonSet>(&key("ds"), |spec| spec["template"] = template("v2"));
    settle(&mut world, |_| None);
    let kinds: Vec<&str> = world
        .log
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|word| *word == "create" || *word == "delete")
        .collect();
    assert_eq!(kinds, ["create", "delete", "create", "delete", "create"], "{}", world.log);
    let status = world.get::<DaemonSet>(&key("ds")).and_then(|set| set.status.clone()).expect("status");
    assert_eq!((status.updated_number_scheduled, status.number_available), (Some(2), Some(2)));
}

fn job_world(spec: &Value) -> World {
    let mut world = World::default();
    let mut full = json!({
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    });
    world::merge(&mut full, spec);
    world.put::<Job>(json!({"metadata": {"name": "j", "namespace": "default"}, "spec": full}));
    world
}

fn job_summary(world: &World) -> String {
    let status = world.get::<Job>(&key("j")).and_then(|job| job.status.clone()).expect("status");
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|own| {
            format!(
                "{} {}: {}",
                own.type_,
                own.reason.clone().unwrap_or_default(),
                own.message.clone().unwrap_or_default()
            )
        })
        .collect();
    format!(
        "succeeded {:?} failed {:?} active {:?} completed {:?} failed indexes {:?}\n{}\n",
        status.succeeded,
        status.failed,
        status.active,
        status.completed_indexes,
        status.failed_indexes,
        conditions.join("\n")
    )
}

#[test]
fn a_job_counts_each_success_once() {
    let mut world = job_world(&json!({"completions": 3, "parallelism": 2}));
    settle(&mut world, |_| Some("Succeeded"));
    expect![[r"
        succeeded Some(3) failed None active None completed None failed indexes None
        SuccessCriteriaMet CompletionsReached: Reached expected number of succeeded pods
        Complete CompletionsReached: Reached expected number of succeeded pods
    "]]
    .assert_eq(&job_summary(&world));
}

#[test]
fn a_job_gives_up_at_its_limit() {
    let mut world = job_world(&json!({"completions": 1, "parallelism": 1, "backoffLimit": 0}));
    settle(&mut world, |_| Some("Failed"));
    expect![[r"
        succeeded None failed Some(1) active None completed None failed indexes None
        FailureTarget BackoffLimitExceeded: Job has reached the specified backoff limit
        Failed BackoffLimitExceeded: Job has reached the specified backoff limit
    "]]
    .assert_eq(&job_summary(&world));
}

#[test]
fn an_indexed_job_knows_its_indexes() {
    let index = |pod: &Pod| pod.annotation("batch.kubernetes.io/job-completion-index").map(str::to_owned);
    let mut world = job_world(&json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0}));
    settle(&mut world, |pod| Some(if index(pod).as_deref() == Some("1") { "Failed" } else { "Succeeded" }));
    expect![[r#"
        succeeded Some(3) failed Some(1) active None completed Some("0,2,3") failed indexes Some("1")
        FailureTarget FailedIndexes: Job has failed indexes
        Failed FailedIndexes: Job has failed indexes
    "#]]
    .assert_eq(&job_summary(&world));
    let mut world = job_world(&json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}));
    settle(&mut world, |pod| (index(pod).as_deref() == Some("0")).then_some("Succeeded"));
    expect![[r#"
        succeeded Some(1) failed None active None completed Some("0") failed indexes None
        SuccessCriteriaMet SuccessPolicy: Matched rules at index 0
        Complete SuccessPolicy: Matched rules at index 0
    "#]]
    .assert_eq(&job_summary(&world));
}
