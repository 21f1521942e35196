//! Questions over real sockets, answers as text.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_dns::{Config, Server, Upstreams};
use expect_test::{Expect, expect};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LIMIT: Duration = Duration::from_secs(5);

fn service(name: &str, spec: serde_json::Value) -> (String, Service) {
    let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    (name.to_owned(), serde_json::from_value(object).expect("a Service"))
}

fn slice(service: &str, endpoints: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .expect("a slice")
}

fn fill(server: &Server) {
    let ports =
        json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let services = [
        service("web", json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": ports})),
        service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [ports[0]]})),
        service("empty", json!({"clusterIP": "None", "ports": []})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"})),
        service("outside", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        service("address", json!({"type": "ExternalName", "externalName": "192.0.2.7"})),
    ];
    let db = json!([
        {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.6"]},
        {"addresses": ["10.244.0.9"], "conditions": {"ready": false}},
    ]);
    server.update(|index| {
        index.set_namespace("default", true);
        for (name, service) in &services {
            index.set_service("default", name, Some(service));
        }
        index.set_slice(None, Some(&slice("db", db)));
        index.set_slice(None, Some(&slice("web", json!([{"addresses": ["10.244.0.5"]}]))));
    });
    server.set_complete();
}

/// A server on a port of its own, with an upstream that counts what it is asked.
struct World {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    server: Arc<Server>,
}

impl World {
    async fn new() -> World {
        let asked = Arc::new(AtomicUsize::new(0));
        let upstream = upstream(asked.clone()).await;
        World::with(Upstreams::Fixed(vec![upstream]), asked).await
    }

    async fn with(upstreams: Upstreams, asked: Arc<AtomicUsize>) -> World {
        let (udp, tcp, address) = pair().await;
        let config = Config { listen: vec![address], upstreams, ..Config::default() };
        let server = Server::new(&config).expect("a server");
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        World { address, asked, server }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let query = query(name, kind);
        Message::from_vec(&by_udp(self.address, &query.to_vec().expect("a query")).await).expect("a response")
    }
}

/// UDP and TCP at the same free port.
async fn pair() -> (UdpSocket, TcpListener, SocketAddr) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (udp, tcp, address);
        }
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.send_to(query, server).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(LIMIT, socket.recv(&mut buffer)).await.expect("in time");
    buffer.truncate(received.expect("received"));
    buffer
}

async fn by_tcp(stream: &mut TcpStream, query: &[u8]) -> Vec<u8> {
    stream.write_u16(query.len() as u16).await.expect("sent");
    stream.write_all(query).await.expect("sent");
    let length = tokio::time::timeout(LIMIT, stream.read_u16()).await.expect("in time").expect("received");
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.expect("received");
    bytes
}

/// `www.example.com` has an address, `many.example.com` a hundred, `slow.example.com` is never answered, nothing else
/// exists.
async fn upstream(asked: Arc<AtomicUsize>) -> SocketAddr {
    let (udp, tcp, address) = pair().await;
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((size, peer)) = udp.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::SeqCst);
            if let Some(response) = upstream_answer(&buffer[..size], true) {
                udp.send_to(&response, peer).await.expect("sent");
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.expect("a query");
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await.expect("a query");
            let response = upstream_answer(&bytes, false).expect("an answer");
            stream.write_u16(response.len() as u16).await.expect("sent");
            stream.write_all(&response).await.expect("sent");
        }
    });
    address
}

fn upstream_answer(bytes: &[u8], udp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).expect("a query");
    let name = query.queries[0].name.clone();
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.queries = query.queries.clone();
    let address = |last: u8| Record::from_rdata(name.clone(), 300, RData::A(A(Ipv4Addr::new(192, 0, 2, last))));
    match name.to_ascii().as_str() {
        "www.example.com." => drop(response.add_answer(address(1))),
        "many.example.com." if udp => response.metadata.truncation = true,
        "many.example.com." => drop(response.add_answers((0..100).map(address))),
        "slow.example.com." => return None,
        _ => {
            response.metadata.response_code = ResponseCode::NXDomain;
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, 900);
            response.add_authority(Record::from_rdata(root, 900, RData::SOA(soa)));
        }
    }
    response.to_vec().ok()
}

fn text(message: &Message) -> String {
    let mut lines = vec![format!("{:?}", message.metadata.response_code)];
    if message.metadata.authoritative {
        lines[0].push_str(" authoritative");
    }
    if message.metadata.truncation {
        lines[0].push_str(" truncated");
    }
    let sections =
        [("", &message.answers), ("authority ", &message.authorities), ("additional ", &message.additionals)];
    for (section, records) in sections {
        let mut of_section: Vec<String> = records
            .iter()
            .map(|record| format!("{section}{} {} {} {}", record.name, record.ttl, record.record_type(), record.data))
            .collect();
        of_section.sort();
        lines.extend(of_section);
    }
    lines.join("\n")
}

async fn check(world: &World, name: &str, kind: RecordType, expect: Expect) {
    let response = world.ask(name, kind).await;
    assert_eq!(response.metadata.id, 4711);
    assert!(response.metadata.recursion_available && response.metadata.recursion_desired);
    expect.assert_eq(&text(&response));
}

#[tokio::test]
async fn services_have_addresses() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "web.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        web.default.svc.cluster.local. 5 A 10.96.0.7"#]],
    )
    .await;
    check(
        &world,
        "web.default.svc.cluster.local.",
        RecordType::AAAA,
        expect![[r#"
        NoError authoritative
        web.default.svc.cluster.local. 5 AAAA fd00::7"#]],
    )
    .await;
    check(
        &world,
        "WEB.Default.svc.Cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        WEB.Default.svc.Cluster.local. 5 A 10.96.0.7"#]],
    )
    .await;
    check(
        &world,
        "web.default.svc.cluster.local.",
        RecordType::TXT,
        expect![[r#"
        NoError authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    check(
        &world,
        "db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        db.default.svc.cluster.local. 5 A 10.244.0.5
        db.default.svc.cluster.local. 5 A 10.244.0.6"#]],
    )
    .await;
    check(
        &world,
        "empty.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
}

#[tokio::test]
async fn endpoints_and_pods_have_names() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "db-0.db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        db-0.db.default.svc.cluster.local. 5 A 10.244.0.5"#]],
    )
    .await;
    check(
        &world,
        "10-244-0-6.db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        10-244-0-6.db.default.svc.cluster.local. 5 A 10.244.0.6"#]],
    )
    .await;
    check(
        &world,
        "10-244-0-9.db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NXDomain authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    check(
        &world,
        "10-244-0-5.default.pod.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        10-244-0-5.default.pod.cluster.local. 5 A 10.244.0.5"#]],
    )
    .await;
    check(
        &world,
        "fd00--5.default.pod.cluster.local.",
        RecordType::AAAA,
        expect![[r#"
        NoError authoritative
        fd00--5.default.pod.cluster.local. 5 AAAA fd00::5"#]],
    )
    .await;
    check(
        &world,
        "10-244-0-5.missing.pod.cluster.local.",
        RecordType::A,
        expect![[r#"
        NXDomain authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
}

#[tokio::test]
async fn named_ports_have_srv_records() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "_http._tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError authoritative
        _http._tcp.web.default.svc.cluster.local. 5 SRV 0 100 80 web.default.svc.cluster.local.
        additional web.default.svc.cluster.local. 5 A 10.96.0.7
        additional web.default.svc.cluster.local. 5 AAAA fd00::7"#]],
    )
    .await;
    check(
        &world,
        "_http._tcp.db.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError authoritative
        _http._tcp.db.default.svc.cluster.local. 5 SRV 0 50 8080 10-244-0-6.db.default.svc.cluster.local.
        _http._tcp.db.default.svc.cluster.local. 5 SRV 0 50 8080 db-0.db.default.svc.cluster.local.
        additional 10-244-0-6.db.default.svc.cluster.local. 5 A 10.244.0.6
        additional db-0.db.default.svc.cluster.local. 5 A 10.244.0.5"#]],
    )
    .await;
    check(
        &world,
        "web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError authoritative
        web.default.svc.cluster.local. 5 SRV 0 50 53 web.default.svc.cluster.local.
        web.default.svc.cluster.local. 5 SRV 0 50 80 web.default.svc.cluster.local.
        additional web.default.svc.cluster.local. 5 A 10.96.0.7
        additional web.default.svc.cluster.local. 5 AAAA fd00::7"#]],
    )
    .await;
    check(
        &world,
        "_http._udp.web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NXDomain authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    check(
        &world,
        "_tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
}

#[tokio::test]
async fn addresses_have_names() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "7.0.96.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NoError authoritative
        7.0.96.10.in-addr.arpa. 5 PTR web.default.svc.cluster.local."#]],
    )
    .await;
    check(
        &world,
        "5.0.244.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NoError authoritative
        5.0.244.10.in-addr.arpa. 5 PTR 10-244-0-5.web.default.svc.cluster.local.
        5.0.244.10.in-addr.arpa. 5 PTR db-0.db.default.svc.cluster.local."#]],
    )
    .await;
    let v6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    check(&world, v6, RecordType::PTR, expect![[r#"
        NoError authoritative
        7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 PTR web.default.svc.cluster.local."#]]).await;
    check(
        &world,
        "1.2.0.192.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NXDomain
        authority . 900 SOA . . 1 1 1 1 900"#]],
    )
    .await;
}

#[tokio::test]
async fn external_names_are_aliases() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "alias.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        alias.default.svc.cluster.local. 5 CNAME web.default.svc.cluster.local.
        web.default.svc.cluster.local. 5 A 10.96.0.7"#]],
    )
    .await;
    check(
        &world,
        "outside.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        outside.default.svc.cluster.local. 5 CNAME www.example.com.
        www.example.com. 300 A 192.0.2.1"#]],
    )
    .await;
    check(
        &world,
        "outside.default.svc.cluster.local.",
        RecordType::CNAME,
        expect![[r#"
        NoError authoritative
        outside.default.svc.cluster.local. 5 CNAME www.example.com."#]],
    )
    .await;
    check(
        &world,
        "address.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        address.default.svc.cluster.local. 5 A 192.0.2.7"#]],
    )
    .await;
}

#[tokio::test]
async fn the_zone_itself() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "cluster.local.",
        RecordType::SOA,
        expect![[r#"
        NoError authoritative
        cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    check(
        &world,
        "cluster.local.",
        RecordType::NS,
        expect![[r#"
        NoError authoritative
        cluster.local. 5 NS ns.dns.cluster.local."#]],
    )
    .await;
    check(
        &world,
        "dns-version.cluster.local.",
        RecordType::TXT,
        expect![[r#"
        NoError authoritative
        dns-version.cluster.local. 5 TXT 1.1.0"#]],
    )
    .await;
    check(
        &world,
        "svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    check(
        &world,
        "default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError authoritative
        authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"#]],
    )
    .await;
    for missing in
        ["x.cluster.local.", "x.svc.cluster.local.", "x.default.svc.cluster.local.", "a.b.c.d.e.svc.cluster.local."]
    {
        let response = world.ask(missing, RecordType::A).await;
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{missing}");
    }
}

#[tokio::test]
async fn what_changes_is_answered_at_once() {
    let world = World::new().await;
    let address = |world: World| async move {
        let response = world.ask("web.default.svc.cluster.local.", RecordType::A).await;
        (text(&response).replace('\n', " "), world)
    };
    let (before, world) = address(world).await;
    assert_eq!(before, "ServFail", "nothing is said before all is known");
    fill(&world.server);
    world.server.update(|index| {
        index.set_service("default", "web", Some(&service("web", json!({"clusterIP": "10.96.0.8"})).1));
    });
    let (after, world) = address(world).await;
    assert_eq!(after, "NoError authoritative web.default.svc.cluster.local. 5 A 10.96.0.8");
    world.server.update(|index| index.set_service("default", "web", None));
    let (gone, world) = address(world).await;
    assert!(gone.starts_with("NXDomain authoritative authority cluster.local. 5 SOA"), "{gone}");
    let old = world.ask("7.0.96.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(old.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn other_names_are_asked_for_once() {
    let world = World::new().await;
    fill(&world.server);
    check(
        &world,
        "www.example.com.",
        RecordType::A,
        expect![[r#"
        NoError
        www.example.com. 300 A 192.0.2.1"#]],
    )
    .await;
    world.ask("WWW.example.com.", RecordType::A).await;
    assert_eq!(world.asked.load(Ordering::SeqCst), 1, "the second time it is remembered");
    world.ask("missing.example.com.", RecordType::A).await;
    check(
        &world,
        "missing.example.com.",
        RecordType::A,
        expect![[r#"
        NXDomain
        authority . 900 SOA . . 1 1 1 1 900"#]],
    )
    .await;
    assert_eq!(world.asked.load(Ordering::SeqCst), 2, "and that it does not exist too");
    let (a, b, c) = tokio::join!(
        world.ask("slow.example.com.", RecordType::A),
        world.ask("slow.example.com.", RecordType::A),
        world.ask("slow.example.com.", RecordType::A),
    );
    for response in [a, b, c] {
        assert_eq!(response.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(world.asked.load(Ordering::SeqCst), 4, "two attempts for all three");
}

#[tokio::test]
async fn without_upstreams_other_names_fail_at_once() {
    let (_, _, own) = pair().await;
    let world = World::with(Upstreams::Fixed(Vec::new()), Arc::default()).await;
    fill(&world.server);
    assert_eq!(world.ask("www.example.com.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    // Whoever names us as our own upstream gets the same.
    let looped = Config { listen: vec![own], upstreams: Upstreams::Fixed(vec![own]), ..Config::default() };
    let server = Server::new(&looped).expect("a server");
    let udp = UdpSocket::bind(own).await.expect("the port");
    tokio::spawn(server.serve_udp(udp));
    let response = by_udp(own, &query("www.example.com.", RecordType::A).to_vec().expect("a query")).await;
    assert_eq!(Message::from_vec(&response).expect("a response").metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn long_answers_are_truncated_by_udp_and_whole_by_tcp() {
    let world = World::new().await;
    fill(&world.server);
    let endpoints: Vec<serde_json::Value> =
        (1..=200).map(|i| json!({"addresses": [format!("10.244.3.{i}")]})).collect();
    let many = service("many", json!({"clusterIP": "None"})).1;
    world.server.update(|index| {
        index.set_service("default", "many", Some(&many));
        index.set_slice(None, Some(&slice("many", json!(endpoints))));
    });
    let name = "many.default.svc.cluster.local.";
    let plain = query(name, RecordType::A).to_vec().expect("a query");
    let bytes = by_udp(world.address, &plain).await;
    let response = Message::from_vec(&bytes).expect("a response");
    assert!(bytes.len() <= 512 && response.metadata.truncation && !response.answers.is_empty());
    let mut with_edns = query(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    with_edns.set_edns(edns);
    let with_edns = with_edns.to_vec().expect("a query");
    let bytes = by_udp(world.address, &with_edns).await;
    let response = Message::from_vec(&bytes).expect("a response");
    assert!(bytes.len() <= 1232 && bytes.len() > 1100 && response.metadata.truncation);
    assert_eq!(response.edns.map(|edns| edns.max_payload()), Some(1232));
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    for _ in 0..2 {
        let response = Message::from_vec(&by_tcp(&mut stream, &plain).await).expect("a response");
        assert_eq!((response.answers.len(), response.metadata.truncation), (200, false));
    }
    let forwarded = query("many.example.com.", RecordType::A).to_vec().expect("a query");
    let response = Message::from_vec(&by_tcp(&mut stream, &forwarded).await).expect("a response");
    assert_eq!(response.answers.len(), 100, "the upstream was asked again by TCP");
}

#[tokio::test]
async fn addresses_take_turns() {
    let world = World::new().await;
    fill(&world.server);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let response = world.ask("db.default.svc.cluster.local.", RecordType::A).await;
        first.insert(response.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn what_is_no_question_is_refused_or_ignored() {
    let world = World::new().await;
    fill(&world.server);
    let code = |message: Message| {
        let address = world.address;
        async move {
            let response = by_udp(address, &message.to_vec().expect("a message")).await;
            Message::from_vec(&response).expect("a response").metadata.response_code
        }
    };
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(chaos).await, ResponseCode::Refused);
    assert_eq!(code(query("cluster.local.", RecordType::AXFR)).await, ResponseCode::Refused);
    let mut update = query("cluster.local.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(update).await, ResponseCode::NotImp);
    let mut none = query("cluster.local.", RecordType::A);
    none.queries.clear();
    assert_eq!(code(none).await, ResponseCode::FormErr);
    let mut edns = Edns::new();
    edns.set_version(1);
    let mut newer = query("cluster.local.", RecordType::A);
    newer.set_edns(edns);
    assert_eq!(u16::from(code(newer).await), 16, "BADVERS");
}

/// Every prefix of a query, every byte of it changed, and noise: the server answers the next good query.
#[tokio::test]
async fn broken_packets_break_nothing() {
    let world = World::new().await;
    fill(&world.server);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let good = query("web.default.svc.cluster.local.", RecordType::A).to_vec().expect("a query");
    let mut packets: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    for position in 0..good.len() {
        for value in [0x00, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
            let mut packet = good.clone();
            packet[position] = value;
            packets.push(packet);
        }
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for length in (0..600).step_by(3) {
        let noise = (0..length).map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        });
        packets.push(noise.collect());
    }
    // A name that points at itself.
    let mut looping = good[..12].to_vec();
    looping.extend([0xc0, 12, 0, 1, 0, 1]);
    packets.push(looping);
    for packet in packets {
        socket.send_to(&packet, world.address).await.expect("sent");
        let mut stream = TcpStream::connect(world.address).await.expect("a connection");
        // A server that closes early is right to.
        let _ = stream.write_u16(packet.len() as u16).await;
        let _ = stream.write_all(&packet).await;
    }
    let response = world.ask("web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(response.answers.len(), 1);
}
