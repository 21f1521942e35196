//! `create -f`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use coracle_api_meta::{Value, object::ObjectExt as _};
use coracle_client::WriteParams;

use super::connection::{Connection, worded};
use super::discovery::Discovery;
use super::manifest;

#[derive(Debug, Args)]
pub struct Options {
    /// Manifest: file, folder, or `-` for standard input.
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Folders inside folders too.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// `server` asks the server and keeps nothing.
    #[arg(long, value_name = "HOW", default_value = "none")]
    dry_run: String,
    /// What to do about unknown fields: `strict`, `warn` or `ignore`.
    #[arg(long, value_name = "HOW", default_value = "strict")]
    validate: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let params = write_params(&options.dry_run, &options.validate, "kubectl-create")?;
    let mut code = ExitCode::SUCCESS;
    for document in manifest::read(&options.files, options.recursive)? {
        let (resource, namespace) = document.place(&discovery, &connection.namespace)?;
        let api = resource.api(&connection.client, &namespace);
        match api.create(document.object.to_string().into_bytes(), &params).await {
            Ok(answer) => {
                let made: Value = serde_json::from_slice(&answer)?;
                println!(
                    "{} created{}",
                    resource.named(made.name()),
                    if params.dry_run { " (server dry run)" } else { "" }
                );
            }
            Err(error) => {
                eprintln!("{}", in_file(&worded(error).to_string(), "creating", &document.origin));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// `Error from server (AlreadyExists): error when creating "a.yaml": ...`
pub fn in_file(text: &str, verb: &str, origin: &str) -> String {
    let origin = if origin == "standard input" { "STDIN" } else { origin };
    match text.split_once(": ") {
        Some((head, rest)) if head.starts_with("Error from server") && !rest.starts_with("error when") => {
            format!("{head}: error when {verb} {origin:?}: {rest}")
        }
        _ => text.to_owned(),
    }
}

/// Options of a write from the flags that several verbs share.
pub fn write_params(dry_run: &str, validate: &str, manager: &str) -> Result<WriteParams> {
    let field_validation = match validate.to_lowercase().as_str() {
        "strict" | "true" => "Strict",
        "warn" => "Warn",
        "ignore" | "false" => "Ignore",
        other => anyhow::bail!("error: invalid validation directive {other:?}: strict, warn or ignore"),
    };
    let dry_run = match dry_run {
        "none" | "false" => false,
        "server" => true,
        other => anyhow::bail!("error: invalid dry-run value ({other}). Must be \"none\" or \"server\""),
    };
    Ok(WriteParams { dry_run, field_manager: manager.to_owned(), field_validation: field_validation.to_owned() })
}
