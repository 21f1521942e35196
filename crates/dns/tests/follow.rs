//! The DNS server follows the API, and makes the Service that leads to it.

#[path = "../../proxy/tests/fake/mod.rs"]
mod fake;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use coracle_dns::{Config, DnsService, Upstreams, ensure_service, run};
use fake::FakeApi;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const LIMIT: Duration = Duration::from_secs(10);

/// Asks until the answer is `wanted`: an address or a response code.
async fn until(server: SocketAddr, name: &str, wanted: &str) {
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    let query = query.to_vec().expect("a query");
    let look = async {
        loop {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            socket.connect(server).await.expect("connected");
            let mut buffer = [0; 1500];
            if socket.send(&query).await.is_err() {
                continue;
            }
            let Ok(size) = socket.recv(&mut buffer).await else { continue };
            let response = Message::from_vec(&buffer[..size]).expect("a response");
            let code = response.metadata.response_code;
            let answer = response.answers.first().map_or(format!("{code:?}"), |record| record.data.to_string());
            if answer == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("the answer");
}

#[tokio::test]
async fn names_come_and_go_with_their_objects() {
    let (api, stop) = (FakeApi::default(), CancellationToken::new());
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    let config = Config { listen: vec![address], upstreams: Upstreams::Fixed(Vec::new()), ..Config::default() };
    let running = tokio::spawn(run(config, api.client(), stop.clone()));
    // The server waits for its address.
    tokio::task::yield_now().await;
    drop(free);
    let name = "web.default.svc.cluster.local.";
    until(address, name, &format!("{:?}", ResponseCode::NXDomain)).await;
    let service = |ip: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip]}})
    };
    api.put(SERVICES, service("10.96.0.1"));
    until(address, name, "10.96.0.1").await;
    api.put(SERVICES, service("None"));
    api.put(
        SLICES,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.5"]}]}),
    );
    until(address, name, "10.244.0.5").await;
    api.delete(SERVICES, "default", "web");
    until(address, name, &format!("{:?}", ResponseCode::NXDomain)).await;
    stop.cancel();
    running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn the_service_is_made_once_and_kept_right() {
    let api = FakeApi::default();
    let mut wanted = DnsService {
        cluster_ip: Ipv4Addr::new(10, 96, 0, 10).into(),
        endpoints: vec![Ipv4Addr::new(10, 244, 0, 1).into()],
        endpoint_port: 53,
        node_name: "node-1".to_owned(),
    };
    ensure_service(&api.client(), &wanted).await.expect("made");
    let service = api.get(SERVICES, "kube-system", "kube-dns").expect("the Service");
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    let slice = api.get(SLICES, "kube-system", "kube-dns-node-1").expect("the slice");
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.244.0.1"]));
    ensure_service(&api.client(), &wanted).await.expect("nothing to do");
    assert_eq!(api.get(SERVICES, "kube-system", "kube-dns"), Some(service), "it is not written again");
    wanted.endpoints = vec![Ipv4Addr::new(10, 244, 7, 1).into()];
    ensure_service(&api.client(), &wanted).await.expect("changed");
    let slice = api.get(SLICES, "kube-system", "kube-dns-node-1").expect("the slice");
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.244.7.1"]));
}
