//! What aggregated servers say of themselves: discovery and OpenAPI, kept so that ours can be merged with it.
//! Source: `kube-aggregator/pkg/apiserver/handler_discovery.go`, `pkg/controllers/openapi`, `pkg/controllers/openapiv3`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_client::full_body;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::{ApiService, proxy, swagger};
use crate::server::Server;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// OpenAPI documents take their time.
const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const JSON: &str = "application/json";

/// What is known of the server behind one APIService.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    /// `resources` of the version in aggregated discovery.
    pub resources: Value,
    /// The last attempt to read it failed.
    pub stale: bool,
    /// The part of its `/openapi/v2` that is about the version.
    pub swagger: Option<Arc<Value>>,
    /// Where its OpenAPI v3 document is.
    pub v3_url: String,
    discovery_tag: String,
    swagger_tag: String,
}

/// By APIService.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    documents: HashMap<String, Arc<Document>>,
    /// Rises with every change.
    generation: u64,
}

struct Answer {
    status: StatusCode,
    content_type: String,
    tag: String,
    body: Bytes,
}

impl Documents {
    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` while nothing was read yet.
    pub(crate) fn of(&self, name: &str) -> Option<Arc<Document>> {
        self.with(|known| known.documents.get(name).cloned())
    }

    /// Changes whenever a document does.
    pub(crate) fn generation(&self) -> u64 {
        self.with(|known| known.generation)
    }

    fn put(&self, name: &str, document: Document) {
        self.with(|known| {
            known.generation += 1;
            known.documents.insert(name.to_owned(), Arc::new(document));
        });
    }

    /// Forgets servers that are gone.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.with(|known| {
            let before = known.documents.len();
            known.documents.retain(|name, _| keep(name));
            known.generation += u64::from(known.documents.len() != before);
        });
    }

    pub(super) fn mark_stale(&self, name: &str) {
        let document = self.of(name).map(|own| Document::clone(&own)).unwrap_or_default();
        if !document.stale {
            self.put(name, Document { stale: true, ..document });
        }
    }

    /// Reads again what changed.
    pub(super) async fn refresh(&self, server: &Arc<Server>, service: &ApiService) {
        let before = self.of(&service.name).map(|own| Document::clone(&own)).unwrap_or_default();
        let mut document = before.clone();
        document.stale = match discover(server, service, &mut document).await {
            Ok(()) => false,
            Err(why) => {
                tracing::debug!(name = service.name, why, "read the discovery of an aggregated server");
                true
            }
        };
        // Servers may serve no OpenAPI; then there is none to merge.
        if let Err(why) = read_swagger(server, service, &mut document).await {
            tracing::debug!(name = service.name, why, "read the OpenAPI v2 of an aggregated server");
        }
        if let Ok(url) = v3_url(server, service).await {
            document.v3_url = url;
        }
        let same = document.resources == before.resources
            && document.stale == before.stale
            && document.swagger_tag == before.swagger_tag
            && document.v3_url == before.v3_url;
        if !same || self.of(&service.name).is_none() {
            self.put(&service.name, document);
        }
    }
}

async fn get(
    server: &Arc<Server>,
    service: &ApiService,
    path: &str,
    accept: &'static str,
    tag: &str,
    limit: Duration,
) -> Result<Answer, String> {
    let to = service.destination.as_ref().ok_or("it is local")?;
    let url = format!("https://{}{path}", to.authority());
    let mut request = Request::get(url).body(full_body("")).map_err(|error| error.to_string())?;
    proxy::set_user(request.headers_mut(), &super::itself());
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
    if let Ok(tag) = HeaderValue::from_str(tag)
        && !tag.is_empty()
    {
        request.headers_mut().insert(header::IF_NONE_MATCH, tag);
    }
    let exchange = async {
        let answer = server.outgoing.send(to, request).await?;
        let text = |name: header::HeaderName| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (status, content_type, tag) = (answer.status(), text(header::CONTENT_TYPE), text(header::ETAG));
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(Answer { status, content_type, tag, body: body.map_err(|error| error.to_string())?.to_bytes() })
    };
    tokio::time::timeout(limit, exchange).await.map_err(|_| "request timed out".to_owned())?
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

async fn discover(server: &Arc<Server>, service: &ApiService, document: &mut Document) -> Result<(), String> {
    let answer = get(server, service, "/apis", AGGREGATED, &document.discovery_tag, ANSWER_TIME_MAX).await?;
    match answer.status {
        StatusCode::NOT_MODIFIED => return Ok(()),
        StatusCode::SERVICE_UNAVAILABLE => return Err("service unavailable".to_owned()),
        StatusCode::OK if answer.content_type.contains("as=APIGroupDiscoveryList") => {
            let list = parse(&answer.body)?;
            document.resources = in_list(&list, &service.group, &service.version);
            document.discovery_tag = answer.tag;
            return Ok(());
        }
        _ => {}
    }
    let answer = get(server, service, &service.path(), JSON, "", ANSWER_TIME_MAX).await?;
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status));
    }
    document.resources = of_legacy(&parse(&answer.body)?, service);
    document.discovery_tag.clear();
    Ok(())
}

/// The resources of one version in an `APIGroupDiscoveryList`.
fn in_list(list: &Value, group: &str, version: &str) -> Value {
    let items = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let groups = items(list, "items").into_iter().filter(|own| own.name() == group);
    let mut versions = groups.flat_map(|own| items(&own, "versions"));
    let found = versions.find(|own| own.str_at(&["version"]) == version);
    let mut resources = found.map(|own| items(&own, "resources")).unwrap_or_default();
    for resource in &mut resources {
        fill_kind(resource);
        for sub in resource.get_mut("subresources").and_then(Value::as_array_mut).into_iter().flatten() {
            fill_kind(sub);
        }
    }
    resources.into()
}

/// Old clients fail where there is no kind.
fn fill_kind(item: &mut Value) {
    if !item["responseKind"].is_object() {
        item["responseKind"] = json!({"group": "", "version": "", "kind": ""});
    }
}

/// An `APIResourceList` in the words of aggregated discovery. Source: `convertToDiscoveryAPIResources`.
fn of_legacy(list: &Value, service: &ApiService) -> Value {
    let all = list.get("resources").and_then(Value::as_array).into_iter().flatten();
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let kind = |own: &Value| {
        json!({"group": or(own.str_at(&["group"]), &service.group), "version": or(own.str_at(&["version"]), &service.version),
            "kind": own.str_at(&["kind"])})
    };
    let mut found: Vec<Value> = Vec::new();
    for own in all {
        let name = own.str_at(&["name"]);
        let verbs = own.get("verbs").cloned().unwrap_or_else(|| json!([]));
        let Some((parent, sub)) = name.split_once('/') else {
            let scope = if own.get("namespaced") == Some(&Value::Bool(true)) { "Namespaced" } else { "Cluster" };
            let mut item = json!({"resource": name, "responseKind": kind(own), "scope": scope,
                "singularResource": own.str_at(&["singularName"]), "verbs": verbs});
            for field in ["shortNames", "categories"] {
                if let Some(list) = own.get(field).filter(|list| list.is_array()) {
                    item[field] = list.clone();
                }
            }
            found.push(item);
            continue;
        };
        let item = json!({"subresource": sub, "responseKind": kind(own), "verbs": verbs});
        let parent = found.iter_mut().find(|own| own.str_at(&["resource"]) == parent);
        let Some(parent) = parent else { continue };
        match parent.get_mut("subresources").and_then(Value::as_array_mut) {
            Some(list) => list.push(item),
            None => parent["subresources"] = json!([item]),
        }
    }
    found.into()
}

async fn read_swagger(server: &Arc<Server>, service: &ApiService, document: &mut Document) -> Result<(), String> {
    let answer = get(server, service, "/openapi/v2", JSON, &document.swagger_tag, DOCUMENT_TIME_MAX).await?;
    match answer.status {
        StatusCode::NOT_MODIFIED => Ok(()),
        StatusCode::OK => {
            let whole = parse(&answer.body)?;
            document.swagger = Some(Arc::new(swagger::part(&whole, &format!("{}/", service.path()))));
            document.swagger_tag = answer.tag;
            Ok(())
        }
        StatusCode::NOT_FOUND => {
            document.swagger = None;
            document.swagger_tag.clear();
            Ok(())
        }
        other => Err(format!("status {other}")),
    }
}

/// Where the server says that its OpenAPI v3 document is.
async fn v3_url(server: &Arc<Server>, service: &ApiService) -> Result<String, String> {
    let answer = get(server, service, "/openapi/v3", JSON, "", ANSWER_TIME_MAX).await?;
    if answer.status != StatusCode::OK {
        return Ok(String::new());
    }
    let index = parse(&answer.body)?;
    let path = service.path();
    Ok(index.str_at(&["paths", path.trim_start_matches('/'), "serverRelativeURL"]).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_discovery_is_read_as_new() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get", "update"]},
            {"name": "fischers", "singularName": "fischer", "namespaced": false, "kind": "Fischer", "verbs": ["list"]},
        ]});
        let spec = json!({"metadata": {"name": "v1.w"}, "spec": {"group": "w", "version": "v1"}});
        assert_eq!(
            of_legacy(&list, &ApiService::read(&spec)),
            json!([
                {"resource": "flunders", "responseKind": {"group": "w", "version": "v1", "kind": "Flunder"}, "scope": "Namespaced",
                    "singularResource": "flunder", "verbs": ["get"], "shortNames": ["fl"],
                    "subresources": [{"subresource": "status", "responseKind": {"group": "w", "version": "v1", "kind": "Flunder"}, "verbs": ["get", "update"]}]},
                {"resource": "fischers", "responseKind": {"group": "w", "version": "v1", "kind": "Fischer"}, "scope": "Cluster",
                    "singularResource": "fischer", "verbs": ["list"]},
            ])
        );
    }
}
