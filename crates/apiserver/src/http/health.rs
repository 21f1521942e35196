//! `/healthz`, `/livez` and `/readyz`. Source: `k8s.io/apiserver/pkg/server/healthz`.

use http::{HeaderValue, StatusCode};

use super::{Ctx, Reply, reply};
use crate::server::Server;

/// Checks by name, with the endpoints that they are not part of.
const CHECKS: [(&str, &[&str]); 10] = [
    ("ping", &[]),
    ("log", &[]),
    // A full disk is no reason to start again.
    ("etcd", &["livez"]),
    ("etcd-readiness", &["healthz", "livez"]),
    ("informer-sync", &["healthz", "livez"]),
    ("poststarthook/start-apiserver-admission-initializer", &[]),
    ("poststarthook/rbac/bootstrap-roles", &[]),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", &[]),
    ("poststarthook/priority-and-fairness-config-producer", &[]),
    ("shutdown", &["healthz", "livez"]),
];

/// Why a check fails.
fn failure(server: &Server, check: &str) -> Option<String> {
    match check {
        "etcd" | "etcd-readiness" => server.store.trouble().map(|error| error.to_string()),
        "shutdown" => server.stopping().is_cancelled().then(|| "process is shutting down".to_owned()),
        _ => None,
    }
}

/// `check` are the parts of the path behind the endpoint.
pub(crate) fn answer(ctx: &Ctx, endpoint: &str, check: &[&str]) -> Reply {
    let own = CHECKS.iter().filter(|(_, not)| !not.contains(&endpoint)).map(|(name, _)| *name);
    if check.is_empty() {
        return all(ctx, endpoint, own);
    }
    let wanted = check.join("/");
    match own.into_iter().find(|name| *name == wanted) {
        None => plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
        Some(name) => match failure(&ctx.server, name) {
            None => plain(StatusCode::OK, "ok".to_owned()),
            Some(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        },
    }
}

fn all(ctx: &Ctx, endpoint: &str, checks: impl Iterator<Item = &'static str>) -> Reply {
    let mut unknown: Vec<&str> = ctx.query.all("exclude").collect();
    unknown.sort_unstable();
    unknown.dedup();
    let excluded = unknown.clone();
    let (mut text, mut failed) = (String::new(), false);
    for name in checks {
        if excluded.contains(&name) {
            unknown.retain(|other| *other != name);
            text.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if let Some(why) = failure(&ctx.server, name) {
            tracing::warn!(check = name, %why, "{endpoint} check failed");
            failed = true;
            text.push_str(&format!("[-]{name} failed: reason withheld\n"));
        } else {
            text.push_str(&format!("[+]{name} ok\n"));
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if failed {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{endpoint} check failed\n"));
    }
    if !ctx.query.has("verbose") {
        return plain(StatusCode::OK, "ok".to_owned());
    }
    plain(StatusCode::OK, format!("{text}{endpoint} check passed\n"))
}

fn plain(code: StatusCode, text: String) -> Reply {
    let mut reply = reply::text(code, text);
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}
