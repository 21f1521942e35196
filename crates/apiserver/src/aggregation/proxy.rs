//! The request-header proxy: a request goes on to the server of its group, with its user in headers.
//! Source: `kube-aggregator/pkg/apiserver/handler_proxy.go`, `client-go/transport/round_trippers.go`.

use std::sync::Arc;

use coracle_api_meta::{Status, UserInfo};
use coracle_client::{Body, BoxError};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;

use super::ApiService;
use crate::http::query::encode;
use crate::http::{Ctx, Reply, reply};
use crate::outgoing::Destination;
use crate::subresources::tunnel;

const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// Says who asks. What a client said of itself is removed.
pub(crate) fn set_user(headers: &mut HeaderMap, user: &UserInfo) {
    let said: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.username);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        // A header's name cannot hold every key.
        let name = format!("{EXTRA_PREFIX}{}", encode(key).to_lowercase());
        for value in values {
            add(&name, value);
        }
    }
}

fn unreachable(why: &str) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

/// Passes a request on and gives back the answer.
pub(crate) async fn proxy(ctx: &Arc<Ctx>, service: &ApiService, mut request: Request<Body>) -> Result<Reply, Status> {
    let Some(to) = service.destination.clone().filter(|_| service.available) else {
        return Err(Status::unavailable("service unavailable"));
    };
    set_user(request.headers_mut(), &ctx.user);
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    if tunnel::wants_upgrade(request.headers()) {
        let connecting = ctx.server.outgoing.connect(&to);
        let stream = connecting.await.map_err(|why| unreachable(&why))?;
        return tunnel::forward(&ctx.server, stream, &to.authority(), &path, request).await;
    }
    let sending = ctx.server.outgoing.send(&to, outgoing(&to, &path, request)?);
    let answer = sending.await.map_err(|why| unreachable(&why))?;
    if answer.status().is_redirection() && answer.headers().contains_key(header::LOCATION) {
        return Ok(reply::text(StatusCode::BAD_GATEWAY, REDIRECTED));
    }
    let mut answer = answer.map(|body| body.map_err(BoxError::from).boxed_unsync());
    tunnel::clean(answer.headers_mut(), false);
    Ok(answer)
}

/// The request as the other server gets it.
fn outgoing(to: &Destination, path: &str, request: Request<Body>) -> Result<Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    tunnel::clean(&mut parts.headers, false);
    parts.headers.remove(header::HOST);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    let uri: Result<Uri, _> = format!("https://{}{path}", to.authority()).parse();
    *outgoing.uri_mut() = uri.map_err(|error| Status::bad_request(format!("path {path:?}: {error}")))?;
    *outgoing.headers_mut() = parts.headers;
    Ok(outgoing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_and_nobody_names_himself() {
        let mut headers = HeaderMap::new();
        for name in ["x-remote-user", "x-remote-group", "x-remote-extra-scopes", "x-remote-uid"] {
            headers.insert(name, HeaderValue::from_static("system:masters"));
        }
        let mut user = UserInfo::authenticated("ann", &["dev"]);
        user.uid = "u1".to_owned();
        user.extra.insert("example.com/Scope".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        set_user(&mut headers, &user);
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "x-remote-extra-example.com%2fscope: a",
                "x-remote-extra-example.com%2fscope: b",
                "x-remote-group: dev",
                "x-remote-group: system:authenticated",
                "x-remote-uid: u1",
                "x-remote-user: ann"
            ]
        );
    }
}
