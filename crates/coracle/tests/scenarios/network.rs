//! Services, host ports and names, as the host sees them: it reaches all that pods reach.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The tenth address of the Service CIDR.
const DNS: &str = "10.113.0.10";

/// A web server that says its name.
fn pod(world: &World, name: &str, spec: &str, ports: &str) -> String {
    let image = &world.image;
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
  containers:
  - name: main
    image: '{image}'
    command: [sh, -c, 'mkdir /www; echo {name} > /www/index.html; httpd -f -p 8080 -h /www']
    ports: [{{containerPort: 8080, name: http{ports}}}]
---
"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

/// The last line of what is at an address, or why not.
fn get(address: &str) -> String {
    let fetch = || -> std::io::Result<String> {
        let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    };
    fetch().unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn answers(address: &str, calls: usize) -> BTreeSet<String> {
    (0..calls).map(|_| get(address)).collect()
}

fn dig(arguments: &[&str]) -> String {
    let output = Command::new("dig").arg(format!("@{DNS}")).args(["+short", "+time=2"]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("dig").stdout).trim().to_owned()
}

pub fn services_names_and_host_ports(world: &World, kubectl: &Kubectl) {
    kubectl.apply(
        &[
            pod(world, "a", "hostname: first\n  subdomain: peers", ""),
            pod(world, "b", "", ""),
            service("web", "type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]"),
            service(
                "peers",
                "clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]",
            ),
        ]
        .concat(),
    );
    for name in ["a", "b"] {
        kubectl.wait(&format!("pod/{name}"), ".status.phase", "Running", SOON);
    }
    affinity(kubectl);
    names(kubectl);
    slices_by_hand(kubectl);
    types_change(kubectl);
    host_ports(world, kubectl);
}

fn affinity(kubectl: &Kubectl) {
    let cluster_ip = format!("{}:80", kubectl.value("service/web", ".spec.clusterIP"));
    let node_port = format!("127.0.0.1:{}", kubectl.value("service/web", ".spec.ports[0].nodePort"));
    let both: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    let set = |affinity: &str| {
        let patch = format!("{{\"spec\":{{\"sessionAffinity\":\"{affinity}\"}}}}");
        let _ = kubectl.ok(&["patch", "service", "web", "-p", &patch]);
    };
    for address in [&cluster_ip, &node_port] {
        wait_for("both pods", SOON, || (answers(address, 20) == both).then_some(()));
    }
    set("ClientIP");
    for address in [&cluster_ip, &node_port] {
        wait_for("one pod", SOON, || (answers(address, 20).len() == 1).then_some(()));
    }
    set("None");
    for address in [&cluster_ip, &node_port] {
        wait_for("both pods again", SOON, || (answers(address, 20) == both).then_some(()));
    }
}

fn names(kubectl: &Kubectl) {
    let (namespace, cluster_ip) = (&kubectl.namespace, kubectl.value("service/web", ".spec.clusterIP"));
    let (a, b) = (kubectl.value("pod/a", ".status.podIP"), kubectl.value("pod/b", ".status.podIP"));
    let zone = format!("{namespace}.svc.cluster.local");
    assert_eq!(dig(&[&format!("web.{zone}")]), cluster_ip);
    assert_eq!(dig(&["+tcp", &format!("web.{zone}")]), cluster_ip);
    assert_eq!(dig(&[&format!("first.peers.{zone}")]), a);
    let peers: BTreeSet<String> = dig(&[&format!("peers.{zone}")]).lines().map(str::to_owned).collect();
    assert_eq!(peers, [a.clone(), b].into());
    assert_eq!(dig(&["-t", "SRV", &format!("_http._tcp.web.{zone}")]), format!("0 100 80 web.{zone}."));
    assert_eq!(dig(&["-x", &cluster_ip]), format!("web.{zone}."));
    assert!(dig(&["-x", &a]).contains(&format!("first.peers.{zone}.")));
    assert_eq!(dig(&[&format!("{}.{namespace}.pod.cluster.local", a.replace('.', "-"))]), a);
}

/// A Service without a selector serves what the user's own slices say.
fn slices_by_hand(kubectl: &Kubectl) {
    let namespace = &kubectl.namespace;
    let slice = |name: &str, address: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: by-hand}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [{address}]}}]
---
"
        )
    };
    let (a, b) = (kubectl.value("pod/a", ".status.podIP"), kubectl.value("pod/b", ".status.podIP"));
    let service = service("by-hand", "ports: [{name: http, port: 80}]");
    kubectl.apply(&[service, slice("one", &a), slice("two", &b)].concat());
    let address = format!("{}:80", kubectl.value("service/by-hand", ".spec.clusterIP"));
    let both: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    wait_for("both slices", SOON, || (answers(&address, 20) == both).then_some(()));
    let _ = kubectl.ok(&["delete", "endpointslice", "two"]);
    wait_for("one slice", SOON, || (answers(&address, 20) == ["a".to_owned()].into()).then_some(()));
    let _ = kubectl.ok(&["delete", "service", "by-hand"]);
    let name = format!("by-hand.{namespace}.svc.cluster.local");
    wait_for("the name's end", SOON, || dig(&[&name]).is_empty().then_some(()));
}

fn types_change(kubectl: &Kubectl) {
    let zone = format!("{}.svc.cluster.local", kubectl.namespace);
    kubectl.apply(&service("moving", &format!("type: ExternalName, externalName: web.{zone}")));
    let web = kubectl.value("service/web", ".spec.clusterIP");
    let name = format!("moving.{zone}");
    wait_for("the alias", SOON, || (dig(&[&name]) == format!("web.{zone}.\n{web}")).then_some(()));
    let _ = kubectl.ok(&[
        "patch",
        "service",
        "moving",
        "-p",
        r#"{"spec":{"type":"NodePort","externalName":null,"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8080}]}}"#,
    ]);
    let node_port = kubectl.value("service/moving", ".spec.ports[0].nodePort");
    wait_for("the node port", SOON, || ["a", "b"].contains(&&*get(&format!("127.0.0.1:{node_port}"))).then_some(()));
    assert_eq!(dig(&[&name]), kubectl.value("service/moving", ".spec.clusterIP"));
}

/// Two pods on one port of the host, each on an address of its own.
fn host_ports(world: &World, kubectl: &Kubectl) {
    let node_ip = kubectl.value("pod/a", ".status.hostIP");
    // Other clusters of this host may be under test at the same time.
    let port = 40_000 + std::process::id() % 10_000;
    let ports = |address: &str| format!(", hostPort: {port}, hostIP: {address}");
    kubectl.apply(&(pod(world, "local", "", &ports("127.0.0.1")) + &pod(world, "outer", "", &ports(&node_ip))));
    for (name, address) in [("local", "127.0.0.1"), ("outer", node_ip.as_str())] {
        kubectl.wait(&format!("pod/{name}"), ".status.phase", "Running", SOON);
        wait_for("the host port", SOON, || (get(&format!("{address}:{port}")) == name).then_some(()));
    }
    let _ = kubectl.ok(&["delete", "pod", "local", "outer", "--timeout=60s"]);
    // Without a grace period the pod is gone from the API before it is gone from the node.
    let closed = || (get(&format!("127.0.0.1:{port}")) == "ConnectionRefused").then_some(());
    wait_for("the end of the host port", SOON, closed);
}
