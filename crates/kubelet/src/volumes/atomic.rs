//! Folders whose files change all at once: readers see the old set or the new one, never a mixture.
//!
//! The files lie in a folder with a name of its own; `..data` is a link to it, and every visible name is a link through
//! `..data`. An update writes a new folder and then moves one link. Source: upstream's atomic writer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::IoContext;
use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    /// Owner, where it is not root.
    pub(crate) user: Option<u32>,
}

/// Files by relative path.
pub(crate) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes `folder` show exactly `files`; returns whether anything changed.
pub(crate) fn write(folder: &Path, files: &Files) -> Result<bool> {
    for path in files.keys() {
        check_path(path)?;
    }
    let link = folder.join(DATA);
    let current = std::fs::read_link(&link).ok().map(|name| folder.join(name));
    if current.as_ref().is_some_and(|current| holds(current, files)) {
        return Ok(false);
    }
    let fresh = new_folder(folder)?;
    for (path, file) in files {
        write_file(&fresh, path, file)?;
    }
    let temporary = folder.join("..data_tmp");
    let _ = std::fs::remove_file(&temporary);
    let name = fresh.file_name().map(PathBuf::from).unwrap_or_default();
    std::os::unix::fs::symlink(&name, &temporary).context(|| format!("link {}", temporary.display()))?;
    std::fs::rename(&temporary, &link).context(|| format!("replace {}", link.display()))?;
    show(folder, files)?;
    if let Some(old) = current.filter(|old| old.starts_with(folder) && *old != fresh) {
        coracle_host::fs::remove_all(&old)?;
    }
    Ok(true)
}

fn check_path(path: &str) -> Result<()> {
    let bad = path.is_empty()
        || path.len() > 4096
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == ".." || part.is_empty() || part.len() > 255);
    if bad { Err(Error::message(format!("invalid path: {path:?}"))) } else { Ok(()) }
}

/// Whether a folder holds these files and no others, with the same content. Modes are not compared: ownership changes
/// them afterwards.
fn holds(folder: &Path, files: &Files) -> bool {
    let mut seen = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(folder).ok().and_then(Path::to_str).unwrap_or_default();
            let same =
                files.get(relative).is_some_and(|file| std::fs::read(&path).is_ok_and(|bytes| bytes == file.bytes));
            if !same {
                return false;
            }
            seen += 1;
        }
    }
    seen == files.len()
}

fn new_folder(folder: &Path) -> Result<PathBuf> {
    let now = Timestamp::now();
    let stamp = now.strftime("%Y_%m_%d_%H_%M_%S");
    let path = folder.join(format!("..{stamp}.{}", now.as_nanosecond() % 10_000_000_000));
    std::fs::create_dir(&path).context(|| format!("create {}", path.display()))?;
    super::set_mode(&path, 0o755)?;
    Ok(path)
}

fn write_file(folder: &Path, path: &str, file: &File) -> Result<()> {
    let target = folder.join(path);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
        let mut inner = parent;
        while inner != folder {
            super::set_mode(inner, 0o755)?;
            let Some(up) = inner.parent() else { break };
            inner = up;
        }
    }
    std::fs::write(&target, &file.bytes).context(|| format!("write {}", target.display()))?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(file.mode))
        .context(|| format!("set the mode of {}", target.display()))?;
    if let Some(user) = file.user {
        std::os::unix::fs::chown(&target, Some(user), None).context(|| format!("own {}", target.display()))?;
    }
    Ok(())
}

/// Links the first part of every path, and removes links to what is gone.
fn show(folder: &Path, files: &Files) -> Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = folder.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(DATA).join(name), &link)
                .context(|| format!("link {}", link.display()))?;
        }
    }
    for entry in std::fs::read_dir(folder).context(|| format!("read {}", folder.display()))?.flatten() {
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !wanted.contains(name));
        if stale {
            coracle_host::fs::remove_all(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o640, user: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn check(folder: &Path, list: &[(&str, &str)], want: Expect) {
        let changed = write(folder, &files(list)).expect("write");
        let mut lines = vec![format!("changed: {changed}")];
        for (path, _) in list {
            lines.push(format!("{path}: {}", std::fs::read_to_string(folder.join(path)).expect("read")));
        }
        let names = std::fs::read_dir(folder).expect("list").flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        lines.push(names.join(" "));
        want.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn files_change_together_and_vanish() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path();
        check(
            path,
            &[("a", "1"), ("d/e", "2")],
            expect![[r#"
            changed: true
            a: 1
            d/e: 2
            ..data a d"#]],
        );
        check(
            path,
            &[("a", "1"), ("d/e", "2")],
            expect![[r#"
            changed: false
            a: 1
            d/e: 2
            ..data a d"#]],
        );
        check(
            path,
            &[("b", "3")],
            expect![[r#"
            changed: true
            b: 3
            ..data b"#]],
        );
        check(
            path,
            &[],
            expect![[r#"
            changed: true
            ..data"#]],
        );
        assert!(write(path, &files(&[("../x", "")])).is_err());
        assert!(write(path, &files(&[("/x", "")])).is_err());
    }
}
