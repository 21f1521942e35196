//! The life of pods, written down: what is planned and reported at each moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use coracle_api_types::Object;
use coracle_cri::{ContainerState, ContainerStatus, PodSandboxStatus};
use coracle_plan_pods::{
    Backoff, NodeFacts, Plan, ProbeKind, Probes, Resize, RuntimePod, View, Waiting, plan, pod_status,
};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

/// A runtime that does what plans say, at once.
struct World {
    pod: Pod,
    runtime: RuntimePod,
    probes: Probes,
    waiting: BTreeMap<String, Waiting>,
    backoff: Backoff,
    resize: Resize,
    node: NodeFacts,
    status: PodStatus,
    second: i64,
    log: String,
}

impl World {
    fn new(spec: &str) -> Self {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#
        );
        Self {
            pod: Pod::from_slice(text.as_bytes()).expect("pod"),
            runtime: RuntimePod::default(),
            probes: Probes::default(),
            waiting: BTreeMap::new(),
            backoff: Backoff::default(),
            resize: Resize::default(),
            node: NodeFacts { runtime_name: "coracle".into(), memory_capacity: 1 << 30, ..NodeFacts::default() },
            status: PodStatus::default(),
            second: 0,
            log: String::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.second).expect("time")
    }

    fn view(&self) -> View<'_> {
        View {
            pod: &self.pod,
            runtime: &self.runtime,
            probes: &self.probes,
            waiting: &self.waiting,
            backoff: &self.backoff,
            resize: &self.resize,
            node: &self.node,
            now: self.now(),
        }
    }

    /// Plans, carries out, and writes down, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10 {
            let next = plan(&self.view());
            self.tell(&next);
            let idle = next.is_idle();
            self.carry_out(&next);
            if idle || next.kill_pod {
                break;
            }
        }
        self.status = pod_status(&self.view(), &self.status, false, None);
        let states: Vec<String> = [&self.status.init_container_statuses, &self.status.container_statuses]
            .into_iter()
            .flat_map(|list| list.as_deref().unwrap_or_default())
            .map(|status| {
                let state = status.state.clone().unwrap_or_default();
                let shown = match (&state.running, &state.terminated, &state.waiting) {
                    (Some(_), ..) => if status.ready { "ready" } else { "running" }.to_owned(),
                    (_, Some(end), _) => format!("exit {}", end.exit_code),
                    (_, _, Some(waiting)) => waiting.reason.clone().unwrap_or_default(),
                    _ => String::new(),
                };
                format!("{} {shown} x{}", status.name, status.restart_count)
            })
            .collect();
        let phase = self.status.phase.clone().unwrap_or_default();
        writeln!(self.log, "{}s {phase}: {}", self.second, states.join(", ")).expect("write");
    }

    fn tell(&mut self, next: &Plan) {
        let mut line = |text: String| writeln!(self.log, "  {text}").expect("write");
        if next.kill_pod {
            line("kill the pod".into());
        }
        for kill in &next.kill {
            line(format!("kill {}: {}", kill.name, kill.message));
        }
        if let Some(attempt) = next.create_sandbox {
            line(format!("make sandbox {attempt}"));
        }
        for start in &next.start {
            match &start.hold {
                None => line(format!("start {} #{}", start.name, start.attempt)),
                Some((until, message)) => line(format!("hold {} until {}s: {message}", start.name, until.as_second())),
            }
        }
    }

    fn carry_out(&mut self, next: &Plan) {
        if next.kill_pod {
            let names: Vec<String> = self.runtime.containers.iter().map(|one| one.metadata.name.clone()).collect();
            names.iter().for_each(|name| self.exit(name, 137));
            self.runtime.sandboxes.iter_mut().for_each(|one| one.state = coracle_cri::SandboxState::NotReady);
        }
        for kill in &next.kill {
            self.exit(&kill.name, 137);
        }
        if let Some(attempt) = next.create_sandbox {
            self.runtime.sandboxes.push(sandbox(attempt));
        }
        for start in &next.start {
            if start.hold.is_some() {
                let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: String::new() };
                self.waiting.insert(start.name.clone(), waiting);
                continue;
            }
            if let Some(ended) = start.ended {
                let now = self.now();
                self.backoff.raise(&start.backoff_key, ended, now);
            }
            self.waiting.remove(&start.name);
            let status = container(&start.name, start.attempt, self.second);
            self.runtime.containers.push(status);
        }
        self.runtime.sort();
    }

    fn exit(&mut self, name: &str, code: i32) {
        let second = self.second;
        let running = |one: &&mut ContainerStatus| one.metadata.name == name && one.state == ContainerState::Running;
        if let Some(status) = self.runtime.containers.iter_mut().find(running) {
            status.state = ContainerState::Exited;
            status.exit_code = code;
            status.finished_at = second * 1_000_000_000;
        }
    }

    fn probe(&mut self, name: &str, kind: ProbeKind, success: bool) {
        let id = self.runtime.latest(name).expect("container").id.clone();
        self.probes.set(&id, kind, success);
    }

    fn check(&self, want: Expect) {
        want.assert_eq(&self.log);
    }
}

fn sandbox(attempt: u32) -> PodSandboxStatus {
    serde_json::from_value(json!({
        "id": format!("s{attempt}"), "state": "Ready", "created_at": attempt, "ips": ["10.0.0.2"],
        "metadata": {"name": "p", "uid": "u", "namespace": "n", "attempt": attempt},
        "labels": {}, "annotations": {}, "runtime_handler": "",
        "namespaces": coracle_cri::NamespaceOptions::default(),
    }))
    .expect("sandbox")
}

fn container(name: &str, attempt: u32, second: i64) -> ContainerStatus {
    let nanos = second * 1_000_000_000 + i64::from(attempt) + 1;
    serde_json::from_value(json!({
        "id": format!("{name}{attempt}"), "sandbox_id": "s0", "metadata": {"name": name, "attempt": attempt},
        "state": "Running", "created_at": nanos, "started_at": nanos, "finished_at": 0, "exit_code": 0, "signal": 0,
        "reason": "", "message": "", "image": "i", "image_ref": "i", "image_id": "i", "labels": {}, "annotations": {},
        "mounts": [], "log_path": "", "resources": coracle_cri::LinuxContainerResources::default(), "user": null,
        "stop_signal": "", "pid": 1,
    }))
    .expect("container")
}

#[test]
fn a_crashing_container_waits_longer_each_time() {
    let mut world = World::new(r#"{"containers":[{"name":"a"},{"name":"b"}]}"#);
    world.settle();
    for second in [1, 1, 12, 12, 40] {
        world.second = second;
        world.exit("b", 1);
        world.settle();
    }
    world.check(expect![[r#"
          make sandbox 0
          start a #0
          start b #0
        0s Running: a ready x0, b ready x0
          start b #1
        1s Running: a ready x0, b ready x1
          hold b until 11s: back-off 10s restarting failed container=b pod=p_n(u)
        1s Running: a ready x0, b CrashLoopBackOff x1
          start b #2
        12s Running: a ready x0, b ready x2
          hold b until 32s: back-off 20s restarting failed container=b pod=p_n(u)
        12s Running: a ready x0, b CrashLoopBackOff x2
          start b #3
        40s Running: a ready x0, b ready x3
    "#]]);
}

#[test]
fn init_containers_run_in_order_and_a_failed_one_ends_the_pod() {
    let spec =
        r#"{"restartPolicy":"Never","initContainers":[{"name":"i1"},{"name":"i2"}],"containers":[{"name":"a"}]}"#;
    let mut world = World::new(spec);
    world.settle();
    world.exit("i1", 0);
    world.settle();
    world.exit("i2", 1);
    world.settle();
    world.check(expect![[r#"
          make sandbox 0
          start i1 #0
        0s Pending: i1 running x0, i2 PodInitializing x0, a PodInitializing x0
          start i2 #0
        0s Pending: i1 exit 0 x0, i2 running x0, a PodInitializing x0
          kill the pod
        0s Failed: i1 exit 0 x0, i2 exit 1 x0, a PodInitializing x0
    "#]]);
}

#[test]
fn a_sidecar_is_waited_for_and_does_not_keep_the_pod() {
    let spec = r#"{"restartPolicy":"OnFailure","initContainers":[{"name":"s","restartPolicy":"Always",
        "startupProbe":{"tcpSocket":{"port":1}}},{"name":"i"}],"containers":[{"name":"a"}]}"#;
    let mut world = World::new(spec);
    world.settle();
    world.probe("s", ProbeKind::Startup, true);
    world.settle();
    world.exit("i", 0);
    world.settle();
    world.exit("s", 1);
    world.second = 30;
    world.settle();
    world.probe("s", ProbeKind::Startup, true);
    world.exit("a", 0);
    world.settle();
    world.check(expect![[r#"
          make sandbox 0
          start s #0
        0s Pending: s running x0, i PodInitializing x0, a PodInitializing x0
          start i #0
        0s Pending: s ready x0, i running x0, a PodInitializing x0
          start a #0
        0s Running: s ready x0, i exit 0 x0, a ready x0
          start s #1
        30s Running: s running x1, i exit 0 x0, a ready x0
          kill the pod
        30s Succeeded: s exit 137 x1, i exit 0 x0, a exit 0 x0
    "#]]);
}

#[test]
fn probes_decide_readiness_and_life() {
    let spec = r#"{"containers":[{"name":"a","readinessProbe":{"tcpSocket":{"port":1}},
        "livenessProbe":{"tcpSocket":{"port":1}}}]}"#;
    let mut world = World::new(spec);
    world.settle();
    world.probe("a", ProbeKind::Readiness, true);
    world.settle();
    world.second = 20;
    world.probe("a", ProbeKind::Liveness, false);
    world.settle();
    world.check(expect![[r#"
          make sandbox 0
          start a #0
        0s Running: a running x0
        0s Running: a ready x0
          kill a: Container a failed liveness probe, will be restarted
          start a #1
        20s Running: a running x1
    "#]]);
}

#[test]
fn a_lost_sandbox_is_made_anew() {
    let mut world = World::new(r#"{"containers":[{"name":"a"}]}"#);
    world.settle();
    world.second = 5;
    world.exit("a", 137);
    world.runtime.sandboxes.iter_mut().for_each(|one| one.state = coracle_cri::SandboxState::NotReady);
    world.settle();
    world.check(expect![[r#"
          make sandbox 0
          start a #0
        0s Running: a ready x0
          make sandbox 1
          start a #1
        5s Running: a ready x1
    "#]]);
}

#[test]
fn a_container_can_restart_all_of_them() {
    let spec = r#"{"restartPolicy":"Never","containers":[{"name":"a","restartPolicy":"Never","restartPolicyRules":
        [{"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[42]}}]},{"name":"b"}]}"#;
    let mut world = World::new(spec);
    world.settle();
    world.exit("a", 42);
    let next = plan(&world.view());
    assert_eq!((next.kill.len(), next.remove.as_slice()), (1, &["b0".to_owned(), "a0".to_owned()][..]));
}
