//! Bad input: one clear message each, naming the object and the field.

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

pub fn manifests(_: &World, kubectl: &Kubectl) {
    let cases = [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatum: {a: b}\n", r#"unknown field "datum""#),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b, ports: [{containerPort: abc}]}]}\n",
            "containerPort",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n",
            r#"metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of"#,
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n", "spec.containers: Required value"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}\n",
            "`selector` does not match template `labels`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n",
            "must be between 1 and 65535, inclusive",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b, resources: {limits: {memory: lots}}}]}\n",
            "spec.containers[0].resources.limits.memory: quantities must match the regular expression",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b, resources: {limits: {memory: 1Gq}}}]}\n",
            "spec.containers[0].resources.limits.memory: quantities must match the regular expression",
        ),
        ("apiVersion: nope/v1\nkind: Nope\nmetadata: {name: a}\n", "no matches for kind"),
    ];
    for (manifest, wanted) in cases {
        let (good, text) = kubectl.with_input(&["create", "-f", "-"], manifest);
        assert!(!good && text.contains(wanted), "wanted {wanted:?} of\n{manifest}\ngot {text}");
    }
    assert_eq!(kubectl.ok(&["get", "pods,deployments,services", "-o", "name"]), "");
    kubectl.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: b}\n");
    let text = kubectl.fails(&["patch", "cm", "fixed", "-p", r#"{"data":{"a":"c"}}"#]);
    assert!(text.contains("data: Forbidden: field is immutable when `immutable` is set"), "{text}");
    let text = kubectl.fails(&["get", "pods", "--field-selector", "spec.nope=1"]);
    assert!(text.contains("field label not supported: spec.nope"), "{text}");
}

pub fn images(world: &World, kubectl: &Kubectl) {
    let missing = world.image.replace("busybox:1.0", "nothing:1.0");
    kubectl.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: lost}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: '{missing}'}}]\n"));
    wait_for("ImagePullBackOff", SOON, || {
        (kubectl.value("pod/lost", ".status.containerStatuses[0].state.waiting.reason") == "ImagePullBackOff")
            .then_some(())
    });
    let described = kubectl.ok(&["describe", "pod", "lost"]);
    for part in [
        format!("Failed to pull image \"{missing}\""),
        "not found".to_owned(),
        "Error: ErrImagePull".to_owned(),
        format!("Back-off pulling image \"{missing}\""),
    ] {
        assert!(described.contains(&part), "{part:?} is missing:\n{described}");
    }
    kubectl.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: big}}\nspec:\n  containers: [{{name: main, image: '{}', resources: {{requests: {{cpu: '1000'}}}}}}]\n", world.image));
    wait_for("FailedScheduling", SOON, || {
        kubectl.ok(&["describe", "pod", "big"]).contains("0/1 nodes are available: 1 Insufficient cpu.").then_some(())
    });
    kubectl.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: typo}}\nspec:\n  restartPolicy: Never\n  containers: [{{name: main, image: '{}', command: [no-such-program]}}]\n", world.image));
    wait_for("StartError", SOON, || {
        kubectl.ok(&["describe", "pod", "typo"]).contains("executable file not found in $PATH").then_some(())
    });
    let _ = kubectl.ok(&["delete", "pods", "--all"]);
}
