//! Custom resources from the version that they are stored in to the one that is asked for, and back.
//!
//! Reading also prunes and defaults by the stored version's schema, since the definition may have changed after the object
//! was written. What reading made of an entry is kept with the entry. Webhooks are asked before ([`warm`]), for many objects
//! at once; the readers of bytes themselves never wait.
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/conversion`, `customresource_handler.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Map, Status, Value, names};
use coracle_store::Entry;
use serde_json::json;

use super::definition::{Definition, Webhook};
use super::fields::Facts;
use super::resources::{Custom, Resource};
use super::storage;
use crate::server::Server;
use crate::time;

const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Objects that go into one review.
const REVIEW_OBJECTS_MAX: usize = 500;

/// The bytes of an entry as a row serves them.
pub(crate) fn served(resource: &Resource, custom: &Custom, entry: &Entry) -> Result<Bytes, Status> {
    let definition = &custom.definition;
    if definition.serves_as_stored(custom.version, entry) {
        return Ok(entry.value.clone());
    }
    let facts = Facts::of(resource, entry);
    if let Some(known) = facts.form(definition, custom.version) {
        return Ok(known.unwrap_or_else(|| entry.value.clone()));
    }
    let from = definition.version_of(&entry.value);
    let before = storage::parse(&entry.value)?;
    let mut object = as_stored(definition, from, before.clone());
    if from != Some(custom.version) {
        if definition.webhook.is_some() {
            return Err(failed(definition, from, "the webhook was not asked"));
        }
        rename(definition, custom.version, &mut object);
    }
    let bytes = (object != before).then(|| Bytes::from(object.to_string()));
    facts.keep_form(definition, custom.version, bytes.clone());
    Ok(bytes.unwrap_or_else(|| entry.value.clone()))
}

/// An entry needs no rewriting: it is in the version to store, and reading changes nothing.
pub(crate) fn is_stored_well(resource: &Resource, entry: &Entry) -> bool {
    let Some(custom) = &resource.custom else { return true };
    let definition = &custom.definition;
    if definition.version_of(&entry.value) != Some(definition.storage) {
        return false;
    }
    definition.serves_as_stored(definition.storage, entry)
        || custom.version != definition.storage
        || served(resource, custom, entry).is_ok_and(|bytes| bytes == entry.value)
}

/// Pruned and defaulted by the version that it was stored in.
fn as_stored(definition: &Definition, from: Option<usize>, mut object: Value) -> Value {
    if let Some(compiled) = from.and_then(|from| definition.compiled(from)) {
        compiled.prune(&mut object);
        compiled.default(&mut object);
    }
    object
}

/// Conversion without a webhook: the name of the version is all that differs.
fn rename(definition: &Definition, to: usize, object: &mut Value) {
    let Some(version) = definition.versions.get(to) else { return };
    object["apiVersion"] = version.api_version.as_str().into();
    if let Some(compiled) = definition.compiled(to) {
        compiled.prune(object);
    }
}

/// Asks the webhook for what a row will serve of these entries, where there is one.
pub(crate) async fn warm(server: &Server, resource: &Resource, entries: &[Arc<Entry>]) -> Result<(), Status> {
    let Some(custom) = &resource.custom else { return Ok(()) };
    let definition = &custom.definition;
    if definition.webhook.is_none() {
        return Ok(());
    }
    let mut waiting = Vec::new();
    for entry in entries {
        let from = definition.version_of(&entry.value);
        if from == Some(custom.version) || Facts::of(resource, entry).form(definition, custom.version).is_some() {
            continue;
        }
        waiting.push((entry, as_stored(definition, from, storage::parse(&entry.value)?)));
    }
    while !waiting.is_empty() {
        let batch: Vec<(&Arc<Entry>, Value)> = waiting.drain(..waiting.len().min(REVIEW_OBJECTS_MAX)).collect();
        let (entries, objects): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let converted = ask(server, definition, custom.version, objects).await?;
        for (entry, object) in entries.into_iter().zip(converted) {
            Facts::of(resource, entry).keep_form(definition, custom.version, Some(object.to_string().into()));
        }
    }
    Ok(())
}

/// The object in the version that is stored.
pub(crate) async fn to_stored(server: &Server, resource: &Resource, object: &Value) -> Result<Value, Status> {
    let Some(custom) = &resource.custom else { return Ok(object.clone()) };
    to_version(server, custom, custom.definition.storage, object.clone()).await
}

/// An object of one row in the form of another row of the same definition.
pub(crate) async fn between(server: &Server, from: &Resource, to: &Resource, object: Value) -> Result<Value, Status> {
    match (&from.custom, &to.custom) {
        (Some(custom), Some(other)) => to_version(server, custom, other.version, object).await,
        _ => Ok(object),
    }
}

async fn to_version(server: &Server, custom: &Custom, to: usize, mut object: Value) -> Result<Value, Status> {
    let definition = &custom.definition;
    if to == custom.version {
        return Ok(object);
    }
    if definition.webhook.is_none() {
        rename(definition, to, &mut object);
        return Ok(object);
    }
    let converted = ask(server, definition, to, vec![object]).await?;
    converted.into_iter().next().ok_or_else(|| Status::internal("a conversion gave nothing"))
}

fn failed(definition: &Definition, from: Option<usize>, why: &str) -> Status {
    let version = from.and_then(|from| definition.versions.get(from));
    let api_version = version.map_or("", |version| version.api_version.as_str());
    Status::failure(500, "", format!("conversion webhook for {api_version}, Kind={} failed: {why}", definition.kind))
}

/// Has objects converted by the webhook of their definition.
async fn ask(server: &Server, definition: &Definition, to: usize, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
    let from = objects
        .first()
        .and_then(|own| definition.versions.iter().position(|version| version.api_version == own.api_version()));
    let fail = |why: &str| failed(definition, from, why);
    let webhook = match &definition.webhook {
        Some(Ok(webhook)) => webhook,
        Some(Err(why)) => return Err(fail(why)),
        None => return Err(fail("there is none")),
    };
    let wanted = definition.versions.get(to).map(|version| version.api_version.as_str()).unwrap_or_default();
    let Some(version) = webhook.review_version else {
        return Err(Status::failure(500, "", "no supported conversion review versions"));
    };
    let converted = exchange(server, webhook, version, wanted, &objects).await.map_err(|why| fail(&why))?;
    let start = format!(
        "conversion webhook for {}, Kind={}",
        objects.first().map_or("", |own| own.api_version()),
        definition.kind
    );
    let bad = |why: String| Status::failure(500, "", format!("{start} {why}"));
    if converted.len() != objects.len() {
        return Err(bad(format!("returned {} objects, expected {}", converted.len(), objects.len())));
    }
    let many = objects.len() > 1;
    let mut checked = Vec::with_capacity(converted.len());
    for (index, (original, converted)) in objects.iter().zip(converted).enumerate() {
        let mut object = accept(original, converted, wanted).map_err(|refusal| bad(refusal.told(index, many)))?;
        if let Some(compiled) = definition.compiled(to) {
            compiled.prune(&mut object);
        }
        checked.push(object);
    }
    Ok(checked)
}

/// One review, there and back.
async fn exchange(
    server: &Server,
    webhook: &Webhook,
    version: &str,
    wanted: &str,
    objects: &[Value],
) -> Result<Vec<Value>, String> {
    let uid = time::uid();
    let api_version = format!("apiextensions.k8s.io/{version}");
    let review = json!({"kind": "ConversionReview", "apiVersion": api_version,
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects}});
    let mut answer = server.outgoing.call_hook(&webhook.hook, &review, CALL_TIME_MAX, false).await?;
    let (own_version, own_kind) = (answer.api_version().to_owned(), answer.kind().to_owned());
    if version == "v1" && (own_version != api_version || own_kind != "ConversionReview") {
        return Err(format!(
            "expected webhook response of {api_version}, Kind=ConversionReview, got {own_version}, Kind={own_kind}"
        ));
    }
    let response = answer.get_mut("response").filter(|response| response.is_object());
    let response = response.ok_or("no response provided")?;
    let own = response.str_at(&["uid"]);
    if version == "v1" && own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    let status = response.str_at(&["result", "status"]);
    if status != "Success" {
        let message = response.str_at(&["result", "message"]);
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(response["convertedObjects"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// What is wrong with a converted object.
enum Refusal {
    Object(String),
    Metadata(String),
}

impl Refusal {
    fn told(self, index: usize, many: bool) -> String {
        match (self, many) {
            (Self::Object(why), true) => format!("returned invalid converted object at index {index}: {why}"),
            (Self::Object(why), false) if why.starts_with("invalid ") => {
                format!("returned invalid object at index 0: {why}")
            }
            (Self::Object(why), false) => format!("returned invalid object: {why}"),
            (Self::Metadata(why), true) => format!("returned invalid metadata in object at index {index}: {why}"),
            (Self::Metadata(why), false) => format!("returned invalid metadata: {why}"),
        }
    }
}

/// A converted object with the metadata of the original: labels and annotations are all that a conversion may change.
fn accept(original: &Value, mut converted: Value, wanted: &str) -> Result<Value, Refusal> {
    if converted.api_version() != wanted {
        let why = format!("invalid groupVersion (expected {wanted}, received {})", converted.api_version());
        return Err(Refusal::Object(why));
    }
    if converted.kind() != original.kind() {
        let why = format!("invalid kind (expected {}, received {})", original.kind(), converted.kind());
        return Err(Refusal::Object(why));
    }
    let same = [
        ("name", original.name(), converted.name()),
        ("namespace", original.namespace(), converted.namespace()),
        ("UID", original.uid(), converted.uid()),
    ];
    for (what, wanted, found) in same {
        if wanted != found {
            return Err(Refusal::Object(format!("must have the same {what}: {wanted} != {found}")));
        }
    }
    let metadata = match converted.get("metadata") {
        None => return Err(Refusal::Metadata("missing metadata in converted object".to_owned())),
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(_) => return Err(Refusal::Metadata("invalid metadata in converted object".to_owned())),
    };
    let mut kept = original.meta().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        carry(&metadata, &mut kept, field).map_err(Refusal::Metadata)?;
    }
    // Fields in the order of stored objects: kind, version, metadata first.
    let mut object = Map::new();
    object.insert("kind".to_owned(), converted["kind"].take());
    object.insert("apiVersion".to_owned(), converted["apiVersion"].take());
    object.insert("metadata".to_owned(), Value::Object(kept));
    if let Value::Object(fields) = converted {
        for (field, value) in fields {
            object.entry(field).or_insert(value);
        }
    }
    Ok(Value::Object(object))
}

/// Takes labels or annotations over from the converted object.
fn carry(from: &Map, to: &mut Map, field: &str) -> Result<(), String> {
    let new = match from.get(field) {
        None | Some(Value::Null) => {
            to.shift_remove(field);
            return Ok(());
        }
        Some(Value::Object(new)) => new,
        Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
    };
    if let Some((key, _)) = new.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
    }
    let path = FieldPath::new("metadata").child(field);
    for (key, value) in new.iter().filter(|_| to.get(field).and_then(Value::as_object) != Some(new)) {
        let mut wrong = names::is_qualified_name(&key.to_lowercase());
        let mut shown = key.as_str();
        if field == "labels" && wrong.is_empty() {
            shown = value.as_str().unwrap_or_default();
            wrong = names::is_label_value(shown);
        }
        if let Some(why) = wrong.into_iter().next() {
            return Err(FieldError::invalid(&path, shown, why).to_string());
        }
    }
    to.insert(field.to_owned(), Value::Object(new.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_may_change_labels_and_annotations_alone() {
        let original = json!({"kind": "Tab", "apiVersion": "e.x/v1", "metadata": {"name": "a", "uid": "u", "labels": {"a": "1"},
            "finalizers": ["f"]}, "spec": {"x": 1}});
        let with = |change: Value| {
            let mut converted = original.clone();
            converted["apiVersion"] = "e.x/v2".into();
            for (field, value) in change.as_object().into_iter().flatten() {
                converted[field] = value.clone();
            }
            accept(&original, converted, "e.x/v2").map_err(|refusal| refusal.told(3, true))
        };
        let good = with(
            json!({"metadata": {"name": "a", "uid": "u", "labels": {"b": "2"}, "finalizers": []}, "spec": {"y": 1}}),
        );
        let expected = json!({"kind": "Tab", "apiVersion": "e.x/v2", "metadata": {"name": "a", "uid": "u", "labels": {"b": "2"},
            "finalizers": ["f"]}, "spec": {"y": 1}});
        assert_eq!(good, Ok(expected));
        let told = |change: Value| with(change).expect_err("refused");
        let start = "returned invalid converted object at index 3";
        assert_eq!(
            told(json!({"apiVersion": "e.x/v3"})),
            format!("{start}: invalid groupVersion (expected e.x/v2, received e.x/v3)")
        );
        assert_eq!(told(json!({"kind": "Tub"})), format!("{start}: invalid kind (expected Tab, received Tub)"));
        assert_eq!(
            told(json!({"metadata": {"name": "b", "uid": "u"}})),
            format!("{start}: must have the same name: a != b")
        );
        assert_eq!(
            told(json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "not good"}}})).split(": a valid").next(),
            Some("returned invalid metadata in object at index 3: metadata.labels: Invalid value: \"not good\"")
        );
    }
}
