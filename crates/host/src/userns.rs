//! User namespaces: ids of a container that are other ids outside.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::mount::{BindOptions, bind};
use crate::process::{self, Cloned, Namespace};
use crate::{Context, Error, Result};

/// `length` ids from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub length: u32,
}

/// The map of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMap {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// The id outside that a user of the namespace has; the kernel's "nobody" for one without.
    #[must_use]
    pub fn uid(&self, inside: u32) -> u32 {
        outside(&self.uids, inside)
    }

    #[must_use]
    pub fn gid(&self, inside: u32) -> u32 {
        outside(&self.gids, inside)
    }
}

/// Source: linux `overflowuid`.
const NOBODY: u32 = 65534;

fn outside(ranges: &[IdRange], inside: u32) -> u32 {
    let found = ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside).filter(|offset| *offset < range.length)?;
        range.outside.checked_add(offset)
    });
    found.unwrap_or(NOBODY)
}

fn text(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.length)).collect()
}

/// A new user namespace, and namespaces that belong to it, which stay for as long as they are open.
#[derive(Debug)]
pub struct Owned {
    pub user: OwnedFd,
    pub others: Vec<(Namespace, OwnedFd)>,
}

/// Makes a user namespace, and in it namespaces of the kinds given. Single-threaded processes only.
pub fn create(map: &IdMap, kinds: &[Namespace]) -> Result<Owned> {
    let (mut waits, mut goes) = std::io::pipe().context(|| "create a pipe".to_owned())?;
    let mut all = vec![Namespace::User];
    all.extend_from_slice(kinds);
    match process::clone_process(&all)? {
        Cloned::Child => {
            // It only has to be there until its namespaces are open elsewhere.
            drop(goes);
            waits.read_exact(&mut [0]).ok();
            process::exit_now(0)
        }
        Cloned::Parent(pid) => {
            drop(waits);
            let owned = describe(pid, map, kinds);
            goes.write_all(b".").ok();
            drop(goes);
            process::wait_for(pid)?;
            owned
        }
    }
}

fn describe(pid: i32, map: &IdMap, kinds: &[Namespace]) -> Result<Owned> {
    for (file, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        if ranges.is_empty() {
            return Err(Error::new(format!("map no {file} of a user namespace"), libc::EINVAL));
        }
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, text(ranges)).context(|| format!("write {path}"))?;
    }
    let user = process::namespace_of(pid, Namespace::User)?;
    let others = kinds.iter().map(|kind| Ok((*kind, process::namespace_of(pid, *kind)?)));
    Ok(Owned { user, others: others.collect::<Result<_>>()? })
}

/// Gives a namespace a name in the file system, which holds it.
pub fn hold_at(namespace: &OwnedFd, path: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
    }
    std::fs::File::create_new(path).context(|| format!("create {}", path.display()))?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    bind(Path::new(&source), path, BindOptions::default()).inspect_err(|_| drop(std::fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_where_they_lie_in_a_range() {
        let ranges = vec![IdRange { inside: 0, outside: 65536, length: 10 }];
        let map = IdMap { uids: ranges.clone(), gids: ranges };
        assert_eq!([map.uid(0), map.uid(9), map.gid(10), map.gid(1)], [65536, 65545, NOBODY, 65537]);
        assert_eq!(text(&map.uids), "0 65536 10\n");
    }
}
