//! What the server serves, and what the user means by a word.

use anyhow::{Result, bail};
use bytes::Bytes;
use coracle_api_meta::{Gvk, Gvr, Value};
use coracle_client::{Client, DynamicApi};
use http::{Request, header};

use super::connection::worded;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;q=0.5";

/// One resource of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub gvr: Gvr,
    pub kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub subresources: Vec<String>,
}

impl Resource {
    pub fn api(&self, client: &Client, namespace: &str) -> DynamicApi {
        if self.namespaced {
            DynamicApi::namespaced(client, &self.gvr, namespace)
        } else {
            DynamicApi::all(client, &self.gvr)
        }
    }

    /// `deployment.apps/web`
    pub fn named(&self, name: &str) -> String {
        if self.gvr.group.is_empty() {
            format!("{}/{name}", self.singular)
        } else {
            format!("{}.{}/{name}", self.singular, self.gvr.group)
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        word == self.gvr.resource
            || word == self.singular
            || self.short_names.iter().any(|short| short == word)
            || word.eq_ignore_ascii_case(&self.kind)
    }
}

/// Every resource, the preferred version of each group first, groups in the server's order.
pub struct Discovery {
    resources: Vec<Resource>,
}

impl Discovery {
    pub async fn load(client: &Client) -> Result<Self> {
        let mut resources = Vec::new();
        for path in ["/api", "/apis"] {
            let request = Request::get(path).header(header::ACCEPT, AGGREGATED).body(Bytes::new())?;
            let document: Value = serde_json::from_slice(&client.request(request).await.map_err(worded)?)?;
            for group in list(&document, "items") {
                let name = text(group.get("metadata"), "name");
                for version in list(group, "versions") {
                    let rows = list(version, "resources");
                    resources.extend(rows.filter_map(|row| resource(name, text(Some(version), "version"), row)));
                }
            }
        }
        if resources.is_empty() {
            bail!("the server does not offer aggregated discovery (Kubernetes 1.30 or newer does)");
        }
        Ok(Self { resources })
    }

    /// The resource that a word means: `deploy`, `deployments.apps`, `deployments.v1.apps`, `Deployment`.
    pub fn find(&self, word: &str) -> Result<&Resource> {
        let word = &word.to_lowercase();
        let (name, rest) = word.split_once('.').unwrap_or((word, ""));
        let fits = |resource: &&Resource| {
            let gvr = &resource.gvr;
            rest.is_empty() || rest == gvr.group || rest == format!("{}.{}", gvr.version, gvr.group)
        };
        let found = self.resources.iter().find(|resource| resource.answers_to(name) && fits(resource));
        found.ok_or_else(|| anyhow::anyhow!("error: the server doesn't have a resource type {name:?}"))
    }

    pub fn find_kind(&self, gvk: &Gvk) -> Option<&Resource> {
        self.resources.iter().find(|resource| {
            resource.kind == gvk.kind && resource.gvr.group == gvk.group && resource.gvr.version == gvk.version
        })
    }

    /// All resources of a category such as `all`, each group's preferred version only.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        let mut found: Vec<&Resource> = Vec::new();
        for resource in self.resources.iter().filter(|resource| resource.categories.iter().any(|own| own == name)) {
            let known = |other: &&Resource| {
                other.gvr.group == resource.gvr.group && other.gvr.resource == resource.gvr.resource
            };
            if !found.iter().any(known) {
                found.push(resource);
            }
        }
        found
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: Option<&'a Value>, field: &str) -> &'a str {
    value.and_then(|value| value.get(field)).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    list(value, field).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn resource(group: &str, version: &str, row: &Value) -> Option<Resource> {
    let plural = text(Some(row), "resource");
    let kind = text(row.get("responseKind"), "kind").to_owned();
    if plural.is_empty() || kind.is_empty() {
        return None;
    }
    let singular = match text(Some(row), "singularResource") {
        "" => kind.to_lowercase(),
        singular => singular.to_owned(),
    };
    Some(Resource {
        gvr: Gvr::new(group, version, plural),
        kind,
        singular,
        short_names: texts(row, "shortNames"),
        categories: texts(row, "categories"),
        namespaced: text(Some(row), "scope") == "Namespaced",
        subresources: list(row, "subresources").map(|sub| text(Some(sub), "subresource").to_owned()).collect(),
    })
}
