//! Container logs in the CRI format: `2026-11-20T13:00:00.000000000Z stdout F text`.

mod follow;
mod line;
mod rotate;

use std::path::{Path, PathBuf};

pub(crate) use follow::{LogQuery, stream};
pub(crate) use rotate::rotate_all;

/// The end of a log as plain text, both streams together.
pub(crate) fn tail_text(path: &Path, lines_max: usize, bytes_max: usize) -> String {
    let Ok(content) = read_end(path, 256 << 10) else { return String::new() };
    let entries: Vec<line::Entry<'_>> = content.split_inclusive(|&b| b == b'\n').filter_map(line::parse).collect();
    let mut bytes = Vec::new();
    let mut lines = 0;
    for entry in entries.iter().rev() {
        if entry.ends_line {
            lines += 1;
        }
        if lines > lines_max {
            break;
        }
        bytes.push(entry.text);
    }
    let text: Vec<u8> = bytes.into_iter().rev().flatten().copied().collect();
    let start = text.len().saturating_sub(bytes_max);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

fn read_end(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(bytes_max)))?;
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content)
}

/// Removes a log and what rotation made of it.
pub(crate) fn remove(path: &Path) {
    for file in rotated(path) {
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_file(path);
}

/// Rotated parts of a log, the oldest first: `0.log.20261120-130000`.
pub(crate) fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}
