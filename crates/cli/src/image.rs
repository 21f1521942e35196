//! `coracle image`: the images of the running node.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use coracle_bootstrap::ClusterFolder;
use coracle_bootstrap::control::{ImageRow, Request, ask};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists images.
    #[command(alias = "list")]
    Ls(Common),
    /// Loads an OCI layout (folder or archive) or an archive of `docker save`; `-` reads standard input.
    Load {
        #[command(flatten)]
        common: Common,
        /// File or folder.
        #[arg(value_name = "FILE")]
        source: PathBuf,
    },
    /// Pulls an image from its registry.
    Pull {
        #[command(flatten)]
        common: Common,
        image: String,
    },
    /// Gives an image a further name.
    Tag {
        #[command(flatten)]
        common: Common,
        image: String,
        name: String,
    },
    /// Removes a name, and the image with its last name.
    #[command(alias = "remove")]
    Rm {
        #[command(flatten)]
        common: Common,
        image: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Folder that holds the cluster [default: /var/lib/coracle].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub async fn run(command: Command) -> Result<ExitCode> {
    tokio::task::spawn_blocking(move || execute(command)).await?
}

fn execute(command: Command) -> Result<ExitCode> {
    // What standard input held is kept in a file for as long as the request lasts.
    let mut spooled = None;
    let (common, request) = match command {
        Command::Ls(common) => (common, Request::ListImages),
        Command::Load { common, source } => {
            let path = if source == Path::new("-") { spooled.insert(Spool::from_stdin()?).0.clone() } else { source };
            let path = std::fs::canonicalize(&path).with_context(|| format!("image archive {}", path.display()))?;
            (common, Request::LoadImage { path })
        }
        Command::Pull { common, image } => (common, Request::PullImage { image }),
        Command::Tag { common, image, name } => (common, Request::TagImage { image, name }),
        Command::Rm { common, image } => (common, Request::RemoveImage { image }),
    };
    let root = common.data_dir.unwrap_or_else(|| ClusterFolder::default_path(true));
    let folder = ClusterFolder::new(&std::path::absolute(root)?);
    let rows = ask(&folder, &request)?;
    match request {
        Request::ListImages => print!("{}", table(&rows)),
        Request::RemoveImage { image } => println!("removed {image}"),
        _ => rows.iter().for_each(|row| println!("{} {}", row.name, row.id)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A temporary file, gone when dropped.
struct Spool(PathBuf);

impl Spool {
    fn from_stdin() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("coracle-image-{}.tar", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        let spool = Self(path);
        std::io::copy(&mut std::io::stdin().lock(), &mut file).context("read standard input")?;
        file.flush()?;
        Ok(spool)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // A temporary file that stays is no reason to fail.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn table(rows: &[ImageRow]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default().max("NAME".len());
    let mut text = format!("{:<width$}   {:<19}   {:<12}   SIZE\n", "NAME", "DIGEST", "ID");
    for row in rows {
        let id = row.id.trim_start_matches("sha256:");
        let (digest, id) = (cut(&row.digest, 19), cut(id, 12));
        text.push_str(&format!("{:<width$}   {digest:<19}   {id:<12}   {}\n", row.name, human(row.size)));
    }
    text
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..most).unwrap_or(text)
}

fn human(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if size < 1000.0 {
            return format!("{size:.1} {unit}");
        }
        size /= 1000.0;
    }
    format!("{size:.1} GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_line_up() {
        let rows = [
            ImageRow {
                name: "docker.io/library/a:1".to_owned(),
                id: "sha256:0123456789abcdef".to_owned(),
                digest: "sha256:fedcba9876543210".to_owned(),
                size: 1_234_567,
            },
            ImageRow { name: "b:2".to_owned(), id: "sha256:ff".to_owned(), digest: "sha256:aa".to_owned(), size: 12 },
        ];
        expect_test::expect![[r"
            NAME                    DIGEST                ID             SIZE
            docker.io/library/a:1   sha256:fedcba987654   0123456789ab   1.2 MB
            b:2                     sha256:aa             ff             12.0 B
        "]]
        .assert_eq(&table(&rows));
    }
}
