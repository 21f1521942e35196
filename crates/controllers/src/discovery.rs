//! Which resources the server has.

use coracle_api_meta::{GroupVersion, Gvr, Value};
use coracle_client::{Client, Result};

/// A resource of the server, in its preferred version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub gvr: Gvr,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn has_verbs(&self, wanted: &[&str]) -> bool {
        wanted.iter().all(|wanted| self.verbs.iter().any(|verb| verb == wanted))
    }
}

/// Every resource in its preferred version, and the groups that did not answer.
pub async fn preferred(client: &Client) -> Result<(Vec<Resource>, Vec<String>)> {
    let mut resources = read(client, "/api/v1", &GroupVersion::new("", "v1")).await?;
    let groups = client.get_json("/apis").await?;
    let mut failed = Vec::new();
    for group in groups.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let versions = group.get("versions").and_then(Value::as_array).cloned().unwrap_or_default();
        let preferred = group.pointer("/preferredVersion/groupVersion").and_then(Value::as_str).unwrap_or_default();
        let others = versions.iter().filter_map(|version| version.get("groupVersion").and_then(Value::as_str));
        for text in std::iter::once(preferred).chain(others.filter(|text| *text != preferred)) {
            let Some(version) = GroupVersion::parse(text) else { continue };
            match read(client, &format!("/apis/{text}"), &version).await {
                Ok(more) => {
                    for resource in more {
                        let known = |own: &Resource| {
                            own.gvr.group == resource.gvr.group && own.gvr.resource == resource.gvr.resource
                        };
                        if !resources.iter().any(known) {
                            resources.push(resource);
                        }
                    }
                }
                Err(error) => failed.push(format!("{text}: {error}")),
            }
        }
    }
    Ok((resources, failed))
}

async fn read(client: &Client, path: &str, version: &GroupVersion) -> Result<Vec<Resource>> {
    let list = client.get_json(path).await?;
    let rows = list.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = |row: &Value| Resource {
        gvr: Gvr::new(&version.group, &version.version, text(row, "name")),
        kind: text(row, "kind"),
        namespaced: row.get("namespaced").and_then(Value::as_bool).unwrap_or_default(),
        verbs: row
            .get("verbs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|verb| verb.as_str().map(str::to_owned))
            .collect(),
    };
    Ok(rows.iter().map(resource).filter(|resource| !resource.gvr.resource.contains('/')).collect())
}
