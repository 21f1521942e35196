//! `scale`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use coracle_api_meta::{Value, object::ObjectExt as _};
use coracle_client::{Error, ListParams, Patch, PatchParams};
use serde_json::json;

use super::connection::{Connection, worded};
use super::discovery::Discovery;
use super::selection::select;

#[derive(Debug, Args)]
pub struct Options {
    /// `deployment web`, `deploy/web rs/other`.
    what: Vec<String>,
    /// Wanted number.
    #[arg(long)]
    replicas: u32,
    /// Only if this is the number now.
    #[arg(long)]
    current_replicas: Option<u64>,
    /// Label selector.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    for one in select(&discovery, &options.what)? {
        if !one.resource.subresources.iter().any(|name| name == "scale") {
            bail!("error: {} cannot be scaled", one.resource.gvr.resource);
        }
        let api = one.resource.api(&connection.client, &connection.namespace);
        let mut names = one.names;
        if names.is_empty() && !options.selector.is_empty() {
            let params = ListParams::default().labels(&options.selector);
            names = api.list(&params).await.map_err(worded)?.iter().map(|object| object.name().to_owned()).collect();
        }
        if names.is_empty() {
            bail!("error: no objects passed to scale");
        }
        for name in names {
            if let Some(expected) = options.current_replicas {
                let scale: Value = serde_json::from_slice(&api.get_subresource(&name, "scale").await.map_err(worded)?)?;
                let now = scale.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or_default();
                if now != expected {
                    bail!("error: Expected replicas to be {expected}, was {now}");
                }
            }
            // kubectl reads the objects first, and words what is missing in its own way.
            if let Err(Error::Api(status)) = api.get(&name).await
                && status.code == 404
            {
                bail!("error: no objects passed to scale {}", status.message);
            }
            let patch = Patch::Merge(json!({"spec": {"replicas": options.replicas}}));
            api.patch(&name, "scale", &patch, &PatchParams::default()).await.map_err(worded)?;
            println!("{} scaled", one.resource.named(&name));
        }
    }
    Ok(ExitCode::SUCCESS)
}
