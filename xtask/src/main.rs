//! Maintenance tasks of the repository.

mod architecture;
mod gen_schema;

use std::path::{Path, PathBuf};

use clap::Parser;

#[derive(Parser)]
enum Task {
    /// Compares `architecture.toml` with the manifests.
    CheckArchitecture,
    /// Writes the table of the built-in kinds (`crates/api-schema/data/builtin.txt`).
    GenSchema {
        /// Folder with the inputs; see `gen_schema` for how to fill it.
        #[arg(long)]
        inputs: PathBuf,
        /// File to write.
        #[arg(long, default_value = "crates/api-schema/data/builtin.txt")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::CheckArchitecture => architecture::check(Path::new(".")),
        Task::GenSchema { inputs, out } => gen_schema::run(&inputs, &out),
    }
}
