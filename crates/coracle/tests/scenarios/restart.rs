//! Coracle dies or is stopped; the pods do not notice and nothing acknowledged is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

fn start_pod(world: &World, kubectl: &Kubectl) -> String {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: steady}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {}
    command: [sh, -c, 'i=0; while true; do echo tick $i; i=$((i+1)); sleep 1; done']
",
        world.image
    ));
    kubectl.wait("pod/steady", ".status.phase", "Running", SOON);
    kubectl.value("pod/steady", ".status.containerStatuses[0].containerID")
}

fn still_the_same(kubectl: &Kubectl, container: &str) {
    kubectl.wait("pod/steady", ".status.containerStatuses[0].containerID", container, SOON);
    kubectl.wait("pod/steady", ".status.containerStatuses[0].ready", "true", SOON);
    assert_eq!(kubectl.value("pod/steady", ".status.containerStatuses[0].restartCount"), "0");
}

pub fn survives_sigkill(world: &mut World) {
    let kubectl = world.namespace("sigkill");
    let container = start_pod(world, &kubectl);
    let stop = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let name = format!("written-{}", written.len());
                match kubectl.command(&["create", "configmap", &name, "--request-timeout=2s"]).output() {
                    Ok(output) if output.status.success() => written.push(name),
                    _ => break,
                }
            }
            written
        });
        wait_for("some writes", SOON, || {
            kubectl.command(&["get", "cm", "written-5"]).output().ok()?.status.success().then_some(())
        });
        world.cluster.kill().expect("killed");
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends")
    });
    world.cluster.up().expect("it starts again");
    let present = kubectl.ok(&["get", "configmaps", "-o", "name"]);
    for name in &acknowledged {
        assert!(present.lines().any(|line| line == format!("configmap/{name}")), "{name} was acknowledged and is lost");
    }
    still_the_same(&kubectl, &container);
    // Lines that the container wrote meanwhile are in its log.
    let log = kubectl.ok(&["logs", "steady"]);
    let ticks: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    assert!(ticks.iter().zip(0..).all(|(tick, wanted)| *tick == wanted), "{log}");
}

pub fn stops_and_goes_on(world: &mut World) {
    let kubectl = world.cluster.kubectl("sigkill");
    let container = kubectl.value("pod/steady", ".status.containerStatuses[0].containerID");
    world.cluster.interrupt().expect("stopped");
    let second = world.cluster.coracle(&["image", "ls"]).expect("run");
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("is it running?"));
    world.cluster.up().expect("it starts again");
    still_the_same(&kubectl, &container);
    let twice = world.cluster.coracle(&["up", "--listen", "127.0.0.1:0"]).expect("run");
    let text = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(!twice.status.success() && text.contains("is in use by process"), "{text}");
    let missing = world.cluster.coracle(&["image", "rm", "nosuch:1"]).expect("run");
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("is not on this node"));
    // A container that is killed while Coracle runs is restarted, and only then.
    let pid = wait_for("the process", Duration::from_secs(10), || {
        let found = std::process::Command::new("pgrep").args(["-f", "echo tick"]).output().ok()?;
        String::from_utf8_lossy(&found.stdout).lines().next()?.parse::<u32>().ok()
    });
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
    assert!(killed.success());
    kubectl.wait("pod/steady", ".status.containerStatuses[0].restartCount", "1", SOON);
}
