//! A registry of our own: bearer tokens, redirects to another host, downloads that break off, several platforms.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use coracle_image::{Config, Credentials, Digest, ImageStore};

/// What was asked: method, path, and the headers that matter.
type Seen = Arc<Mutex<Vec<String>>>;

struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

struct Reply {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection breaks.
    breaks_after: Option<usize>,
}

fn reply(status: &'static str, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into(), breaks_after: None }
}

/// Serves every connection until the test ends; returns the address.
fn serve(seen: Seen, answer: impl Fn(&Request, &str) -> Reply + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(request) = read(&stream) else { continue };
            let (auth, range) = (request.headers.get("authorization"), request.headers.get("range"));
            let extra = [auth, range].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            seen.lock().unwrap().push(format!("{} {extra}", request.path).trim().to_owned());
            write(stream, answer(&request, &own));
        }
    });
    address
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { path, headers })
}

fn write(mut stream: TcpStream, reply: Reply) {
    let mut head =
        format!("HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let end = reply.breaks_after.unwrap_or(reply.body.len());
    stream.write_all(format!("{head}\r\n").as_bytes()).ok();
    stream.write_all(&reply.body[..end]).ok();
}

fn layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let content = (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", content.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn tokens_redirects_and_platforms() {
    let layer = layer();
    let digest = Digest::of(&layer);
    let own = coracle_host::info::architecture();
    let config = serde_json::json!({"architecture": own, "os": "linux", "config": {"Cmd": ["/file"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]}})
    .to_string();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "digest": digest, "size": layer.len()}]})
    .to_string();
    let entry = |architecture: &str, of: &str| {
        serde_json::json!({"digest": Digest::of(of.as_bytes()), "size": of.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index =
        serde_json::json!({"schemaVersion": 2, "manifests": [entry("s390x", "x"), entry(own, &manifest)]}).to_string();

    let seen = Seen::default();
    let (elsewhere_seen, body) = (Seen::default(), layer.clone());
    let elsewhere = serve(elsewhere_seen.clone(), move |request, _| {
        let from = request.headers.get("range").map(|range| range.trim_start_matches("bytes=").trim_end_matches('-'));
        let from = from.map_or(0, |from| from.parse::<usize>().unwrap());
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let breaks_after = (from == 0).then_some(body.len() / 3);
        Reply { breaks_after, ..reply(status, &body[from..]) }
    });
    let documents = BTreeMap::from([
        ("/v2/team/app/manifests/v1".to_owned(), index.clone()),
        (format!("/v2/team/app/manifests/{}", Digest::of(manifest.as_bytes())), manifest.clone()),
        (format!("/v2/team/app/blobs/{}", Digest::of(config.as_bytes())), config.clone()),
    ]);
    let address = serve(seen.clone(), move |request, own| {
        if request.path.starts_with("/token?") {
            return reply("200 OK", r#"{"token": "the-token"}"#);
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer the-token") {
            let challenge =
                format!("Bearer realm=\"http://{own}/token\",service=\"test\",scope=\"repository:team/app:pull\"");
            let headers = vec![("www-authenticate".to_owned(), challenge)];
            return Reply { headers, ..reply("401 Unauthorized", "") };
        }
        match documents.get(&request.path) {
            Some(document) => reply("200 OK", document.as_bytes()),
            None => {
                let headers = vec![("location".to_owned(), format!("http://{elsewhere}/blob"))];
                Reply { headers, ..reply("307 Temporary Redirect", "") }
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(Config { dir: dir.path().into(), ..Config::default() }).unwrap();
    let me = Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() };
    let record = store.pull(&format!("{address}/team/app:v1"), &me).await.unwrap();
    assert_eq!(record.layers, [digest]);
    assert_eq!(record.digests.first().unwrap(), &format!("{address}/team/app@{}", Digest::of(index.as_bytes())));
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().any(|line| line == "/token?scope=repository%3Ateam%2Fapp%3Apull&service=test Basic bWU6c2VjcmV0"),
        "{seen:?}"
    );
    assert_eq!(seen.iter().filter(|line| line.starts_with("/token")).count(), 1, "{seen:?}");
    // The other host hears no credentials, and goes on where it broke off.
    let expected = ["/blob".to_owned(), format!("/blob bytes={}-", layer.len() / 3)];
    assert_eq!(*elsewhere_seen.lock().unwrap(), expected);
}
