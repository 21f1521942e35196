//! Deployments, Services and what owns what.

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

fn web(image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {image}
        command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{{containerPort: 8080, name: http}}]
        readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
"
    )
}

pub fn scaled_rolled_and_rolled_back(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&web(&world.image, 2));
    let status = kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert!(status.contains("successfully rolled out"), "{status}");
    let _ = kubectl.ok(&["scale", "deployment", "web", "--replicas=3"]);
    kubectl.wait("deployment/web", ".status.readyReplicas", "3", SOON);
    let _ = kubectl.ok(&["set", "image", "deployment/web", &format!("web={}", world.other_image)]);
    let _ = kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let images = kubectl.ok(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "--field-selector=status.phase=Running",
        "-o",
        "jsonpath={.items[*].spec.containers[0].image}",
    ]);
    assert!(images.split(' ').all(|image| image == world.other_image), "{images}");
    let history = kubectl.ok(&["rollout", "history", "deployment/web"]);
    assert!(history.contains('1') && history.contains('2'), "{history}");
    let _ = kubectl.ok(&["rollout", "undo", "deployment/web"]);
    let _ = kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    kubectl.wait("deployment/web", ".spec.template.spec.containers[0].image", &world.image, SOON);
    let sets = kubectl.ok(&["get", "rs", "-o", "jsonpath={.items[*].spec.replicas}"]);
    let mut counts: Vec<&str> = sets.split(' ').collect();
    counts.sort_unstable();
    assert_eq!(counts, ["0", "3"]);
    let _ = kubectl.ok(&["scale", "deployment", "web", "--replicas=0"]);
    wait_for("the pods' end", SOON, || kubectl.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}

pub fn services_by_every_way(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&web(&world.image, 2));
    kubectl.apply(
        "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: web.services.svc.cluster.local}
",
    );
    kubectl.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: client}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: '{}', command: [sleep, '3600']}}]\n", world.image));
    kubectl.wait("deployment/web", ".status.readyReplicas", "2", SOON);
    kubectl.wait("pod/client", ".status.phase", "Running", SOON);
    // The image's programs are static and look names up with nslookup only.
    const FETCH: &str = "fetch() { a=$(nslookup $1 | sed -n '/^Name/,$s/^Address: //p' | head -1); printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 $a ${2:-80} 2>&1 | tail -1; }; ";
    let inside = |command: &str| {
        let command = &format!("{FETCH}{command}");
        let output = kubectl.command(&["exec", "client", "--", "sh", "-c", command]).output().expect("kubectl");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    wait_for("both pods behind the Service", SOON, || {
        let answer = inside("fetch web.services.svc.cluster.local");
        if answer.starts_with("web-") {
            seen.insert(answer);
        }
        (seen.len() == 2).then_some(())
    });
    assert!(inside("fetch web").starts_with("web-"));
    wait_for("the headless Service", SOON, || {
        let answer = inside("nslookup headless.services.svc.cluster.local");
        (answer.matches("10.241.0.").count() >= 2).then_some(())
    });
    assert!(inside("nslookup outside.services.svc.cluster.local").contains("web.services.svc.cluster.local"));
    let port = kubectl.value("service/web", ".spec.ports[0].nodePort");
    let gateway = inside("ip route | grep default | cut -d' ' -f3");
    assert!(
        inside(&format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {gateway} {port} | tail -1"))
            .starts_with("web-")
    );
    let slices = kubectl.ok(&[
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=web",
        "-o",
        "jsonpath={.items[*].endpoints[*].conditions.ready}",
    ]);
    assert_eq!(slices, "true true");
    assert!(kubectl.ok(&["get", "endpoints", "web"]).contains(":8080"));
    let _ = kubectl.ok(&["scale", "deployment", "web", "--replicas=0"]);
    wait_for("a refused connection", SOON, || inside("fetch web").contains("refused").then_some(()));
}

pub fn owners_take_their_objects_along(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&web(&world.image, 1));
    kubectl.wait("deployment/web", ".status.readyReplicas", "1", SOON);
    let _ = kubectl.ok(&["delete", "deployment", "web", "--cascade=orphan"]);
    let set = kubectl.ok(&["get", "rs", "-o", "name"]).trim().to_owned();
    assert!(set.starts_with("replicaset.apps/web-"), "{set}");
    kubectl.wait(&set, ".metadata.ownerReferences", "", SOON);
    let _ = kubectl.ok(&["delete", &set, "--cascade=foreground", "--timeout=60s"]);
    wait_for("the pods' end", SOON, || kubectl.ok(&["get", "rs,pods", "-o", "name"]).is_empty().then_some(()));
    let _ = kubectl.ok(&["create", "configmap", "left"]);
    let _ = kubectl.ok(&["delete", "namespace", &kubectl.namespace, "--timeout=60s"]);
    assert!(kubectl.fails(&["get", "namespace", &kubectl.namespace]).contains("NotFound"));
}

/// Creations that come faster than the controllers' caches hear of them.
pub fn quotas_hold_in_haste(_: &World, kubectl: &Kubectl) {
    kubectl.apply("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: few}\nspec: {hard: {pods: '3'}}\n");
    kubectl.wait("resourcequota/few", ".status.used.pods", "0", SOON);
    let pods: Vec<String> = (0..8)
        .map(|number| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}}}\nspec: {{schedulingGates: [{{name: x.io/wait}}], \
                 containers: [{{name: c, image: none}}]}}\n"
            )
        })
        .collect();
    for _ in 0..5 {
        let (good, _) = kubectl.with_input(&["create", "-f", "-"], &pods.join("---\n"));
        assert!(!good, "the quota refuses some");
        assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]).lines().count(), 3);
        kubectl.wait("resourcequota/few", ".status.used.pods", "3", SOON);
        let deleted = kubectl.ok(&["delete", "pods", "--all", "--force", "--grace-period=0"]);
        assert_eq!(deleted.lines().count(), 3, "{deleted}");
        kubectl.wait("resourcequota/few", ".status.used.pods", "0", SOON);
    }
}

pub fn scaled_by_load(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: busy}}
spec:
  selector: {{matchLabels: {{app: busy}}}}
  template:
    metadata: {{labels: {{app: busy}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {}
        command: [sh, -c, 'while :; do :; done']
        resources: {{requests: {{cpu: 10m}}, limits: {{cpu: 60m}}}}
",
        world.image
    ));
    let _ = kubectl.ok(&["autoscale", "deployment", "busy", "--cpu-percent=80", "--min=2", "--max=3"]);
    // Below the minimum first, then by what the pods use, as soon as there are two samples.
    kubectl.wait("deployment/busy", ".spec.replicas", "3", 3 * SOON);
    let described = kubectl.ok(&["describe", "hpa", "busy"]);
    for part in
        ["resource cpu on pods  (as a percentage of request):", "SuccessfulRescale", "ValidMetricFound", "New size: 3"]
    {
        assert!(described.contains(part), "{part:?} is missing:\n{described}");
    }
    let used = wait_for("usage of the pods", 2 * SOON, || {
        let output = kubectl.command(&["top", "pods", "--no-headers"]).output().expect("kubectl");
        (output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(used.starts_with("busy-") && used.contains('m') && used.contains("Mi"), "{used}");
    assert!(kubectl.ok(&["top", "node"]).contains("node-1"));
    let _ = kubectl.ok(&["delete", "hpa/busy", "deployment/busy"]);
}
