//! What reaches a container from outside.

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

pub fn every_source_of_configuration(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{color: blue, 'file.txt': 'from a config map'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: hidden}}
stringData: {{password: s3cret}}
---
apiVersion: v1
kind: Pod
metadata: {{name: reader, labels: {{app: reader}}, annotations: {{note: here}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    command: [sh, -c, 'env | sort; echo args: \"$@\"; cat /config/file.txt /secret/password /info/labels; echo; sleep 3600', x]
    args: ['$(COLOR)', '$(MISSING)', '$$(COLOR)']
    env:
    - {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}
    - {{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: hidden, key: password}}}}}}
    - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
    - {{name: LIMIT, valueFrom: {{resourceFieldRef: {{resource: limits.memory}}}}}}
    - {{name: BOTH, value: '$(POD)-$(COLOR)'}}
    envFrom: [{{prefix: CM_, configMapRef: {{name: settings}}}}]
    resources: {{limits: {{memory: 64Mi}}}}
    volumeMounts:
    - {{name: config, mountPath: /config}}
    - {{name: secret, mountPath: /secret}}
    - {{name: info, mountPath: /info}}
    - {{name: memory, mountPath: /memory}}
  volumes:
  - {{name: config, configMap: {{name: settings}}}}
  - {{name: secret, secret: {{secretName: hidden, defaultMode: 256}}}}
  - {{name: info, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
"
    ));
    kubectl.wait("pod/reader", ".status.phase", "Running", SOON);
    let log = wait_for("the log", SOON, || {
        let log = kubectl.ok(&["logs", "reader"]);
        log.contains("app=").then_some(log)
    });
    for line in [
        "COLOR=blue",
        "PASSWORD=s3cret",
        "POD=reader",
        "NODE=node-1",
        "LIMIT=67108864",
        "BOTH=reader-blue",
        "CM_color=blue",
        "KUBERNETES_SERVICE_HOST=10.113.0.1",
        "args: blue $(MISSING) $(COLOR)",
        "from a config map",
        "s3cret",
        "app=\"reader\"",
    ] {
        assert!(log.contains(line), "{line:?} is missing:\n{log}");
    }
    let _ = kubectl.ok(&["patch", "cm", "settings", "-p", r#"{"data":{"file.txt":"changed"}}"#]);
    wait_for("the changed file", 2 * SOON, || {
        kubectl.ok(&["exec", "reader", "--", "cat", "/config/file.txt"]).contains("changed").then_some(())
    });
    assert!(kubectl.ok(&["exec", "reader", "--", "df", "-k", "/memory"]).contains("1024"));
}

pub fn pods_call_the_api(world: &World, kubectl: &Kubectl) {
    let image = &world.image;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: caller}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    command: [sleep, '3600']
"
    ));
    kubectl.wait("pod/caller", ".status.phase", "Running", SOON);
    let mount = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(kubectl.ok(&["exec", "caller", "--", "cat", &format!("{mount}/namespace")]), "service-accounts");
    assert!(kubectl.ok(&["exec", "caller", "--", "cat", &format!("{mount}/ca.crt")]).contains("BEGIN CERTIFICATE"));
    let token = kubectl.ok(&["exec", "caller", "--", "cat", &format!("{mount}/token")]);
    let denied = kubectl.fails(&[
        "--token",
        &token,
        "--kubeconfig",
        "/dev/null",
        "--server",
        &server(kubectl),
        "--insecure-skip-tls-verify",
        "get",
        "pods",
    ]);
    assert!(
        denied.contains(r#"pods is forbidden: User "system:serviceaccount:service-accounts:default" cannot list resource "pods" in API group "" in the namespace "service-accounts""#),
        "{denied}"
    );
    let _ = kubectl.ok(&[
        "create",
        "rolebinding",
        "reader",
        "--clusterrole=view",
        "--serviceaccount=service-accounts:default",
    ]);
    wait_for("the right to read", SOON, || {
        (kubectl.ok(&["auth", "can-i", "list", "pods", "--as=system:serviceaccount:service-accounts:default"]).trim()
            == "yes")
            .then_some(())
    });
    let reached = kubectl.ok(&[
        "exec",
        "caller",
        "--",
        "sh",
        "-c",
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo open",
    ]);
    assert_eq!(reached.trim(), "open");
}

fn server(kubectl: &Kubectl) -> String {
    kubectl.ok(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"])
}
