//! Options of writes, from the query or the body. Source: `metav1.{Create,Update,Patch,Delete}Options`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};

use crate::http::Ctx;
use crate::http::negotiate::content_type;

/// What is done about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
    pub field_manager: String,
    pub force: bool,
}

const FIELD_MANAGER_BYTES_MAX: usize = 128;

impl WriteOptions {
    pub(crate) fn read(ctx: &Ctx) -> Result<Self, Status> {
        let validation = match ctx.query.get("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                return Err(Status::bad_request(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        let sent = ctx.query.get("fieldManager");
        if sent.len() > FIELD_MANAGER_BYTES_MAX {
            return Err(Status::bad_request("fieldManager: Too long: may not be more than 128 bytes"));
        }
        let field_manager = if sent.is_empty() { manager_of(ctx.user_agent()) } else { sent.to_owned() };
        Ok(Self { dry_run: ctx.dry_run()?, validation, field_manager, force: ctx.query.flag("force") })
    }
}

/// The part of a user agent before its first slash.
fn manager_of(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default();
    let short: String = name.chars().filter(|c| !c.is_control()).take(FIELD_MANAGER_BYTES_MAX).collect();
    if short.is_empty() { "unknown".to_owned() } else { short }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

fn propagation(text: &str) -> Result<Option<Propagation>, Status> {
    match text {
        "" => Ok(None),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        other => Err(Status::failure(
            422,
            coracle_api_meta::reason::INVALID,
            format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            ),
        )),
    }
}

impl DeleteOptions {
    /// From the body when there is one, else from the query.
    pub(crate) fn read(ctx: &Ctx, body: &[u8]) -> Result<Self, Status> {
        let mut options = if body.is_empty() { Self::from_query(ctx)? } else { Self::from_body(ctx, body)? };
        options.dry_run |= ctx.dry_run()?;
        Ok(options)
    }

    fn from_query(ctx: &Ctx) -> Result<Self, Status> {
        let orphan = ctx.query.has("orphanDependents").then(|| ctx.query.flag("orphanDependents"));
        Ok(Self {
            grace_period_seconds: ctx.query.number("gracePeriodSeconds"),
            propagation: propagation(ctx.query.get("propagationPolicy"))?.or(orphan.map(orphaning)),
            ..Self::default()
        })
    }

    fn from_body(ctx: &Ctx, body: &[u8]) -> Result<Self, Status> {
        let value = super::objects::decode_plain(content_type(&ctx.headers), body, "DeleteOptions")?;
        Self::from_value(&value)
    }

    /// From a `DeleteOptions` object.
    pub(crate) fn from_value(value: &Value) -> Result<Self, Status> {
        let text = |path: &[&str]| value.at(path).and_then(Value::as_str).map(str::to_owned);
        let orphan = value.get("orphanDependents").and_then(Value::as_bool);
        let dry = value.get("dryRun").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        Ok(Self {
            grace_period_seconds: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: propagation(value.str_at(&["propagationPolicy"]))?.or(orphan.map(orphaning)),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            dry_run: dry,
        })
    }
}

fn orphaning(orphan: bool) -> Propagation {
    if orphan { Propagation::Orphan } else { Propagation::Background }
}
