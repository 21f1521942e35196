//! The event of one stage.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use serde_json::json;

use super::super::Ctx;
use crate::access::Stage;
use crate::time;

/// Source: `maxUserAgentLength`.
const USER_AGENT_BYTES_MAX: usize = 1024;

pub(super) fn event(ctx: &Ctx, stage: Stage, code: u16) -> Value {
    let info = &ctx.info;
    let notes = ctx.trail.notes();
    let uri = if ctx.raw_query.is_empty() { info.path.clone() } else { format!("{}?{}", info.path, ctx.raw_query) };
    let user = ctx.impersonator.as_ref().unwrap_or(&ctx.user);
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": ctx.trail.level.name(), "auditID": ctx.audit_id,
        "stage": stage.name(), "requestURI": uri, "verb": info.verb, "user": user,
    });
    if ctx.impersonator.is_some() {
        event["impersonatedUser"] = json!(ctx.user);
    }
    let addresses = source_addresses(ctx);
    if !addresses.is_empty() {
        event["sourceIPs"] = json!(addresses);
    }
    let agent = user_agent(ctx.user_agent());
    if !agent.is_empty() {
        event["userAgent"] = agent.into();
    }
    if info.is_resource {
        event["objectRef"] = object_reference(ctx, notes.request.as_ref());
    }
    if stage != Stage::RequestReceived {
        event["responseStatus"] = match &notes.status {
            Some(status) => {
                let mut told = serde_json::to_value(status).unwrap_or_default();
                told.as_object_mut().map(|told| (told.shift_remove("kind"), told.shift_remove("apiVersion")));
                told
            }
            None => json!({"metadata": {}, "code": code}),
        };
    }
    if let Some(request) = &notes.request {
        event["requestObject"] = request.clone();
    }
    if stage == Stage::ResponseComplete
        && let Some(response) = &notes.response
    {
        event["responseObject"] = response.clone();
    }
    event["requestReceivedTimestamp"] = time::rfc3339_micro(ctx.received).into();
    event["stageTimestamp"] = time::rfc3339_micro(time::now()).into();
    if !notes.annotations.is_empty() {
        event["annotations"] = json!(notes.annotations);
    }
    event
}

fn user_agent(agent: &str) -> String {
    if agent.len() <= USER_AGENT_BYTES_MAX {
        return agent.to_owned();
    }
    let mut end = USER_AGENT_BYTES_MAX;
    while !agent.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &agent[..end])
}

/// Source: `utilnet.SourceIPs`: what proxies say, then who is connected.
fn source_addresses(ctx: &Ctx) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let told = ctx.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let told = told.flat_map(|value| value.split(',')).map(str::trim);
    found.extend(told.filter(|text| text.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned));
    if let Some(address) = ctx.peer_address {
        let address = address.to_string();
        if found.last() != Some(&address) {
            found.push(address);
        }
    }
    found
}

fn object_reference(ctx: &Ctx, request: Option<&Value>) -> Value {
    let info = &ctx.info;
    let sent = |field: &str| request.map(|object| object.meta_str(field)).unwrap_or_default();
    let either = |own: &'_ str, field: &str| if own.is_empty() { sent(field).to_owned() } else { own.to_owned() };
    let fields = [
        ("resource", info.resource.clone()),
        ("namespace", either(&info.namespace, "namespace")),
        ("name", either(&info.name, "name")),
        ("uid", sent("uid").to_owned()),
        ("apiGroup", info.group.clone()),
        ("apiVersion", info.version.clone()),
        ("resourceVersion", sent("resourceVersion").to_owned()),
        ("subresource", info.subresource.clone()),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}
