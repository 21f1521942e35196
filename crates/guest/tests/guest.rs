//! The emulated machine itself: it starts, runs what it is told, has what this host's kernel lacks, and ends.

use std::time::Duration;

use coracle_guest::{File, Guest, Options};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_guest_has_what_this_kernel_lacks() {
    let folder = tempfile::tempdir().expect("temp");
    std::fs::write(folder.path().join("brought"), "from the host\n").expect("write");
    let files = vec![File { source: folder.path().join("brought"), target: "/opt/brought".to_owned() }];
    let guest = Guest::start(&Options { cpus: 1, memory_mib: 512, disk_mib: 64, files, ..Options::default() });
    let guest = guest.expect("a guest");
    assert_eq!(guest.ok("cat /opt/brought", LIMIT).expect("cat"), "from the host\n");
    let outcome = guest.run("echo out; echo err >&2; exit 7", LIMIT).expect("run");
    assert_eq!((outcome.code, outcome.text.as_str()), (7, "out\nerr\n"));

    // Control groups are v2 alone, with every controller that limits take.
    let controllers = guest.ok("cat /sys/fs/cgroup/cgroup.controllers", LIMIT).expect("controllers");
    for wanted in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"] {
        assert!(controllers.split_whitespace().any(|name| name == wanted), "{controllers}");
    }
    // Rights and limits that this host does not give.
    let rights = "ulimit -n 1048576; echo -998 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    assert_eq!(guest.ok(rights, LIMIT).expect("rights"), "-998\n");
    // Kinds of links and modules, loaded by the kernel when they are asked for.
    let links = "ip link add dum0 type dummy; ip link add w type wireguard; modprobe ipip; ip tunnel add t mode ipip remote 10.0.2.2";
    guest.ok(links, LIMIT).expect("links");
    guest.ok("modprobe ip_vs_rr; cat /proc/net/ip_vs; modprobe sch_netem", LIMIT).expect("modules");
}
