//! A cluster in an emulated guest: what the kernel of the host cannot do.
//!
//! The guest has cgroup v2 alone, with every controller, and no limits of rights: pods are run, limited, killed for want
//! of memory, resized and removed there by the real binary. Stock kubectl talks to it from this host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use coracle_guest::{File, Guest, Options};
use coracle_testkit::{Kubectl, busybox_files, wait_for, write_layout};

/// The guest is interpreted, and may share its processors with a compiler.
const SOON: Duration = Duration::from_secs(120);
const PORT: u16 = 6443;
const IMAGE: &str = "localhost/busybox:1.0";

/// A cluster in a guest.
struct World {
    guest: Guest,
    kubectl: Kubectl,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("temp");
        let layout = folder.path().join("busybox");
        write_layout(&layout, IMAGE, &busybox_files().expect("busybox")).expect("layout");
        let file = |source: PathBuf, target: &str| File { source, target: target.to_owned() };
        let options = Options {
            files: vec![file(stripped_binary(folder.path()), "/bin/coracle"), file(layout, "/busybox")],
            ports: vec![PORT],
            ..Options::default()
        };
        let guest = Guest::start(&options).expect("a guest");
        guest.ok(
            "coracle up --listen 0.0.0.0:6443 --node-name guest --kubeconfig /root/kubeconfig --log info >/run/up.log 2>&1 &\n\
             echo $! >/run/up.pid\n\
             until grep -q 'Ready after' /run/up.log; do kill -0 $! || { cat /run/up.log; exit 1; }; sleep 0.1; done\n\
             coracle image load /busybox",
            SOON,
        )
        .expect("the cluster starts");
        let text = guest.ok("cat /root/kubeconfig", SOON).expect("kubeconfig");
        let port = guest.port(PORT).expect("forwarded");
        let kubeconfig = folder.path().join("kubeconfig");
        let lines = text.lines().map(|line| match line.split_once("server:") {
            Some((before, _)) => format!("{before}server: https://127.0.0.1:{port}"),
            None => line.to_owned(),
        });
        std::fs::write(&kubeconfig, lines.collect::<Vec<_>>().join("\n")).expect("kubeconfig");
        let kubectl = Kubectl { kubeconfig, namespace: "default".to_owned() };
        wait_for("the default service account", SOON, || {
            (!kubectl.value("serviceaccount/default", ".metadata.uid").is_empty()).then_some(())
        });
        Self { guest, kubectl, _folder: folder }
    }

    /// Output of a script in the guest.
    fn ok(&self, script: &str) -> String {
        match self.guest.ok(script, SOON) {
            Ok(text) => text.trim_end().to_owned(),
            Err(error) => panic!("{error:#}\n{}", self.log()),
        }
    }

    /// The folder of a pod's control group.
    fn cgroup(&self, pod: &str) -> String {
        let uid = self.kubectl.value(&format!("pod/{pod}"), ".metadata.uid");
        self.ok(&format!("find /sys/fs/cgroup/coracle -type d -name pod{uid}"))
    }

    /// Files of the pod's group or, with `*/` in front, of its container's.
    fn cgroup_file(&self, pod: &str, file: &str) -> String {
        self.ok(&format!("cat {}/{file}", self.cgroup(pod)))
    }

    fn in_container(&self, pod: &str, script: &str) -> String {
        self.kubectl.ok(&["exec", pod, "--", "sh", "-c", script]).trim_end().to_owned()
    }

    fn log(&self) -> String {
        let log = self.guest.run("tail -n 80 /run/up.log; dmesg | tail -n 30", SOON);
        log.map(|outcome| outcome.text).unwrap_or_default()
    }
}

/// Without debug information the binary is half as large.
fn stripped_binary(folder: &Path) -> PathBuf {
    let target = folder.join("coracle");
    let binary = env!("CARGO_BIN_EXE_coracle");
    let status = Command::new("strip").arg("-o").arg(&target).arg(binary).status().expect("strip: run scripts/setup");
    assert!(status.success(), "strip {binary}");
    target
}

/// A pod of one container with `command` and `resources` (in JSON).
fn pod(name: &str, command: &str, resources: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, '{command}']
    resources: {resources}
---
"
    )
}

const SLEEP: &str = "exec sleep 100000";

#[test]
fn pods_are_limited_by_cgroup_v2() {
    let world = World::start();
    let memory = r#"{"limits": {"memory": "24Mi"}}"#;
    let guaranteed = r#"{"limits": {"cpu": "200m", "memory": "64Mi"}}"#;
    world.kubectl.apply(
        &[
            pod("oom", "exec tail /dev/zero", memory),
            pod("oom-child", "tail /dev/zero & sleep 100000", memory),
            pod("guaranteed", SLEEP, guaranteed),
            pod("busy", "while :; do :; done", r#"{"limits": {"cpu": "50m"}}"#),
            pod("burstable", SLEEP, r#"{"requests": {"cpu": "500m", "memory": "100Mi"}}"#),
            pod("besteffort", "trap : TERM; (setsid sleep 100000 &); while :; do sleep 1; done", "{}"),
        ]
        .concat(),
    );
    for pod in ["guaranteed", "busy", "burstable", "besteffort"] {
        world.kubectl.wait(&format!("pod/{pod}"), ".status.phase", "Running", SOON);
    }
    killed_for_want_of_memory(&world);
    limits_are_in_force(&world);
    scores_and_weights(&world);
    resized_in_place(&world);
    nothing_is_left_of_a_pod(&world);
    nothing_is_left_of_the_cluster(&world);
}

/// A container is killed as a whole, whichever of its processes asked for too much.
fn killed_for_want_of_memory(world: &World) {
    for pod in ["oom", "oom-child"] {
        let object = format!("pod/{pod}");
        world.kubectl.wait(&object, ".status.phase", "Failed", SOON);
        let state = world.kubectl.value(&object, ".status.containerStatuses[0].state.terminated");
        assert!(state.contains(r#""reason":"OOMKilled""#) && state.contains(r#""exitCode":137"#), "{pod}: {state}");
    }
}

fn limits_are_in_force(world: &World) {
    let container = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.oom.group";
    assert_eq!(world.in_container("guaranteed", container), "20000 100000\n67108864\n1");
    assert_eq!(world.cgroup_file("guaranteed", "cpu.max"), "20000 100000");
    assert_eq!(world.cgroup_file("guaranteed", "memory.max"), "67108864");
    assert_eq!(
        world.in_container("guaranteed", "cat /sys/fs/cgroup/cgroup.controllers | tr \" \" \"\\n\" | grep -c ."),
        "6"
    );
    // A container sees its own group alone, and cannot write its limits.
    let refused = world.in_container("guaranteed", "echo max > /sys/fs/cgroup/memory.max || echo refused");
    assert!(refused.ends_with("refused"), "{refused}");
    let throttled = wait_for("throttling", SOON, || {
        let text = world.cgroup_file("busy", "cpu.stat");
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.parse::<u64>().ok()?;
        (count > 3).then_some(count)
    });
    println!("throttled {throttled} times");
    wait_for("usage in the node's summary", SOON, || {
        let text = world.kubectl.ok(&["get", "--raw", "/api/v1/nodes/guest/proxy/stats/summary"]);
        let summary: serde_json::Value = serde_json::from_str(&text).ok()?;
        let busy = summary["pods"].as_array()?.iter().find(|pod| pod["podRef"]["name"] == "busy")?.clone();
        let used = |path: &str| busy["containers"][0].pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
        (used("/cpu/usageCoreNanoSeconds") > 0 && used("/memory/workingSetBytes") > 0).then_some(())
    });
}

/// Source: kubelet `qos` policy and `MilliCPUToShares`, KEP-2254 for weights.
fn scores_and_weights(world: &World) {
    let score = "cat /proc/1/oom_score_adj";
    assert_eq!(world.in_container("guaranteed", score), "-997");
    assert_eq!(world.in_container("besteffort", score), "1000");
    // What runs the pods goes last.
    let own = "for pid in $(cat /run/up.pid) $(cat /sys/fs/cgroup/coracle/shims/cgroup.procs | head -n 1)\n\
               do cat /proc/$pid/oom_score_adj; done";
    assert_eq!(world.ok(own), "-999\n-998");
    let burstable: i32 = world.in_container("burstable", score).parse().expect("a number");
    assert!((2..1000).contains(&burstable), "{burstable}");
    assert_eq!(world.cgroup_file("burstable", "cpu.weight"), "59");
    assert_eq!(world.cgroup_file("besteffort", "cpu.weight"), "1");
    // The classes share what the node has by what their pods ask for.
    wait_for("the weights of the classes", SOON, || {
        let text = world.ok("cd /sys/fs/cgroup/coracle; cat besteffort/cpu.weight burstable/cpu.weight");
        (text == "1\n63").then_some(())
    });
    let open_files: u64 = world.in_container("guaranteed", "ulimit -Hn").parse().expect("a number");
    assert!(open_files >= 524_288, "{open_files}");
}

fn resized_in_place(world: &World) {
    let resize = |cpu: &str, memory: &str| {
        let limits = format!(r#"{{"cpu":"{cpu}","memory":"{memory}"}}"#);
        let patch = format!(
            r#"{{"spec":{{"containers":[{{"name":"main","resources":{{"requests":{limits},"limits":{limits}}}}}]}}}}"#
        );
        let _ = world.kubectl.ok(&["patch", "pod", "guaranteed", "--subresource", "resize", "--patch", &patch]);
        let status = ".status.containerStatuses[0].resources.limits";
        world.kubectl.wait("pod/guaranteed", &format!("{status}.cpu"), cpu, SOON);
        world.kubectl.wait("pod/guaranteed", &format!("{status}.memory"), memory, SOON);
    };
    let read = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.weight";
    resize("400m", "96Mi");
    assert_eq!(world.in_container("guaranteed", read), "40000 100000\n100663296\n49");
    assert_eq!(world.cgroup_file("guaranteed", "memory.max"), "100663296");
    resize("300m", "48Mi");
    assert_eq!(world.in_container("guaranteed", read), "30000 100000\n50331648\n40");
    assert_eq!(world.cgroup_file("guaranteed", "memory.max"), "50331648");
    assert_eq!(world.cgroup_file("guaranteed", "cpu.max"), "30000 100000");
    assert_eq!(world.kubectl.value("pod/guaranteed", ".status.containerStatuses[0].restartCount"), "0");
}

/// A process that left its parent and its session is still of the pod.
fn nothing_is_left_of_a_pod(world: &World) {
    let group = world.cgroup("besteffort");
    assert_eq!(world.ok(&format!("cat {group}/*/cgroup.procs | wc -l")), "3");
    let _ = world.kubectl.ok(&["delete", "pod", "besteffort", "--timeout=120s"]);
    wait_for("the end of the pod's control group", SOON, || {
        world.guest.run(&format!("test ! -e {group}"), SOON).ok().filter(|outcome| outcome.code == 0)
    });
}

fn nothing_is_left_of_the_cluster(world: &World) {
    let _ = world.ok("pid=$(cat /run/up.pid)\nkill -INT $pid\nwhile kill -0 $pid 2>/dev/null; do sleep 0.1; done");
    let text = world.ok("coracle reset --yes");
    assert!(text.starts_with("Removed the cluster"), "{text}");
    let left = world.ok("find /sys/fs/cgroup -name '*coracle*'\n\
         find /run/netns /var/lib/coracle 2>/dev/null | grep coracle || true\n\
         grep coracle /proc/mounts || true\n\
         ps | grep '[c]oracle' || true");
    assert_eq!(left, "");
}
