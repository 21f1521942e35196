//! `apply`: the three-way merge of kubectl, or server-side.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use coracle_api_meta::{Value, object::ObjectExt as _};
use coracle_api_schema::builtin;
use coracle_client::{Patch, PatchParams, WriteParams};

use super::connection::{Connection, worded};
use super::create::{in_file, write_params};
use super::discovery::{Discovery, Resource};
use super::manifest::{self, Document};
use super::output::sorted;

/// Where client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[derive(Debug, Args)]
pub struct Options {
    /// Manifest: file, folder, or `-` for standard input.
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Folders inside folders too.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// The server merges and keeps track of who manages what.
    #[arg(long)]
    server_side: bool,
    /// Takes over what others manage; with --server-side.
    #[arg(long)]
    force_conflicts: bool,
    /// Name to manage fields under; with --server-side.
    #[arg(long, default_value = "kubectl")]
    field_manager: String,
    /// `server` asks the server and keeps nothing.
    #[arg(long, value_name = "HOW", default_value = "none")]
    dry_run: String,
    /// What to do about unknown fields: `strict`, `warn` or `ignore`.
    #[arg(long, value_name = "HOW", default_value = "strict")]
    validate: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let mut code = ExitCode::SUCCESS;
    for document in manifest::read(&options.files, options.recursive)? {
        let (resource, namespace) = document.place(&discovery, &connection.namespace)?;
        let applied = if options.server_side {
            server_side(connection, options, &document, resource, &namespace).await
        } else {
            client_side(connection, options, &document, resource, &namespace).await
        };
        match applied {
            Ok(what) => println!("{} {what}", resource.named(document.object.name())),
            Err(error) => {
                eprintln!("{}", in_file(&format!("{error:#}"), "applying", &document.origin));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn server_side(
    connection: &Connection,
    options: &Options,
    document: &Document,
    resource: &Resource,
    namespace: &str,
) -> Result<&'static str> {
    let write = write_params(&options.dry_run, &options.validate, &options.field_manager)?;
    let params = PatchParams { write, force: options.force_conflicts };
    let api = resource.api(&connection.client, namespace);
    api.patch(document.object.name(), "", &Patch::Apply(document.object.clone()), &params).await.map_err(worded)?;
    Ok("serverside-applied")
}

async fn client_side(
    connection: &Connection,
    options: &Options,
    document: &Document,
    resource: &Resource,
    namespace: &str,
) -> Result<&'static str> {
    let write: WriteParams = write_params(&options.dry_run, &options.validate, "kubectl-client-side-apply")?;
    let api = resource.api(&connection.client, namespace);
    let mut wanted = document.object.clone();
    if resource.namespaced {
        wanted.set_meta("namespace", namespace);
    }
    annotate(&mut wanted)?;
    let name = wanted.name().to_owned();
    let live: Value = match api.get(&name).await {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.is_not_found() => {
            let made = api.create(wanted.to_string().into_bytes(), &write).await.map_err(worded);
            made.map_err(|error| anyhow::anyhow!(in_file(&error.to_string(), "creating", &document.origin)))?;
            return Ok("created");
        }
        Err(error) => return Err(worded(error)),
    };
    let patch = three_way(&wanted, &live)?;
    if patch_value(&patch).as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok("unchanged");
    }
    let before = live.resource_version().to_owned();
    let params = PatchParams { write, force: false };
    let after: Value = serde_json::from_slice(&api.patch(&name, "", &patch, &params).await.map_err(worded)?)?;
    Ok(if after.resource_version() == before && !params.write.dry_run { "unchanged" } else { "configured" })
}

fn patch_value(patch: &Patch) -> &Value {
    let (Patch::Json(value) | Patch::Merge(value) | Patch::Strategic(value) | Patch::Apply(value)) = patch;
    value
}

/// Writes the object's own text, without the annotation itself, into the annotation.
fn annotate(object: &mut Value) -> Result<()> {
    let mut bare = object.clone();
    let annotations = |object: &mut Value| -> Option<serde_json::Map<String, Value>> {
        object.get("metadata")?.get("annotations")?.as_object().cloned()
    };
    let mut own = annotations(&mut bare).unwrap_or_default();
    own.shift_remove(LAST_APPLIED);
    bare.set_meta("annotations", own.clone());
    let text = format!("{}\n", serde_json::to_string(&sorted(&bare))?);
    own.insert(LAST_APPLIED.to_owned(), text.into());
    object.set_meta("annotations", own);
    Ok(())
}

/// A strategic merge patch for built-in kinds, a merge patch for custom ones.
fn three_way(wanted: &Value, live: &Value) -> Result<Patch> {
    let last = live.annotations().and_then(|annotations| annotations.get(LAST_APPLIED)).and_then(Value::as_str);
    let last: Value = match last {
        Some(text) => serde_json::from_str(text).context("read the last applied configuration")?,
        None => Value::Null,
    };
    let schemas = builtin();
    match wanted.gvk().and_then(|gvk| schemas.kind(&gvk)) {
        Some(ty) => {
            let how = coracle_api_merge::ThreeWay::Overwrite;
            let patch = coracle_api_merge::create_three_way_merge_patch(schemas, ty, &last, wanted, live, how)
                .map_err(|error| anyhow::anyhow!("create the patch: {error}"))?;
            Ok(Patch::Strategic(patch))
        }
        None => Ok(Patch::Merge(coracle_api_merge::create_three_way_json_merge_patch(&last, wanted, live))),
    }
}
