//! The demonstration of `up --demo`: an image from this binary, a Deployment, a Service, and a call by DNS name.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use coracle_api_meta::{Gvr, Value, object::ObjectExt as _};
use coracle_client::{Client, DynamicApi, ListParams, Patch, PatchParams, WatchEvent};
use coracle_image::{NewFile, ProcessConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::Cluster;

const IMAGE: &str = "coracle.local/demo:1";
const NAME: &str = "demo.default.svc.cluster.local";
const STEP_TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of the demo's answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What the demo saw.
#[derive(Debug, Clone)]
pub struct Shown {
    pub name: &'static str,
    pub answer: String,
    /// What was done, and the milliseconds it took.
    pub timings: Vec<(&'static str, u128)>,
}

/// Deploys the demo and calls it.
pub async fn deploy(cluster: &Cluster) -> Result<Shown> {
    let node = cluster.node().context("no pods run here")?;
    let mut timings = Vec::new();
    let mut lap = Lap(Instant::now());
    let images = node.runtime.images().clone();
    tokio::task::spawn_blocking(move || make_image(&images)).await??;
    timings.push(("image made from this binary", lap.millis()));
    let client = cluster.admin();
    apply(&client).await?;
    timings.push(("Deployment and Service applied", lap.millis()));
    wait_available(&client).await?;
    timings.push(("two replicas available", lap.millis()));
    let server = SocketAddr::new(cluster.names().dns, 53);
    let answer = tokio::time::timeout(STEP_TIME_MAX, call(server)).await.context("call the demo")??;
    timings.push(("called through DNS and Service", lap.millis()));
    Ok(Shown { name: NAME, answer, timings })
}

struct Lap(Instant);

impl Lap {
    fn millis(&mut self) -> u128 {
        let passed = self.0.elapsed().as_millis();
        self.0 = Instant::now();
        passed
    }
}

fn make_image(images: &coracle_image::ImageStore) -> Result<()> {
    let binary = coracle_image::NewContent::CopyOf("/proc/self/exe".into());
    let files = [NewFile { path: "coracle".to_owned(), content: binary, mode: 0o755 }];
    let process =
        ProcessConfig { entrypoint: vec!["/coracle".to_owned(), "demo-web".to_owned()], ..ProcessConfig::default() };
    images.import_single_layer(IMAGE, &files, process)?;
    Ok(())
}

async fn apply(client: &Client) -> Result<()> {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "demo"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "demo"}},
            "template": {
                "metadata": {"labels": {"app": "demo"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "web", "image": IMAGE, "imagePullPolicy": "Never",
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                }]},
            },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo"},
        "spec": {"selector": {"app": "demo"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    let params = PatchParams::apply("coracle-demo");
    for (gvr, object) in
        [(Gvr::new("apps", "v1", "deployments"), deployment), (Gvr::new("", "v1", "services"), service)]
    {
        let api = DynamicApi::namespaced(client, &gvr, "default");
        api.patch("demo", "", &Patch::Apply(object), &params).await?;
    }
    Ok(())
}

async fn wait_available(client: &Client) -> Result<()> {
    let api = DynamicApi::namespaced(client, &Gvr::new("apps", "v1", "deployments"), "default");
    let params = ListParams::default().fields("metadata.name=demo");
    let wait = async {
        let mut stream = api.watch(&params).await?;
        while let Some(event) = stream.next().await? {
            let (WatchEvent::Added(bytes) | WatchEvent::Modified(bytes)) = event else { continue };
            let deployment: Value = serde_json::from_slice(&bytes)?;
            if deployment.at(&["status", "availableReplicas"]).and_then(Value::as_i64) == Some(2) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(STEP_TIME_MAX, wait).await.context("wait for the replicas")?
}

async fn call(dns: SocketAddr) -> Result<String> {
    let mut last = None;
    // The rules of a new Service are there a moment after the Service.
    for _ in 0..50 {
        match once(dns).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no answer")))
}

async fn once(dns: SocketAddr) -> Result<String> {
    let address = resolve(dns, NAME).await?;
    let mut stream = TcpStream::connect((address, 80)).await.with_context(|| format!("connect to {address}"))?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    Ok(body.to_owned())
}

/// Asks a DNS server for the first A record of a name (RFC 1035), again until it answers.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> Result<IpAddr> {
    const TRIES: usize = 100;
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    let query = query(name);
    let mut buffer = [0; 512];
    for _ in 0..TRIES {
        if socket.send_to(&query, server).await.is_ok() {
            let received = tokio::time::timeout(Duration::from_millis(100), socket.recv_from(&mut buffer)).await;
            if let Ok(Ok((len, _))) = received
                && let Some(address) = buffer.get(..len).and_then(|answer| first_address(answer, query.len()))
            {
                return Ok(address);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{server} does not know {name}")
}

fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x0c, 0x0a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// The A record that follows the question; the name before it is a pointer or as long as the question's.
fn first_address(answer: &[u8], question_end: usize) -> Option<IpAddr> {
    if answer.get(..2)? != [0x0c, 0x0a] || answer.get(6..8)? == [0, 0] {
        return None;
    }
    let record = answer.get(question_end..)?;
    let name_len = if record.first()? & 0xc0 == 0xc0 { 2 } else { question_end - 12 - 4 };
    let record = record.get(name_len..)?;
    if record.get(..4)? != [0, 1, 0, 1] {
        return None;
    }
    let bytes: [u8; 4] = record.get(10..14)?.try_into().ok()?;
    Some(IpAddr::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let question = query("a.b");
        let mut answer = question.clone();
        answer.get_mut(6..8).expect("header").copy_from_slice(&[0, 1]);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
        assert_eq!(first_address(&answer, question.len()), Some(IpAddr::from([10, 96, 0, 1])));
        assert_eq!(first_address(&question, question.len()), None);
        for cut in 0..answer.len() {
            assert_eq!(first_address(&answer[..cut], question.len()), None);
        }
    }
}
