//! Control groups: one interface over v1, v2 and the hybrid of both.
//!
//! A group is named by its path from the root of the hierarchy (`/coracle/pod1/c2`) and exists under that path in every
//! hierarchy of the machine: each v1 controller and, if mounted, the unified one. On a hybrid machine the unified
//! hierarchy has no controllers, but still kills, freezes and reports emptiness. Nothing outside the given path is
//! written, except the controllers that v2 parents must hand down and the cpusets that v1 parents must have.

#[cfg(test)]
mod enforced;
mod limits;
mod usage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Context, Error, Result};

pub use limits::{DeviceRule, Limits};
pub use usage::Usage;

/// v1 controllers that are used where they are mounted.
const CONTROLLERS: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"];
/// v2 controllers that are handed down to our groups where they exist.
const CONTROLLERS_V2: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// How long to wait for killed processes to leave a group.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(10);

/// The hierarchies of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Controllers and mount points, one entry for each mount.
    v1: Vec<(Vec<String>, PathBuf)>,
    unified: Option<PathBuf>,
}

impl Cgroups {
    /// Finds what is mounted.
    pub fn discover() -> Result<Self> {
        let mut found = Self::default();
        for info in crate::mount::mounts()?.into_iter().filter(|info| info.root == Path::new("/")) {
            match info.fs_type.as_str() {
                "cgroup2" if found.unified.is_none() => found.unified = Some(info.target),
                "cgroup" => {
                    let known = |option: &&str| CONTROLLERS.contains(option);
                    let names = info.fs_options.split(',').filter(known).map(str::to_owned).collect::<Vec<_>>();
                    if !names.is_empty() && !found.v1.iter().any(|(other, _)| *other == names) {
                        found.v1.push((names, info.target));
                    }
                }
                _ => {}
            }
        }
        if found.v1.is_empty() && found.unified.is_none() {
            return Err(Error::new("find a mounted cgroup hierarchy", libc::ENOENT));
        }
        Ok(found)
    }

    /// Whether v2 alone is in charge.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// Mounts that a container sees: controllers (joined by commas; empty for v2) and the folder name they go by.
    #[must_use]
    pub fn hierarchies(&self) -> Vec<(String, String)> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.v1.iter().map(|(names, path)| (names.join(","), name(path))).collect()
    }

    /// The group of a path, whether or not it exists. Refuses paths that could leave it.
    pub fn group(&self, path: &str) -> Result<Cgroup<'_>> {
        let path = path.trim_matches('/');
        if path.is_empty() || path.split('/').any(|name| name.is_empty() || name == "." || name == "..") {
            return Err(Error::new(format!("use cgroup {path:?}"), libc::EINVAL));
        }
        Ok(Cgroup { all: self, path: path.into() })
    }

    fn v1_mount(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(names, _)| names.iter().any(|name| name == controller)).map(|(_, path)| path.as_path())
    }
}

/// One group in all hierarchies.
#[derive(Debug, Clone)]
pub struct Cgroup<'a> {
    all: &'a Cgroups,
    path: PathBuf,
}

impl Cgroup<'_> {
    /// Makes the group and its parents.
    pub fn create(&self) -> Result<()> {
        for (names, mount) in &self.all.v1 {
            let cpuset = names.iter().any(|name| name == "cpuset");
            for folder in steps(mount, &self.path) {
                make_dir(&folder)?;
                if cpuset {
                    inherit_cpuset(&folder)?;
                }
            }
        }
        if let Some(mount) = &self.all.unified {
            let mut parent = mount.clone();
            for folder in steps(mount, &self.path) {
                if self.all.is_v2() {
                    hand_down(&parent);
                }
                make_dir(&folder)?;
                parent = folder;
            }
        }
        Ok(())
    }

    /// The files that take process ids, one for each hierarchy.
    #[must_use]
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.folders().into_iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Moves a process into the group; 0 is the caller.
    pub fn add(&self, pid: i32) -> Result<()> {
        for file in self.procs_files() {
            write(&file, &pid.to_string())?;
        }
        Ok(())
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.folders().iter().any(|folder| folder.exists())
    }

    /// Processes of the group and those below it.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let mut pids = std::collections::BTreeSet::new();
        for folder in self.folders() {
            for below in tree(&folder) {
                let text = std::fs::read_to_string(below.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            }
        }
        pids.into_iter().collect()
    }

    /// Kills every process of the group and those below it; does not wait for them to be gone.
    pub fn kill(&self) -> Result<()> {
        if let Some(mount) = &self.all.unified {
            let file = mount.join(&self.path).join("cgroup.kill");
            if file.exists() {
                // The kernel does not wait for this write; a group that vanished meanwhile has nobody left.
                std::fs::write(&file, "1").ok();
            }
        }
        for pid in self.pids() {
            crate::process::kill(pid, libc::SIGKILL)?;
        }
        self.thaw();
        Ok(())
    }

    /// Stops (or lets go on) every process of the group.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if let Some(mount) = self.all.v1_mount("freezer") {
            return write(&mount.join(&self.path).join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
        }
        match &self.all.unified {
            Some(mount) => write(&mount.join(&self.path).join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            None => Err(Error::new("freeze without a freezer", libc::ENOENT)),
        }
    }

    /// A frozen process does not die on v1.
    fn thaw(&self) {
        if let Some(mount) = self.all.v1_mount("freezer") {
            std::fs::write(mount.join(&self.path).join("freezer.state"), "THAWED").ok();
        }
    }

    /// Kills what runs in the group and removes it with everything below, in every hierarchy. Idempotent.
    pub fn remove(&self) -> Result<()> {
        let end = Instant::now() + EMPTY_WAIT_MAX;
        loop {
            let left = self.remove_empty();
            match left {
                None => return Ok(()),
                Some(error) if Instant::now() > end => return Err(error),
                Some(_) => {}
            }
            self.kill()?;
            // Killed processes leave at their own pace, and v1 has no file that tells when.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the group unless something is in it. Parents stay.
    #[must_use]
    pub fn remove_empty(&self) -> Option<Error> {
        let mut left = None;
        for folder in self.folders() {
            for below in tree(&folder).into_iter().rev() {
                match std::fs::remove_dir(&below) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        left = Err::<(), _>(error).context(|| format!("remove cgroup {}", below.display())).err();
                    }
                    _ => {}
                }
            }
        }
        left
    }

    /// Names of the groups directly below.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        let entries =
            self.folders().into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Removes the group if it has neither processes nor groups below it; otherwise it stays.
    pub fn remove_if_unused(&self) {
        for folder in self.folders() {
            std::fs::remove_dir(folder).ok();
        }
    }

    /// The folder of a controller's files: on v1 of `controller`, on v2 the one folder.
    fn folder_of(&self, controller: &str) -> Option<PathBuf> {
        let mount = self.all.v1_mount(controller).or_else(|| {
            let unified = self.all.unified.as_deref();
            unified.filter(|_| self.all.is_v2())
        })?;
        Some(mount.join(&self.path))
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mounts = self.all.v1.iter().map(|(_, path)| path).chain(&self.all.unified);
        mounts.map(|mount| mount.join(&self.path)).collect()
    }
}

/// The folders from below `mount` down to `mount/path`.
fn steps(mount: &Path, path: &Path) -> Vec<PathBuf> {
    let mut current = mount.to_owned();
    path.components()
        .map(|component| {
            current.push(component);
            current.clone()
        })
        .collect()
}

/// The folder and those below it, parents first.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(current) = all.get(next).cloned() {
        next += 1;
        let entries = std::fs::read_dir(&current).into_iter().flatten().flatten();
        all.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    all
}

fn make_dir(folder: &Path) -> Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.context(|| format!("create cgroup {}", folder.display())),
    }
}

/// A v1 cpuset takes no process before it has CPUs and memory nodes: those of its parent.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = read(&folder.join(file))?;
        if own.trim().is_empty()
            && let Some(parent) = folder.parent()
        {
            write(&folder.join(file), read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Hands the controllers of a v2 group down to its children; one that cannot be is left out.
fn hand_down(folder: &Path) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (available, enabled) = (text("cgroup.controllers"), text("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|item| item == name);
    for name in CONTROLLERS_V2.iter().filter(|name| has(&available, name) && !has(&enabled, name)) {
        if let Err(error) = std::fs::write(folder.join("cgroup.subtree_control"), format!("+{name}")) {
            tracing::debug!(folder = %folder.display(), %error, "cannot hand down controller {name}");
        }
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).context(|| format!("read {}", file.display()))
}

fn write(file: &Path, value: &str) -> Result<()> {
    std::fs::write(file, value).context(|| format!("write {value:?} to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_group_are_refused() {
        let all = Cgroups::default();
        for path in ["", "/", "/a/../b", "/a//b", "."] {
            assert!(all.group(path).is_err(), "{path}");
        }
    }

    #[test]
    fn limits_are_written_as_v2_wants_them() {
        let dir = tempfile::tempdir().unwrap();
        let all = Cgroups { v1: Vec::new(), unified: Some(dir.path().into()) };
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        std::fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        let group = all.group("/a/b").unwrap();
        group.create().unwrap();
        for file in ["memory.swap.max", "memory.oom.group"] {
            std::fs::write(dir.path().join("a/b").join(file), "").unwrap();
        }
        let limits = Limits {
            cpu_shares: 1024,
            cpu_quota: 20_000,
            cpu_period: 100_000,
            memory: 1 << 20,
            pids: 7,
            unified: vec![("memory.high".into(), "5".into())],
            ..Limits::default()
        };
        group.set(&limits).unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.path().join("a/b").join(file)).unwrap();
        let files = ["cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max"];
        assert_eq!(files.map(read), ["100", "20000 100000", "1048576", "0", "1", "7"]);
        assert_eq!(read("memory.high"), "5");
        let found = group.limits();
        assert_eq!((found.cpu_quota, found.cpu_period, found.memory, found.pids), (20_000, 100_000, 1 << 20, 7));
        group.set(&Limits { cpu_quota: -1, memory: -1, pids: -1, ..Limits::default() }).unwrap();
        assert_eq!(["cpu.max", "memory.max", "pids.max"].map(read), ["max 100000", "max", "max"]);
        std::fs::write(dir.path().join("a/b/memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert_eq!(group.oom_kills(), 2);
    }

    #[test]
    fn groups_hold_limit_and_kill_processes() {
        let all = Cgroups::discover().unwrap();
        let name = format!("/coracle-test-{}", std::process::id());
        let (parent, group) = (all.group(&name).unwrap(), all.group(&format!("{name}/inner")).unwrap());
        group.create().unwrap();
        let limits = Limits { memory: 64 << 20, cpu_quota: 50_000, cpu_period: 100_000, pids: 10, ..Limits::default() };
        group.set(&limits).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        group.add(pid).unwrap();
        assert_eq!(parent.pids(), vec![pid]);
        assert_eq!(group.limits().memory, 64 << 20);
        assert_eq!(group.limits().cpu_quota, 50_000);
        assert_eq!(group.usage().pids, 1);
        parent.kill().unwrap();
        child.wait().unwrap();
        parent.remove().unwrap();
        assert!(!parent.exists());
    }
}
