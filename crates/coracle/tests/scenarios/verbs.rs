//! kubectl's verbs on objects that need no running pod.

use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::World;

pub fn discovery(_: &World, kubectl: &Kubectl) {
    let resources = kubectl.ok(&["api-resources"]);
    for line in ["deployments", "po ", "customresourcedefinitions", "endpointslices"] {
        assert!(resources.contains(line), "{line}:\n{resources}");
    }
    assert!(kubectl.ok(&["api-versions"]).contains("networking.k8s.io/v1"));
    assert!(kubectl.ok(&["cluster-info"]).contains("Kubernetes control plane"));
    assert!(kubectl.ok(&["version"]).contains("Server Version: v1.36"));
    assert!(kubectl.ok(&["config", "get-contexts"]).contains("coracle"));
    assert!(kubectl.ok(&["get", "--raw", "/readyz"]).contains("ok"));
    let explained = kubectl.ok(&["explain", "pods.spec.containers.livenessProbe"]);
    for part in ["FIELD: livenessProbe", "<Probe>", "Periodic probe of container liveness", "periodSeconds"] {
        assert!(explained.contains(part), "{part}:\n{explained}");
    }
    let wide = kubectl.ok(&["get", "nodes", "-o", "wide"]);
    assert!(wide.contains("node-1") && wide.contains("Ready") && wide.contains("v1.36"), "{wide}");
}

pub fn reading(_: &World, kubectl: &Kubectl) {
    for name in ["a", "b"] {
        let _ = kubectl.ok(&["create", "configmap", name, "--from-literal=key=value"]);
    }
    let _ = kubectl.ok(&["label", "configmap", "a", "app=web", "tier=front"]);
    let table = kubectl.ok(&["get", "configmaps"]);
    assert!(table.starts_with("NAME ") && table.contains("DATA") && table.contains("AGE"), "{table}");
    assert!(kubectl.ok(&["get", "configmaps", "--show-labels"]).contains("app=web,tier=front"));
    assert_eq!(kubectl.ok(&["get", "cm", "-l", "app in (web),tier", "-o", "name"]).trim(), "configmap/a");
    assert_eq!(kubectl.ok(&["get", "cm", "--field-selector", "metadata.name=b", "-o", "name"]).trim(), "configmap/b");
    assert_eq!(kubectl.value("cm/a", ".data.key"), "value");
    assert!(kubectl.ok(&["get", "cm", "a", "-o", "yaml"]).contains("\n  key: value\n"));
    assert!(kubectl.ok(&["get", "cm", "a", "-o", "json"]).contains("\"key\": \"value\""));
    let columns = kubectl.ok(&["get", "cm", "a", "-o", "custom-columns=N:.metadata.name,K:.data.key"]);
    assert_eq!(columns, "N     K\na     value\n");
    assert!(kubectl.ok(&["get", "cm", "-A"]).starts_with("NAMESPACE "));
    assert!(kubectl.ok(&["describe", "cm", "a"]).contains("value"));
    let mut watch = kubectl.command(&["get", "cm", "-w", "-o", "name", "--watch-only"]);
    let output = first_line(&mut watch, |round| {
        let _ = kubectl.ok(&["create", "configmap", &format!("c-{round}")]);
    });
    assert!(output.starts_with("configmap/c-"), "{output}");
}

/// The first line that a watch prints while something happens again and again.
fn first_line(watch: &mut std::process::Command, mut act: impl FnMut(usize)) -> String {
    use std::io::{BufRead as _, BufReader};
    let mut child = watch.stdout(std::process::Stdio::piped()).spawn().expect("kubectl is installed");
    let stdout = child.stdout.take().expect("piped");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits for a second line.
        let _ = BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
    });
    let line = (0..20).find_map(|round| {
        act(round);
        receiver.recv_timeout(Duration::from_secs(1)).ok()
    });
    let _ = child.kill();
    let _ = child.wait();
    line.unwrap_or_default()
}

pub fn writing(_: &World, kubectl: &Kubectl) {
    let manifest = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: it\ndata:\n  key: {value}\n  kept: here\n")
    };
    let apply = |text: &str| kubectl.with_input(&["apply", "-f", "-"], text);
    assert_eq!(apply(&manifest("one")), (true, "configmap/it created\n".to_owned()));
    assert_eq!(apply(&manifest("one")), (true, "configmap/it unchanged\n".to_owned()));
    assert_eq!(apply(&manifest("two")), (true, "configmap/it configured\n".to_owned()));
    let without = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: it\ndata:\n  key: two\n";
    assert!(apply(without).0);
    assert_eq!(kubectl.value("cm/it", ".data"), r#"{"key":"two"}"#);
    let before = kubectl.value("cm/it", ".metadata.resourceVersion");
    let _ = kubectl.ok(&["annotate", "cm", "it", "note=a"]);
    let _ =
        kubectl.ok(&["patch", "cm", "it", "--type=json", "-p", r#"[{"op":"add","path":"/data/more","value":"x"}]"#]);
    let _ = kubectl.ok(&["patch", "cm", "it", "--type=merge", "-p", r#"{"data":{"key":null}}"#]);
    assert_eq!(kubectl.value("cm/it", ".data"), r#"{"more":"x"}"#);
    assert_ne!(before, kubectl.value("cm/it", ".metadata.resourceVersion"));
    let _ = kubectl.ok(&["label", "cm", "it", "a=b", "--dry-run=server"]);
    assert_eq!(kubectl.value("cm/it", ".metadata.labels"), "");
    let again = kubectl.fails(&["create", "configmap", "it"]);
    assert!(again.contains(r#"configmaps "it" already exists"#), "{again}");
    let _ = kubectl.ok(&["delete", "cm", "it"]);
    assert!(kubectl.fails(&["get", "cm", "it"]).contains(r#"Error from server (NotFound): configmaps "it" not found"#));
}

pub fn server_side_apply(_: &World, kubectl: &Kubectl) {
    let manifest =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: it\ndata:\n  key: {value}\n");
    let apply = |manager: &str, text: &str, more: &[&str]| {
        let manager = format!("--field-manager={manager}");
        let mut arguments = vec!["apply", "--server-side", &manager, "-f", "-"];
        arguments.extend(more);
        kubectl.with_input(&arguments, text)
    };
    assert!(apply("one", &manifest("a"), &[]).0);
    let (good, text) = apply("two", &manifest("b"), &[]);
    assert!(!good && text.contains(r#"conflict with "one""#) && text.contains(".data.key"), "{text}");
    assert!(apply("two", &manifest("b"), &["--force-conflicts"]).0);
    assert_eq!(kubectl.value("cm/it", ".data.key"), "b");
    wait_for("the managers", Duration::from_secs(5), || {
        (kubectl.value("cm/it", ".metadata.managedFields[*].manager") == "two").then_some(())
    });
}
