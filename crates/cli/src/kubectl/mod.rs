//! `coracle kubectl`: the most used verbs of kubectl, with its flags and its words.

mod apply;
mod connection;
mod create;
mod delete;
mod describe;
mod discovery;
mod exec;
mod explain;
mod get;
mod jsonpath;
mod logs;
mod manifest;
mod output;
mod scale;
mod selection;
mod yaml;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use connection::Connection;

/// kubectl's verbs.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: connection::Flags,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows objects.
    Get(get::Options),
    /// Makes objects as a manifest says, whether or not they exist.
    Apply(apply::Options),
    /// Creates objects from a manifest.
    Create(create::Options),
    /// Deletes objects.
    Delete(delete::Options),
    /// Shows one object with what belongs to it and its events.
    Describe(describe::Options),
    /// Shows what a container wrote.
    Logs(logs::Options),
    /// Runs a command in a container.
    Exec(exec::Options),
    /// Changes the number of replicas.
    Scale(scale::Options),
    /// Describes the fields of a kind.
    Explain(explain::Options),
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&arguments.connection)?;
    match arguments.verb {
        Verb::Get(options) => get::run(&connection, &options).await,
        Verb::Apply(options) => apply::run(&connection, &options).await,
        Verb::Create(options) => create::run(&connection, &options).await,
        Verb::Delete(options) => delete::run(&connection, &options).await,
        Verb::Describe(options) => describe::run(&connection, &options).await,
        Verb::Logs(options) => logs::run(&connection, &options).await,
        Verb::Exec(options) => exec::run(&connection, &options).await,
        Verb::Scale(options) => scale::run(&connection, &options).await,
        Verb::Explain(options) => explain::run(&connection, &options).await,
    }
}
