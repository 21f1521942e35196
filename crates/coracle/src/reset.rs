//! `coracle reset`: everything that Coracle did to this host is undone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use coracle_bootstrap::ClusterFolder;

#[derive(Debug, Args)]
pub struct Options {
    /// Folder that holds the cluster [default: /var/lib/coracle].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Does not ask.
    #[arg(long, short)]
    yes: bool,
}

pub async fn run(options: Options) -> Result<ExitCode> {
    let root = options.data_dir.unwrap_or_else(|| ClusterFolder::default_path(coracle_supervisor::is_root()));
    let folder = ClusterFolder::new(&crate::up::absolute(&root)?);
    if !folder.exists() {
        bail!("there is no cluster in {}: name its folder with --data-dir", folder.root().display());
    }
    let lock = folder.lock()?;
    if !options.yes && !confirmed(&folder)? {
        println!("Nothing was changed.");
        return Ok(ExitCode::FAILURE);
    }
    let left = coracle_supervisor::reset(&folder).await?;
    drop(lock);
    if left.is_empty() {
        println!("Removed the cluster in {}.", folder.root().display());
        return Ok(ExitCode::SUCCESS);
    }
    println!("Removed the cluster in {}, but for:", folder.root().display());
    for what in left {
        println!("  {what}");
    }
    Ok(ExitCode::FAILURE)
}

fn confirmed(folder: &ClusterFolder) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("reset stops every pod and deletes {}: say --yes to do it without being asked", folder.root().display());
    }
    print!("Stop every pod and delete the cluster in {}? [y/N] ", folder.root().display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
