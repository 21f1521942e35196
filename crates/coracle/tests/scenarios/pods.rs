//! Pods by themselves.

use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

/// Both containers share one network, so the second cannot have the port.
pub fn two_containers_want_one_port(world: &World, kubectl: &Kubectl) {
    let image = &world.own_image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: two
spec:
  containers:
  - name: first
    image: {image}
    command: [httpd, -f, -v, -p, '80']
  - name: second
    image: {image}
    command: [sh, -c, 'sleep 1; exec httpd -f -v -p 80']
"
    ));
    wait_for("a restart of the second container", SOON, || {
        let count = kubectl.value("pod/two", ".status.containerStatuses[?(@.name==\"second\")].restartCount");
        (count.parse::<u32>().ok()? >= 2).then_some(())
    });
    let described = wait_for("BackOff", SOON, || {
        let text = kubectl.ok(&["describe", "pod", "two"]);
        (text.contains("Back-off restarting") && text.contains("CrashLoopBackOff")).then_some(text)
    });
    for part in [
        "QoS Class:                   BestEffort",
        "Status:           Running",
        "kube-api-access-",
        "Projected (a volume that contains injected data from multiple sources)",
        "TokenExpirationSeconds:  3607",
        "Reason:       CrashLoopBackOff",
        "Exit Code:    1",
        "PodScheduled                True",
        "Initialized                 True",
        "ContainersReady             False",
        "Successfully assigned port-taken/two to node-1",
        "Pulling image",
        "Successfully pulled image",
        "Container created",
        "Container started",
        "Back-off restarting failed container second in pod two_port-taken(",
        "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
    ] {
        assert!(described.contains(part), "{part:?} is missing:\n{described}");
    }
    assert!(
        described.lines().any(|line| line.contains("Started") && line.contains(" (x")),
        "no counted event:\n{described}"
    );
    let log = kubectl.ok(&["logs", "two", "-c", "second", "--previous"]);
    assert!(log.contains("Address already in use"), "{log}");
}

pub fn init_containers_wait_for_services(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    let wait = |service: &str| {
        format!(
            "[sh, -c, 'until nslookup {service}.init-containers.svc.cluster.local; do echo waiting for {service}; sleep 1; done']"
        )
    };
    let (first, second) = (wait("myservice"), wait("mydb"));
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: app
spec:
  initContainers:
  - name: init-myservice
    image: {image}
    command: {first}
  - name: init-mydb
    image: {image}
    command: {second}
  containers:
  - name: app
    image: {image}
    command: [sh, -c, 'echo The app is running! && sleep 3600']
  terminationGracePeriodSeconds: 0
"
    ));
    wait_for("Init:0/2", SOON, || kubectl.ok(&["get", "pod", "app"]).contains("Init:0/2").then_some(()));
    wait_for("the log of the first", SOON, || {
        let output = kubectl.command(&["logs", "app", "-c", "init-myservice"]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).contains("waiting for myservice").then_some(())
    });
    let service = |name: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: 80\n")
    };
    kubectl.apply(&service("myservice"));
    wait_for("Init:1/2", SOON, || kubectl.ok(&["get", "pod", "app"]).contains("Init:1/2").then_some(()));
    kubectl.apply(&service("mydb"));
    kubectl.wait("pod/app", ".status.phase", "Running", SOON);
    wait_for("the app", SOON, || kubectl.ok(&["logs", "app"]).contains("The app is running!").then_some(()));
    assert!(kubectl.ok(&["get", "pod", "app"]).contains("1/1"));
}

pub fn probes_and_hooks(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: probed
spec:
  containers:
  - name: web
    image: {image}
    command: [sh, -c, 'mkdir -p /www; touch /tmp/alive; exec httpd -f -p 8080 -h /www']
    lifecycle:
      postStart:
        exec: {{command: [sh, -c, 'echo started > /tmp/hook']}}
    livenessProbe:
      exec: {{command: [test, -f, /tmp/alive]}}
      periodSeconds: 1
      failureThreshold: 1
    readinessProbe:
      httpGet: {{path: /ready, port: 8080}}
      periodSeconds: 1
  terminationGracePeriodSeconds: 0
"
    ));
    kubectl.wait("pod/probed", ".status.phase", "Running", SOON);
    assert_eq!(kubectl.value("pod/probed", ".status.containerStatuses[0].ready"), "false");
    assert_eq!(kubectl.ok(&["exec", "probed", "--", "cat", "/tmp/hook"]).trim(), "started");
    let _ = kubectl.ok(&["exec", "probed", "--", "sh", "-c", "echo yes > /www/ready"]);
    kubectl.wait("pod/probed", ".status.containerStatuses[0].ready", "true", SOON);
    let _ = kubectl.ok(&["exec", "probed", "--", "rm", "/tmp/alive"]);
    kubectl.wait("pod/probed", ".status.containerStatuses[0].restartCount", "1", SOON);
    let described = kubectl.ok(&["describe", "pod", "probed"]);
    assert!(described.contains("Liveness probe failed") && described.contains("will be restarted"), "{described}");
}

pub fn limits_and_security(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: hungry
spec:
  restartPolicy: Never
  containers:
  - name: eater
    image: {image}
    command: [sh, -c, 'dd if=/dev/zero of=/dev/null bs=200M count=1000']
    resources: {{limits: {{memory: 32Mi, cpu: 500m}}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: locked
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: main
    image: {image}
    command: [sh, -c, 'id; touch /file || echo read-only; grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; touch /data/x && ls -ln /data/x']
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
"
    ));
    kubectl.wait("pod/hungry", ".status.containerStatuses[0].state.terminated.reason", "OOMKilled", SOON);
    assert_eq!(kubectl.value("pod/hungry", ".status.containerStatuses[0].state.terminated.exitCode"), "137");
    assert_eq!(kubectl.value("pod/hungry", ".status.qosClass"), "Guaranteed");
    kubectl.wait("pod/locked", ".status.phase", "Succeeded", SOON);
    let log = kubectl.ok(&["logs", "locked"]);
    for part in ["uid=1000 gid=3000", "2000", "read-only", "CapEff:\t0000000000000000", "Seccomp:\t2"] {
        assert!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    let _ = kubectl.ok(&["delete", "pod", "hungry", "locked"]);
    wait_for("their end", Duration::from_secs(30), || {
        kubectl.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(())
    });
}
