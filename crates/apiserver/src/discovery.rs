//! Everything that is about no resource: discovery, versions, health, metrics, keys, OpenAPI.

mod documents;
pub(crate) use documents::Documents;
mod groups;

use std::sync::Arc;

use coracle_api_meta::Status;
use coracle_client::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::http::{Ctx, Reply, health, reply};

/// What `/version` says beside our own version.
const MAJOR: &str = "1";
const MINOR: &str = "36";
const UPSTREAM: &str = "v1.36.2";

pub(crate) async fn handle(ctx: &Arc<Ctx>, request: Request<Body>) -> Result<Reply, Status> {
    drop(request);
    if !matches!(ctx.method, Method::GET | Method::HEAD) {
        return Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    let path = ctx.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        [] | [""] => Ok(reply::json(&json!({"paths": groups::paths(ctx)}))),
        ["api"] => groups::core(ctx),
        ["apis"] => groups::all(ctx),
        ["api", version] => groups::resources(ctx, "", version),
        ["apis", group] => groups::one(ctx, group),
        ["apis", group, version] => groups::resources(ctx, group, version),
        ["version"] => Ok(reply::json(&version())),
        ["healthz" | "livez" | "readyz", check @ ..] => Ok(health::answer(ctx, parts[0], check)),
        ["metrics"] => {
            Ok(reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", ctx.server.metrics.render(ctx)))
        }
        ["debug", "api_priority_and_fairness", what] => ctx.server.gate.dump(what),
        ["openapi", ..] => documents::openapi(ctx, &parts[1..]),
        [".well-known", "openid-configuration"] => Ok(issuer(ctx)),
        ["openid", "v1", "jwks"] => {
            Ok(reply::bytes(StatusCode::OK, "application/jwk-set+json", ctx.server.config.token_key.jwks().to_string()))
        }
        _ => Err(Status::no_such_path()),
    }
}

fn version() -> serde_json::Value {
    json!({
        "major": MAJOR, "minor": MINOR, "emulationMajor": MAJOR, "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR, "minCompatibilityMinor": "35",
        "gitVersion": format!("{UPSTREAM}+coracle.{}", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

fn issuer(ctx: &Ctx) -> Reply {
    let issuer = &ctx.server.config.issuer;
    reply::json(&json!({
        "issuer": issuer, "jwks_uri": format!("https://{}/openid/v1/jwks", ctx.server.config.advertise),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}
