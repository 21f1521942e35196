//! `delete`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use coracle_api_meta::{Value, object::ObjectExt as _};
use coracle_client::{DeleteParams, DynamicApi, ListParams, WatchEvent};

use super::connection::{Connection, worded};
use super::discovery::{Discovery, Resource};
use super::manifest;
use super::selection::select;

#[derive(Debug, Args)]
pub struct Options {
    /// `pod NAME`, `deploy/web svc/web`.
    what: Vec<String>,
    /// Manifests that name the objects.
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Label selector.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    /// All objects of the resource in the namespace.
    #[arg(long)]
    all: bool,
    /// Seconds for the object to end by itself.
    #[arg(long)]
    grace_period: Option<i64>,
    /// Does not wait for the object to end; with --grace-period=0.
    #[arg(long)]
    force: bool,
    /// `background`, `foreground` or `orphan`.
    #[arg(long, default_value = "background")]
    cascade: String,
    #[arg(long)]
    ignore_not_found: bool,
    /// Returns only when the objects are gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
}

struct Target<'a> {
    resource: &'a Resource,
    api: DynamicApi,
    name: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let params = delete_params(options)?;
    let mut code = ExitCode::SUCCESS;
    let mut gone = Vec::new();
    for target in targets(connection, options, &discovery).await? {
        match target.api.delete(&target.name, &params).await {
            Ok(answer) => {
                let forced = if options.force { " force" } else { "" };
                let kind = target.resource.named("").trim_end_matches('/').to_owned();
                println!("{kind} {:?}{forced} deleted", target.name);
                let answer: Value = serde_json::from_slice(&answer)?;
                gone.push((target, answer));
            }
            Err(error) if error.is_not_found() && options.ignore_not_found => {}
            Err(error) => {
                eprintln!("{}", worded(error));
                code = ExitCode::FAILURE;
            }
        }
    }
    if options.wait && !options.force {
        for (target, answer) in gone {
            wait_gone(&target, &answer).await?;
        }
    }
    Ok(code)
}

fn delete_params(options: &Options) -> Result<DeleteParams> {
    let policy = match options.cascade.as_str() {
        "background" | "true" => "Background",
        "foreground" => "Foreground",
        "orphan" | "false" => "Orphan",
        other => bail!("error: invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""),
    };
    let mut params = DeleteParams::default().propagation(policy);
    params.grace_period_seconds =
        if options.force { Some(options.grace_period.unwrap_or(0)) } else { options.grace_period };
    Ok(params)
}

async fn targets<'a>(connection: &Connection, options: &Options, discovery: &'a Discovery) -> Result<Vec<Target<'a>>> {
    let mut found = Vec::new();
    if !options.files.is_empty() {
        for document in manifest::read(&options.files, false)? {
            let (resource, namespace) = document.place(discovery, &connection.namespace)?;
            found.push(Target {
                resource,
                api: resource.api(&connection.client, &namespace),
                name: document.object.name().to_owned(),
            });
        }
        return Ok(found);
    }
    for one in select(discovery, &options.what)? {
        let resource = one.resource;
        let api = resource.api(&connection.client, &connection.namespace);
        let mut names = one.names;
        if names.is_empty() {
            if !options.all && options.selector.is_empty() {
                bail!("error: resource(s) were provided, but no name was specified");
            }
            let params = ListParams::default().labels(&options.selector);
            let objects = api.list(&params).await.map_err(worded)?;
            names = objects.iter().map(|object| object.name().to_owned()).collect();
        }
        found.extend(names.into_iter().map(|name| Target { resource, api: api.clone(), name }));
    }
    Ok(found)
}

/// Until the object with this uid is gone.
async fn wait_gone(target: &Target<'_>, answer: &Value) -> Result<()> {
    /// A watch that the server ends is taken up again at most this often.
    const WATCHES_MAX: usize = 1000;
    let uid = if answer.kind() == "Status" { answer.str_at(&["details", "uid"]) } else { answer.uid() };
    for _ in 0..WATCHES_MAX {
        match target.api.get(&target.name).await {
            Ok(bytes) => {
                let live: Value = serde_json::from_slice(&bytes)?;
                if live.uid() != uid {
                    return Ok(());
                }
                let mut params = ListParams::default().fields(&format!("metadata.name={}", target.name));
                live.resource_version().clone_into(&mut params.resource_version);
                let mut stream = target.api.watch(&params).await.map_err(worded)?;
                while let Some(event) = stream.next().await.map_err(worded)? {
                    if matches!(event, WatchEvent::Deleted(_)) {
                        return Ok(());
                    }
                }
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(worded(error)),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("error: timed out waiting for {} to be deleted", target.name)
}
