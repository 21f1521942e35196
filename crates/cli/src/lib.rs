//! The commands that talk to a cluster from outside: `kubectl`-compatible verbs and those of a container engine.
//!
//! Everything here goes through the API ([`coracle_client`]) or, for the node's images, through the running cluster's
//! control socket. This crate never knows the server's inside.

mod image;
mod kubectl;

use std::process::ExitCode;

use clap::Subcommand;

/// The commands of this crate, to be flattened into the binary's own.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Command {
    /// Lists, loads, pulls, tags and removes the images of this node.
    #[command(subcommand)]
    Image(image::Command),
    /// kubectl's most used verbs, for a machine that has no kubectl.
    Kubectl(kubectl::Arguments),
}

/// Runs one command.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Image(command) => image::run(command).await,
        Command::Kubectl(arguments) => kubectl::run(arguments).await,
    }
}
