//! Levels, their findings, and what namespaces say.

use coracle_api_meta::Value;
use expect_test::{Expect, expect};
use serde_json::json;

use super::super::testing::{Cluster, Write};
use super::{Level, LevelVersion, Version, details, evaluate};

fn check(level: Level, version: Version, pod: &Value, wanted: Expect) {
    wanted.assert_eq(&details(&evaluate(LevelVersion { level, version }, pod)));
}

fn plain() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}})
}

#[test]
fn a_plain_pod_is_baseline_and_not_restricted() {
    check(Level::Baseline, Version::Latest, &plain(), expect![""]);
    check(
        Level::Restricted,
        Version::Latest,
        &plain(),
        expect![[
            r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
        ]],
    );
    check(
        Level::Restricted,
        Version::Minor(7),
        &plain(),
        expect![[r#"runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#]],
    );
}

#[test]
fn a_hardened_pod_is_restricted() {
    let pod = json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}]}});
    check(Level::Restricted, Version::Latest, &pod, expect![""]);
}

#[test]
fn everything_wrong() {
    let pod = json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}}, "spec": {
        "hostNetwork": true, "hostPID": true,
        "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}], "runAsUser": 0, "runAsNonRoot": false,
            "seLinuxOptions": {"type": "spc_t", "user": "u"}, "windowsOptions": {"hostProcess": true}, "seccompProfile": {"type": "Unconfined"}},
        "volumes": [{"name": "h", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {}}],
        "initContainers": [{"name": "i", "securityContext": {"privileged": true, "procMount": "Unmasked"}}],
        "containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}],
            "livenessProbe": {"httpGet": {"host": "x"}},
            "securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}, "runAsUser": 0}}]}});
    check(
        Level::Baseline,
        Version::Latest,
        &pod,
        expect![[
            r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined""), non-default capabilities (container "a" must not include "NET_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume "h"), hostPort (container "a" uses hostPorts 443, 80), probe or lifecycle host (container "a" uses probe or lifecycle host "x"), privileged (container "i" must not set securityContext.privileged=true), procMount (container "i" must not set securityContext.procMount to "Unmasked"), seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined"), forbidden sysctls (kernel.msgmax), hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"#
        ]],
    );
    check(
        Level::Restricted,
        Version::Latest,
        &pod,
        expect![[
            r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined""), host namespaces (hostNetwork=true, hostPID=true), hostPort (container "a" uses hostPorts 443, 80), probe or lifecycle host (container "a" uses probe or lifecycle host "x"), privileged (container "i" must not set securityContext.privileged=true), seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set), forbidden sysctls (kernel.msgmax), hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true), allowPrivilegeEscalation != false (containers "i", "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "i", "a" must set securityContext.capabilities.drop=["ALL"]; container "a" must not include "CHOWN", "NET_ADMIN" in securityContext.capabilities.add), procMount (container "i" must not set securityContext.procMount to "Unmasked"), restricted volume types (volumes "h", "n" use restricted volume types "hostPath", "nfs"), runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod and container "a" must not set runAsUser=0), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#
        ]],
    );
}

fn cluster(labels: Value) -> Cluster {
    Cluster::with(&[("namespaces", json!({"metadata": {"name": "n", "labels": labels}}))])
}

#[test]
fn namespaces_enforce_and_warn() {
    let create = Write::create("", "pods");
    let host = json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "containers": [{"name": "a"}]}});
    let enforcing = cluster(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    expect![[r#"403 pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#]]
        .assert_eq(&create.refusal(&enforcing, &host));
    let warning = cluster(
        json!({"pod-security.kubernetes.io/warn": "baseline", "pod-security.kubernetes.io/warn-version": "v1.30"}),
    );
    let (_, notes) = create.run(&warning, &host).expect("admitted");
    assert_eq!(notes.warnings, [r#"would violate PodSecurity "baseline:v1.30": host namespaces (hostPID=true)"#]);
    // Enforcement warns about templates, which it does not refuse.
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": host}});
    let (_, notes) = Write::create("apps", "deployments").run(&enforcing, &deployment).expect("admitted");
    assert_eq!(notes.warnings, [r#"would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)"#]);
}

#[test]
fn labels_are_checked_and_pods_that_are_there_looked_at() {
    let namespace = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let bad =
        namespace(json!({"pod-security.kubernetes.io/enforce": "x", "pod-security.kubernetes.io/warn-version": "v2"}));
    expect![[r#"422 Namespace "n" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v2": must be "latest" or "v1.x"]"#]]
        .assert_eq(&Write::create("", "namespaces").refusal(&Cluster::default(), &bad));
    let pod =
        |name: &str| json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"hostIPC": true, "containers": []}});
    let cluster = Cluster::with(&[("pods", pod("b")), ("pods", pod("a")), ("pods", pod("c"))]);
    let strict = namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    let (_, notes) = Write::update("", "namespaces", namespace(json!({}))).run(&cluster, &strict).expect("admitted");
    assert_eq!(
        notes.warnings,
        [
            r#"existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest""#,
            "a (and 2 other pods): host namespaces"
        ]
    );
}
