//! What the node decides by itself: who is taken, and who may use how much.

use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

/// Pods that are bound by hand meet nobody but the kubelet.
pub fn bound_by_hand(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    let pod = |name: &str, spec: &str| {
        kubectl.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
{spec}
"
        ));
    };
    let container =
        |more: &str| format!("  containers: [{{name: main, image: {image}, command: [sleep, '3600']{more}}}]");
    pod("elsewhere", &format!("  nodeSelector: {{disk: none-such}}\n{}", container("")));
    pod("huge", &container(", resources: {requests: {cpu: 1000}}"));
    pod("fat", &container(", resources: {requests: {memory: 1000Ti}}"));
    pod("port-a", &container(", ports: [{containerPort: 80, hostPort: 18080}]"));
    kubectl.wait("pod/port-a", ".status.phase", "Running", SOON);
    pod("port-b", &container(", ports: [{containerPort: 80, hostPort: 18080}]"));
    pod("windows", &format!("  os: {{name: windows}}\n{}", container("")));
    let unsafe_sysctl = "  securityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}";
    pod("unsafe", &format!("{unsafe_sysctl}\n{}", container("")));
    for (name, reason, message) in [
        (
            "elsewhere",
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        ("huge", "OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000000, used: "),
        ("fat", "OutOfmemory", "Node didn't have enough resource: memory, requested: 1099511627776000, used: "),
        (
            "port-b",
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ),
        ("windows", "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
        ("unsafe", "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
    ] {
        let pod = format!("pod/{name}");
        kubectl.wait(&pod, ".status.phase", "Failed", SOON);
        assert_eq!(kubectl.value(&pod, ".status.reason"), reason);
        let shown = kubectl.value(&pod, ".status.message");
        assert!(shown.starts_with(&format!("Pod was rejected: {message}")), "{shown}");
        wait_for("the event", SOON, || {
            let selector = format!("--field-selector=involvedObject.name={name},reason={reason}");
            kubectl.ok(&["get", "events", &selector]).contains(message).then_some(())
        });
    }
    let _ = kubectl.ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

/// Resources change while the container runs; what does not fit waits.
pub fn resized_in_place(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: stretch}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    command: [sleep, '3600']
    resources: {{requests: {{cpu: 10m, memory: 20Mi}}, limits: {{cpu: 200m, memory: 64Mi}}}}
  - name: fresh
    image: {image}
    command: [sleep, '3600']
    resizePolicy: [{{resourceName: memory, restartPolicy: RestartContainer}}]
    resources: {{limits: {{cpu: 100m, memory: 32Mi}}}}
"
    ));
    kubectl.wait("pod/stretch", ".status.phase", "Running", SOON);
    let resize = |patch: &str| {
        let _ = kubectl.ok(&["patch", "pod", "stretch", "--subresource=resize", "-p", patch]);
    };
    let resources =
        |which: usize| kubectl.value("pod/stretch", &format!(".status.containerStatuses[{which}].resources"));
    resize(
        r#"{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"20m"},"limits":{"cpu":"300m","memory":"96Mi"}}}]}}"#,
    );
    wait_for("the new limits", SOON, || {
        let shown = resources(1);
        (shown.contains("\"300m\"") && shown.contains("\"96Mi\"")).then_some(())
    });
    let limit = kubectl.ok(&[
        "exec",
        "stretch",
        "-c",
        "main",
        "--",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true",
    ]);
    assert_eq!(limit.trim(), (96 << 20).to_string());
    assert_eq!(kubectl.value("pod/stretch", ".status.containerStatuses[1].restartCount"), "0");
    assert_eq!(kubectl.value("pod/stretch", ".status.containerStatuses[1].allocatedResources.cpu"), "20m");
    let condition =
        |kind: &str| kubectl.value("pod/stretch", &format!(".status.conditions[?(@.type==\"{kind}\")].reason"));
    wait_for("the end of the resize", SOON, || {
        let all = kubectl.value("pod/stretch", ".status.conditions[*].type");
        (!all.contains("PodResize")).then_some(())
    });
    resize(r#"{"spec":{"containers":[{"name":"fresh","resources":{"limits":{"memory":"48Mi"}}}]}}"#);
    kubectl.wait("pod/stretch", ".status.containerStatuses[0].restartCount", "1", SOON);
    wait_for("the memory of the new container", SOON, || resources(0).contains("\"48Mi\"").then_some(()));
    // Another pod has the room, until it goes.
    let memory = kubectl.value("node/node-1", ".status.allocatable.memory");
    let memory: u64 = memory.trim_end_matches("Ki").parse().expect("a number of kibibytes");
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: hog}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {image}, command: [sleep, '3600'], resources: {{requests: {{memory: {}Ki}}}}}}
",
        memory / 10 * 6
    ));
    kubectl.wait("pod/hog", ".status.phase", "Running", SOON);
    let half = format!("{}Ki", memory / 2);
    resize(&format!(
        r#"{{"spec":{{"containers":[{{"name":"main","resources":{{"requests":{{"memory":"{half}"}},"limits":{{"memory":"{half}"}}}}}}]}}}}"#
    ));
    wait_for("a deferred resize", SOON, || (condition("PodResizePending") == "Deferred").then_some(()));
    assert_eq!(kubectl.value("pod/stretch", ".status.containerStatuses[1].allocatedResources.memory"), "20Mi");
    let _ = kubectl.ok(&["delete", "pod", "hog"]);
    kubectl.wait("pod/stretch", ".status.containerStatuses[1].allocatedResources.memory", &half, SOON);
    wait_for("the end of waiting", SOON, || condition("PodResizePending").is_empty().then_some(()));
    let events = wait_for("events", Duration::from_secs(30), || {
        let events = kubectl.ok(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
        ["ResizeStarted", "ResizeCompleted", "ResizeDeferred"].iter().all(|one| events.contains(one)).then_some(events)
    });
    assert!(!events.contains("ResizeError"), "{events}");
    let _ = kubectl.ok(&["delete", "pod", "stretch"]);
}
