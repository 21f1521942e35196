//! Tests: the kernel keeps the limits that groups are given. They run on the hierarchies of this machine and, through
//! `the_suite_passes_on_cgroup_v2`, on those of a machine that has v2 alone.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use super::{Cgroup, Cgroups, DeviceRule, Limits};

/// A shell that runs its script in a group, from the first line on.
struct Inside(Child);

impl Inside {
    fn start(group: &Cgroup<'_>, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read go; {script}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        group.add(i32::try_from(child.id()).unwrap()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Self(child)
    }

    fn output(self) -> Output {
        self.0.wait_with_output().unwrap()
    }
}

/// A group that is gone at the end, whatever happens.
fn with_group(name: &str, test: impl FnOnce(&Cgroups, &Cgroup<'_>)) {
    struct Removed<'a>(Cgroup<'a>);
    impl Drop for Removed<'_> {
        fn drop(&mut self) {
            self.0.remove().unwrap();
        }
    }
    let all = Cgroups::discover().unwrap();
    let parent = Removed(all.group(&format!("/coracle-{name}-{}", std::process::id())).unwrap());
    let group = all.group(&format!("/coracle-{name}-{}/inner", std::process::id())).unwrap();
    group.create().unwrap();
    test(&all, &group);
    drop(parent);
}

#[test]
fn no_more_processes_than_permitted() {
    with_group("pids", |_, group| {
        group.set(&Limits { pids: 2, ..Limits::default() }).unwrap();
        let output = Inside::start(group, "sleep 5 & sleep 5 & sleep 5 & wait").output();
        assert!(!output.status.success(), "{output:?}");
    });
}

#[test]
fn who_takes_too_much_memory_is_killed() {
    with_group("memory", |all, group| {
        group.set(&Limits { memory: 16 << 20, ..Limits::default() }).unwrap();
        let output = Inside::start(group, "tail /dev/zero; echo tail ended with $?").output();
        assert!(group.oom_kills() > 0, "{output:?}");
        // v2 kills the group as a whole, v1 one process.
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.contains("tail ended with 137"), !all.is_v2(), "{output:?}");
        // More is permitted from now on, then less.
        for bytes in [64 << 20, 32 << 20] {
            group.set(&Limits { memory: bytes, ..Limits::default() }).unwrap();
            assert_eq!(group.limits().memory, bytes);
        }
    });
}

#[test]
fn only_named_devices_open() {
    with_group("devices", |_, group| {
        group.set_devices(&DeviceRule::defaults()).unwrap();
        let script = "for device in null kmsg; do if true </dev/$device; then echo $device; fi; done";
        let output = Inside::start(group, script).output();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "null\n", "{output:?}");
    });
}

#[test]
fn frozen_processes_wait_and_can_be_killed() {
    with_group("freezer", |_, group| {
        let inside = Inside::start(group, "exec sleep 1000");
        group.freeze(true).unwrap();
        group.kill().unwrap();
        assert!(!inside.output().status.success());
    });
}

/// What v1 has no files for: protection and throttling by memory, as `MemoryQoS` sets them.
#[test]
fn files_of_v2_are_written_as_they_are() {
    with_group("unified", |all, group| {
        let wanted = [("memory.min", "4194304"), ("memory.low", "8388608"), ("memory.high", "12582912")];
        let unified = wanted.map(|(file, value)| (file.to_owned(), value.to_owned())).to_vec();
        group.set(&Limits { unified, ..Limits::default() }).unwrap();
        if !all.is_v2() {
            return;
        }
        let folder = group.folder_of("memory").unwrap();
        for (file, value) in wanted {
            assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap().trim(), value, "{file}");
        }
        let escape = Limits { unified: vec![("../memory.max".into(), "1".into())], ..Limits::default() };
        group.set(&escape).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("../memory.max")).unwrap().trim(), "max");
    });
}

/// All tests of this crate once more, where v2 is alone and nothing is forbidden.
#[test]
fn the_suite_passes_on_cgroup_v2() {
    use coracle_guest::{File, Guest, Options};
    const IN_GUEST: &str = "CORACLE_IN_GUEST";
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(180);
    if std::env::var_os(IN_GUEST).is_some() {
        return assert!(Cgroups::discover().unwrap().is_v2());
    }
    let suite = File { source: std::env::current_exe().unwrap(), target: "/bin/suite".to_owned() };
    let guest = Guest::start(&Options { files: vec![suite], ..Options::default() }).unwrap();
    let text = guest.ok(&format!("{IN_GUEST}=1 RUST_BACKTRACE=0 /bin/suite"), LIMIT).unwrap();
    assert!(text.contains("the_suite_passes_on_cgroup_v2 ... ok"), "{text}");
    let left = guest.ok("find /sys/fs/cgroup -name 'coracle-*'", LIMIT).unwrap();
    assert_eq!(left, "");
}
