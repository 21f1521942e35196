//! Lists: a header, the stored bytes of each item, commas.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api_meta::{Status, Value};
use coracle_store::{Entry, Range, Revision, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::selection::Selection;
use super::stream::Item;
use super::{Target, conversion, forms, objects, storage, stream};
use crate::http::negotiate::{Accept, Encoding, Form, JSON};
use crate::http::{Ctx, Reply, reply};

const EXPIRED_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// -1: at the latest revision, whatever the pages before showed.
    rv: i64,
    /// The last name that was shown.
    start: String,
}

impl Continue {
    fn encode(rv: i64, start: &str) -> String {
        let token = Self { v: "meta.k8s.io/v1".to_owned(), rv, start: start.to_owned() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &dyn std::fmt::Display| Status::bad_request(format!("invalid continue token: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| bad(&error))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(bad(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        Ok(token)
    }
}

/// A page of a collection.
pub(crate) struct Listed {
    pub entries: Vec<Arc<Entry>>,
    pub revision: Revision,
    continue_token: String,
    remaining: Option<usize>,
}

struct Plan {
    at: Option<Revision>,
    after: Option<String>,
    limit: usize,
}

fn invalid(field: &str, detail: &str) -> Status {
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {detail}");
    let mut status = Status::failure(422, coracle_api_meta::reason::INVALID, message);
    status.details = Some(coracle_api_meta::StatusDetails {
        group: "meta.k8s.io".to_owned(),
        kind: "ListOptions".to_owned(),
        ..Default::default()
    });
    status
}

/// Source: `ValidateListOptions` of `k8s.io/apimachinery/pkg/apis/meta/internalversion/validation`.
fn plan(ctx: &Ctx) -> Result<Plan, Status> {
    let query = &ctx.query;
    let limit = usize::try_from(query.number("limit").unwrap_or(0)).unwrap_or(0);
    let matching = query.get("resourceVersionMatch");
    let text = query.get("resourceVersion");
    if query.has("sendInitialEvents") {
        return Err(invalid("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"));
    }
    let token = query.get("continue");
    if !token.is_empty() {
        if !matching.is_empty() {
            return Err(invalid(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !text.is_empty() && text != "0" {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Continue::decode(token)?;
        let at = u64::try_from(token.rv).ok().map(Revision);
        return Ok(Plan { at, after: Some(token.start), limit });
    }
    let wanted = storage::revision(text)?;
    let latest = ctx.server.store.local_revision();
    match (matching, wanted) {
        ("", None) => {}
        (_, None) => {
            return Err(invalid(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        ("Exact", Some(Revision(0))) => {
            return Err(invalid(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        ("" | "NotOlderThan" | "Exact", Some(wanted)) if wanted > latest => {
            return Err(storage::too_large(wanted.0, latest.0));
        }
        ("Exact", Some(wanted)) => return Ok(Plan { at: Some(wanted), after: None, limit }),
        ("" | "NotOlderThan", Some(_)) => {}
        (other, _) => {
            return Err(invalid(
                "resourceVersionMatch",
                &format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""),
            ));
        }
    }
    Ok(Plan { at: None, after: None, limit })
}

/// The page that a request asks for.
async fn page(ctx: &Ctx, target: &Target, selection: &Selection) -> Result<Listed, Status> {
    let plan = plan(ctx)?;
    let everything = selection.is_everything();
    let range = Range {
        collection: Arc::clone(&target.resource.collection),
        prefix: selection.prefix.clone(),
        after: plan.after.clone(),
        limit: if everything { plan.limit } else { 0 },
        at: plan.at,
    };
    let page = match ctx.server.store.range(range).await {
        Ok(page) => page,
        Err(StoreError::Compacted { .. }) if plan.after.is_some() => return Err(expired_token(&plan)),
        Err(error) => return Err(storage::failed(&error)),
    };
    let mut remaining = page.remaining;
    let mut entries = page.entries;
    conversion::warm(&ctx.server, &target.resource, &entries).await?;
    if !everything {
        entries.retain(|entry| selection.holds(&target.resource, entry));
        if plan.limit > 0 && entries.len() > plan.limit {
            remaining = entries.len() - plan.limit;
            entries.truncate(plan.limit);
        }
    }
    let more = if remaining > 0 { entries.last() } else { None };
    let rv = i64::try_from(page.revision.0).unwrap_or(i64::MAX);
    Ok(Listed {
        continue_token: more.map(|last| Continue::encode(rv, last.name())).unwrap_or_default(),
        remaining: (remaining > 0 && everything).then_some(remaining),
        revision: page.revision,
        entries,
    })
}

fn expired_token(plan: &Plan) -> Status {
    let mut status = Status::expired(EXPIRED_CONTINUE);
    status.metadata.continue_ = Continue::encode(-1, plan.after.as_deref().unwrap_or_default());
    status
}

fn list_meta(listed: &Listed) -> Value {
    let mut meta = json!({"resourceVersion": listed.revision.to_string()});
    if !listed.continue_token.is_empty() {
        meta["continue"] = listed.continue_token.as_str().into();
    }
    if let Some(remaining) = listed.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    meta
}

pub(crate) async fn list(ctx: &Ctx, target: &Target) -> Result<Reply, Status> {
    let accept = ctx.accept()?;
    let selection = Selection::read(target, &ctx.query)?;
    let listed = page(ctx, target, &selection).await?;
    let resource = &target.resource;
    if let Some(streamed) = streamed(ctx, target, &accept, &listed).await? {
        return Ok(streamed);
    }
    let items = || listed.entries.iter().map(|entry| storage::object(resource, entry)).collect::<Result<Vec<_>, _>>();
    let body = match accept.form {
        Form::Whole => whole(target, &listed)?,
        Form::Table => {
            let include = forms::Include::read(ctx)?;
            forms::table(resource, &items()?, list_meta(&listed), &accept, include, true).to_string().into_bytes()
        }
        Form::PartialMetadata => partial_list(&items()?, &listed, &accept).to_string().into_bytes(),
    };
    if accept.encoding == Encoding::Json && !accept.pretty {
        return Ok(reply::compress(&ctx.headers, JSON, body));
    }
    reply::encoded(http::StatusCode::OK, &accept, body.into())
}

/// The list piece by piece, in the forms that clients ask for often.
async fn streamed(ctx: &Ctx, target: &Target, accept: &Accept, listed: &Listed) -> Result<Option<Reply>, Status> {
    let resource = Arc::clone(&target.resource);
    let entries = listed.entries.clone();
    if accept.encoding == Encoding::Protobuf
        && accept.form == Form::Whole
        && objects::has_protobuf(&resource, accept.form)
    {
        return stream::protobuf(ctx, resource, &list_meta(listed), entries).await.map(Some);
    }
    if accept.encoding != Encoding::Json || accept.pretty {
        return Ok(None);
    }
    let (start, item) = match accept.form {
        Form::Whole => (header(target, listed), Item::Whole),
        Form::Table => {
            let include = forms::Include::read(ctx)?;
            (forms::table_start(&resource, &list_meta(listed), accept), Item::Row(accept.clone(), include))
        }
        Form::PartialMetadata => {
            let empty = partial_list(&[], listed, accept).to_string();
            let start = empty.strip_suffix("]}").unwrap_or(&empty).to_owned();
            (start, Item::Partial(accept.clone()))
        }
    };
    Ok(Some(stream::json(ctx, resource, start, item, entries)))
}

fn partial_list(items: &[Value], listed: &Listed, accept: &Accept) -> Value {
    let items: Vec<Value> = items.iter().map(|item| forms::partial(item, accept)).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": forms::api_version(accept),
        "metadata": list_meta(listed), "items": items,
    })
}

/// Everything before the first item.
fn header(target: &Target, listed: &Listed) -> String {
    format!(
        "{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":{},\"items\":[",
        target.resource.list_kind,
        target.resource.gvk().api_version(),
        list_meta(listed)
    )
}

fn whole(target: &Target, listed: &Listed) -> Result<Vec<u8>, Status> {
    let mut body = header(target, listed).into_bytes();
    for (index, entry) in listed.entries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&storage::served_bytes(&target.resource, entry)?);
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// All objects that a request selects, for `deletecollection`.
pub(crate) async fn selected(ctx: &Ctx, target: &Target) -> Result<Vec<Value>, Status> {
    let selection = Selection::read(target, &ctx.query)?;
    let listed = page(ctx, target, &selection).await?;
    listed.entries.iter().map(|entry| storage::object(&target.resource, entry)).collect()
}
