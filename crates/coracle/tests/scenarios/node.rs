//! What the node decides by itself: who is taken, and who may use how much.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use coracle_testkit::{Kubectl, Registry, wait_for};

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

/// What a volume may hold is looked at now and then.
pub fn full_volumes(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: greedy}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: main
    image: {}
    command: [sh, -c, 'dd if=/dev/zero of=/scratch/file bs=1M count=3; sleep 3600']
    volumeMounts: [{{name: scratch, mountPath: /scratch}}]
  volumes: [{{name: scratch, emptyDir: {{sizeLimit: 1Mi}}}}]
",
        world.image
    ));
    kubectl.wait("pod/greedy", ".status.phase", "Failed", SOON);
    assert_eq!(kubectl.value("pod/greedy", ".status.reason"), "Evicted");
    let message = kubectl.value("pod/greedy", ".status.message");
    assert_eq!(message, "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ");
    let _ = kubectl.ok(&["delete", "pod", "greedy"]);
}

/// An image that only some may pull.
pub fn pull_secrets(world: &World, kubectl: &Kubectl) {
    let registry = Registry::start_locked().expect("the registry starts");
    registry.push(&world.cluster.scratch().join("busybox"), "1.0", "locked:1.0").expect("push");
    let image = registry.image("locked:1.0");
    let server = image.split('/').next().unwrap_or_default().to_owned();
    let pod = |name: &str, secret: &str| {
        kubectl.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  imagePullSecrets: [{secret}]
  containers: [{{name: main, image: {image}, imagePullPolicy: Always, command: [sleep, '3600']}}]
"
        ));
    };
    pod("stranger", "");
    wait_for("a refusal", SOON, || {
        let shown = kubectl.value("pod/stranger", ".status.containerStatuses[0].state.waiting.message");
        shown.contains("pull access denied").then_some(())
    });
    let secret = ["create", "secret", "docker-registry", "key", "--docker-username=me", "--docker-password=secret"];
    let _ = kubectl.ok(&[&secret[..], &[&format!("--docker-server={server}")]].concat());
    pod("friend", "{name: key}");
    kubectl.wait("pod/friend", ".status.phase", "Running", SOON);
    let _ = kubectl.ok(&["delete", "pods", "--all"]);
}

/// A terminal that is attached, and the older protocol beside the newer.
pub fn attached(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: shell}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: {}, command: [sh], stdin: true, tty: true}}]
",
        world.image
    ));
    kubectl.wait("pod/shell", ".status.phase", "Running", SOON);
    for websockets in ["true", "false"] {
        let told = format!("said{websockets}");
        let inner = kubectl.command(&["attach", "-it", "shell"]);
        let words: Vec<String> = std::iter::once("kubectl".to_owned())
            .chain(inner.get_args().map(|argument| format!("'{}'", argument.to_string_lossy())))
            .collect();
        let mut child = Command::new("script")
            .args(["-qec", &words.join(" "), "/dev/null"])
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of bsdutils");
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        stdin.write_all(format!("echo ${{X}}{told}\n").as_bytes()).expect("written");
        let mut seen = String::new();
        wait_for("the answer of the shell", SOON, || {
            let mut buffer = [0; 1024];
            let count = stdout.read(&mut buffer).ok()?;
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            seen.lines().any(|line| line.trim() == told).then_some(())
        });
        let _ = child.kill();
        let _ = child.wait();
        let mut command = kubectl.command(&["exec", "-i", "shell", "--", "tr", "a-z", "A-Z"]);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("piped").write_all(b"through").expect("written");
        let output = child.wait_with_output().expect("kubectl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "THROUGH");
    }
    assert_eq!(kubectl.value("pod/shell", ".status.containerStatuses[0].restartCount"), "0");
}

/// Root of the pod is nobody outside.
pub fn own_users(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: apart}}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {}
    command: [sh, -c, 'touch /data/made; cat /proc/self/uid_map; stat -c %u /data/made /etc/hosts; echo end; sleep 3600']
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
",
        world.image
    ));
    kubectl.wait("pod/apart", ".status.phase", "Running", SOON);
    let log = wait_for("the log", SOON, || {
        let log = kubectl.ok(&["logs", "apart"]);
        log.contains("end").then_some(log)
    });
    let words: Vec<&str> = log.split_whitespace().collect();
    assert_eq!((words[0], words[2], &words[3..]), ("0", "65536", &["0", "0", "end"][..]), "{log}");
    assert!(words[1].parse::<u32>().is_ok_and(|first| first >= 65536 && first % 65536 == 0), "{log}");
    assert_eq!(kubectl.ok(&["exec", "apart", "--", "id", "-u"]).trim(), "0");
    for (path, part) in [
        ("stats/summary", "\"name\":\"apart\""),
        (
            "metrics/resource",
            "container_memory_working_set_bytes{container=\"main\",namespace=\"own-users\",pod=\"apart\"}",
        ),
        ("metrics/cadvisor", "container_cpu_usage_seconds_total{container=\"main\","),
    ] {
        let shown = kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/node-1/proxy/{path}")]);
        assert!(shown.contains(part), "{path}: {shown}");
    }
}

/// A pod of a file: its mirror in the API may be deleted, which changes nothing but the mirror.
pub fn of_a_file(world: &World, kubectl: &Kubectl) {
    let folder = world.cluster.data_dir().join("manifests");
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("filed.yaml");
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: filed, namespace: of-a-file}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: {}, command: [sleep, '3600']}}]
",
        world.image
    );
    std::fs::write(&file, text).expect("manifest");
    wait_for("the mirror", SOON, || {
        let output = kubectl.command(&["get", "pod", "filed-node-1"]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).contains("Running").then_some(())
    });
    let of = |path: &str| kubectl.value("pod/filed-node-1", path);
    let (uid, container) = (of(".metadata.uid"), of(".status.containerStatuses[0].containerID"));
    let _ = kubectl.ok(&["delete", "pod", "filed-node-1", "--timeout=30s"]);
    wait_for("another mirror", SOON, || {
        let output =
            kubectl.command(&["get", "pod", "filed-node-1", "-o", "jsonpath={.metadata.uid}"]).output().ok()?;
        let fresh = String::from_utf8_lossy(&output.stdout).into_owned();
        (!fresh.is_empty() && fresh != uid).then_some(())
    });
    kubectl.wait("pod/filed-node-1", ".status.containerStatuses[0].containerID", &container, SOON);
    assert_eq!(of(".status.containerStatuses[0].restartCount"), "0");
    std::fs::remove_file(&file).expect("removed");
    wait_for("the end of the pod", SOON, || kubectl.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}

/// Volumes of the node, bound to claims, and parts of them.
pub fn local_volumes(world: &World, kubectl: &Kubectl) {
    let folder = world.cluster.scratch().join("local-volume");
    std::fs::create_dir_all(&folder).expect("folder");
    kubectl.apply(&format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: local-volume}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local-e2e
  local: {{path: {}}}
  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node-1]}}]}}]}}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: claim}}
spec: {{accessModes: [ReadWriteOnce], storageClassName: local-e2e, resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: writer}}
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 1000, fsGroup: 4321}}
  containers:
  - name: main
    image: {}
    command: [sh, -c, 'echo kept > /whole/file && mkdir -p /whole/deep && stat -c %g /whole /whole/file']
    volumeMounts: [{{name: data, mountPath: /whole}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: claim}}}}]
",
        folder.display(),
        world.image
    ));
    kubectl.wait("pod/writer", ".status.phase", "Succeeded", SOON);
    assert_eq!(kubectl.ok(&["logs", "writer"]), "4321\n4321\n");
    assert_eq!(std::fs::read_to_string(folder.join("file")).expect("file"), "kept\n");
    let _ = kubectl.ok(&["delete", "pod/writer", "pvc/claim"]);
    kubectl.wait("pv/local-volume", ".status.phase", "Released", SOON);
    assert!(folder.join("file").exists());
    let _ = kubectl.ok(&["delete", "pv", "local-volume"]);
}
