//! An API server of a few lines: objects by path, lists and watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coracle_client::{Body, BoxError, Client, Transport, TransportError, full_body};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Frame = Result<http_body::Frame<Bytes>, BoxError>;

#[derive(Default)]
struct State {
    version: u64,
    /// By collection path (`/api/v1/services`), then by `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    watchers: Vec<(String, mpsc::UnboundedSender<Frame>)>,
}

/// Knows no selectors and no conflicts.
#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
}

impl FakeApi {
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    /// Creates or changes an object of a collection such as `/api/v1/services`.
    pub fn put(&self, collection: &str, mut object: Value) {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let objects = state.objects.entry(collection.to_owned()).or_default();
        let before = objects.insert(key(&object), object.clone());
        state.tell(collection, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    #[allow(dead_code, reason = "not every test that includes this file deletes")]
    pub fn delete(&self, collection: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        let removed = state.objects.get_mut(collection).and_then(|of| of.remove(&format!("{namespace}/{name}")));
        if let Some(object) = removed {
            state.tell(collection, "DELETED", &object);
        }
    }

    #[allow(dead_code, reason = "not every test that includes this file looks")]
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().expect("no panic");
        state.objects.get(collection)?.get(&format!("{namespace}/{name}")).cloned()
    }

    fn list(&self, collection: &str) -> Value {
        let state = self.state.lock().expect("no panic");
        let items: Vec<Value> = state.objects.get(collection).into_iter().flat_map(BTreeMap::values).cloned().collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items})
    }

    fn watch(&self, collection: &str) -> Body {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        self.state.lock().expect("no panic").watchers.push((collection.to_owned(), sender));
        let frames = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        StreamBody::new(frames).boxed_unsync()
    }
}

impl State {
    fn tell(&mut self, collection: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.watchers.retain(|(of, watcher)| {
            of != collection || watcher.send(Ok(http_body::Frame::data(Bytes::from(line.clone())))).is_ok()
        });
    }
}

fn key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part("namespace"), part("name"))
}

/// `/api/v1/namespaces/x/services/y` to the collection of all namespaces, and the object.
fn split(path: &str) -> (String, Option<(String, String)>) {
    let Some((root, rest)) = path.split_once("/namespaces/") else { return (path.to_owned(), None) };
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        [_, resource] => (format!("{root}/{resource}"), None),
        [namespace, resource, name] => {
            (format!("{root}/{resource}"), Some(((*namespace).to_owned(), (*name).to_owned())))
        }
        _ => (path.to_owned(), None),
    }
}

#[async_trait]
impl Transport for FakeApi {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let (collection, object) = split(request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let found = |value: Value| Response::new(full_body(value.to_string()));
        Ok(match (request.method(), object) {
            (&Method::GET, None) if query.contains("watch=") => Response::new(self.watch(&collection)),
            (&Method::GET, None) => found(self.list(&collection)),
            (&Method::GET, Some((namespace, name))) => match self.get(&collection, &namespace, &name) {
                Some(object) => found(object),
                None => not_found(),
            },
            (&Method::POST | &Method::PUT, _) => {
                let object: Value = serde_json::from_slice(request.body()).expect("JSON");
                self.put(&collection, object.clone());
                found(object)
            }
            _ => not_found(),
        })
    }
}

fn not_found() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "not found", "reason": "NotFound", "code": 404});
    let mut response = Response::new(full_body(status.to_string()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
