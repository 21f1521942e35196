//! Deployments and replica sets played through until nothing is left to do.

mod world;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_plan_controllers::{deployment, replicaset};
use expect_test::expect;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use world::World;

const STEPS_MAX: usize = 200;

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().expect("time")
}

fn key() -> ObjectKey {
    ObjectKey::new("default", "web")
}

/// Readies pods whose image is good, all at once, when `deciders` have nothing to do.
fn settle(world: &mut World) {
    for _ in 0..STEPS_MAX {
        let mut busy = false;
        if let Some(deployment) = world.get::<Deployment>(&key()) {
            let (sets, pods) = (world.list::<ReplicaSet>(), world.list::<Pod>());
            let view = deployment::View { deployment: &deployment, sets: &sets, pods: &pods, failure: None };
            busy |= world.carry_out(&deployment::plan(&view, now()));
        }
        for set in world.list::<ReplicaSet>() {
            let pods = world.list::<Pod>();
            busy |= world.carry_out(&replicaset::plan(&replicaset::View::of(&set, &pods, None), now()));
        }
        if !busy && !ready_one(world) {
            return;
        }
    }
    panic!("no end after {STEPS_MAX} steps:\n{}", world.log);
}

fn ready_one(world: &mut World) -> bool {
    let waiting = world.list::<Pod>().into_iter().find(|pod| {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
        image.as_deref() != Some("bad") && !coracle_plan_core::pod::is_ready(pod)
    });
    let Some(pod) = waiting else { return false };
    world.edit::<Pod>(&ObjectKey::new("default", pod.name()), |pod| {
        pod["status"] = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"}]});
    });
    true
}

fn deployment(replicas: i32, strategy: &serde_json::Value) -> World {
    let mut world = World::default();
    world.put::<Deployment>(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
            "strategy": strategy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    }));
    world
}

fn set_image(world: &mut World, image: &str) {
    world.edit_spec::<Deployment>(&key(), |spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
}

/// Replica sets with sizes and revisions, and the deployment's conditions.
fn summary(world: &World) -> String {
    let mut text = String::new();
    let mut sets = world.list::<ReplicaSet>();
    sets.sort_by_key(|set| set.annotation(deployment::REVISION).map(str::to_owned));
    for set in sets {
        let image =
            set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.spec.as_ref()?.containers[0].image.clone());
        let size = set.spec.as_ref().and_then(|spec| spec.replicas);
        let revision = set.annotation(deployment::REVISION).unwrap_or_default();
        text.push_str(&format!(
            "set of {} size {} revision {revision}\n",
            image.unwrap_or_default(),
            size.unwrap_or(-1)
        ));
    }
    let deployment = world.get::<Deployment>(&key()).expect("deployment");
    let status = deployment.status.clone().unwrap_or_default();
    text.push_str(&format!(
        "replicas {:?} updated {:?} ready {:?} available {:?} unavailable {:?}\n",
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.unavailable_replicas
    ));
    for condition in status.conditions.iter().flatten() {
        let reason = condition.reason.as_deref().unwrap_or_default();
        text.push_str(&format!("{}={} {reason}\n", condition.type_, condition.status));
    }
    text
}

fn sizes(world: &World) -> String {
    let lines = world.log.lines().filter(|line| line.contains("ScalingReplicaSet"));
    lines.map(|line| line.trim().replace(|c: char| c.is_ascii_whitespace(), " ") + "\n").collect()
}

fn without_hashes(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.starts_with("web-") { "web-*" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_rolling_update_keeps_within_its_bounds_and_can_be_undone() {
    let mut world =
        deployment(4, &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}));
    settle(&mut world);
    expect![[r#"
        set of v1 size 4 revision 1
        replicas Some(4) updated Some(4) ready Some(4) available Some(4) unavailable None
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
    "#]]
    .assert_eq(&summary(&world));
    world.log.clear();
    set_image(&mut world, "v2");
    settle(&mut world);
    expect![[r"
        set of v1 size 0 revision 1
        set of v2 size 4 revision 2
        replicas Some(4) updated Some(4) ready Some(4) available Some(4) unavailable None
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
    "]]
    .assert_eq(&summary(&world));
    expect![[r"
        ScalingReplicaSet: Scaled up replica set web-* from 0 to 1
        ScalingReplicaSet: Scaled down replica set web-* from 4 to 3
        ScalingReplicaSet: Scaled up replica set web-* from 1 to 2
        ScalingReplicaSet: Scaled down replica set web-* from 3 to 2
        ScalingReplicaSet: Scaled up replica set web-* from 2 to 3
        ScalingReplicaSet: Scaled down replica set web-* from 2 to 1
        ScalingReplicaSet: Scaled up replica set web-* from 3 to 4
        ScalingReplicaSet: Scaled down replica set web-* from 1 to 0
    "]]
    .assert_eq(&without_hashes(&sizes(&world)));
    set_image(&mut world, "v1");
    settle(&mut world);
    set_image(&mut world, "v3");
    settle(&mut world);
    expect![[r"
        set of v1 size 0 revision 3
        set of v3 size 4 revision 4
        replicas Some(4) updated Some(4) ready Some(4) available Some(4) unavailable None
        Available=True MinimumReplicasAvailable
        Progressing=True NewReplicaSetAvailable
    "]]
    .assert_eq(&summary(&world));
}

#[test]
fn a_bad_image_stops_the_rollout_and_scaling_is_in_proportion() {
    let mut world =
        deployment(10, &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}));
    settle(&mut world);
    set_image(&mut world, "bad");
    settle(&mut world);
    expect![[r"
        set of v1 size 8 revision 1
        set of bad size 5 revision 2
        replicas Some(13) updated Some(5) ready Some(8) available Some(8) unavailable Some(5)
        Available=True MinimumReplicasAvailable
        Progressing=True ReplicaSetUpdated
    "]]
    .assert_eq(&summary(&world));
    world.edit_spec::<Deployment>(&key(), |spec| spec["replicas"] = json!(30));
    settle(&mut world);
    assert!(
        summary(&world).starts_with("set of v1 size 20 revision 1\nset of bad size 13 revision 2\n"),
        "{}",
        summary(&world)
    );
}

#[test]
fn recreate_ends_all_old_pods_first() {
    let mut world = deployment(2, &json!({"type": "Recreate"}));
    settle(&mut world);
    world.log.clear();
    set_image(&mut world, "v2");
    settle(&mut world);
    expect![[r"
        ScalingReplicaSet: Scaled down replica set web-* from 2 to 0
        ScalingReplicaSet: Scaled up replica set web-* from 0 to 2
    "]]
    .assert_eq(&without_hashes(&sizes(&world)));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = deployment(2, &json!({"type": "RollingUpdate"}));
    settle(&mut world);
    world.edit_spec::<Deployment>(&key(), |spec| spec["paused"] = json!(true));
    set_image(&mut world, "v2");
    world.edit_spec::<Deployment>(&key(), |spec| spec["replicas"] = json!(3));
    settle(&mut world);
    expect![[r#"
        set of v1 size 3 revision 1
        replicas Some(3) updated None ready Some(3) available Some(3) unavailable None
        Progressing=Unknown DeploymentPaused
        Available=True MinimumReplicasAvailable
    "#]]
    .assert_eq(&summary(&world));
}

#[test]
fn a_replica_set_adopts_and_releases() {
    let mut world = World::default();
    let pod = |name: &str, app: &str, owner: Option<&str>| {
        let owners = owner.map(|uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}]));
        json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}, "ownerReferences": owners}, "spec": {"containers": []}})
    };
    world.put::<ReplicaSet>(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "own"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
    }));
    world.put::<Pod>(pod("orphan", "web", None));
    world.put::<Pod>(pod("renamed", "other", Some("own")));
    world.put::<Pod>(pod("foreign", "web", Some("else")));
    let set = world.get::<ReplicaSet>(&key()).expect("set");
    let plan = replicaset::plan(&replicaset::View::of(&set, &world.list::<Pod>(), None), now());
    world.carry_out(&plan);
    expect![[r#"
        patch pods default/orphan  {"metadata":{"uid":"orphan","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"own"}]}}
        patch pods default/renamed  {"metadata":{"uid":"renamed","ownerReferences":[{"$patch":"delete","uid":"own"}]}}
        create pods default/web-*
        status of web
    "#]]
    .assert_eq(&world.log);
}

#[test]
fn a_failed_create_is_told_and_taken_back() {
    let mut world = World::default();
    world.put::<ReplicaSet>(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
    }));
    let set = world.get::<ReplicaSet>(&key()).expect("set");
    let view = replicaset::View::of(&set, &[], Some("pods is forbidden: exceeded quota".to_owned()));
    expect![[r#"
        update replicasets.apps default/web status {"conditions":[{"lastTransitionTime":"2026-01-01T00:01:00Z","message":"pods is forbidden: exceeded quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}],"observedGeneration":1,"replicas":0,"terminatingReplicas":0}
        create pods default/web-*
        because create 1 pods: 1 are wanted and 0 are active
    "#]]
    .assert_eq(&replicaset::plan(&view, now()).to_string());
}
