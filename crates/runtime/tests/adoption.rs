//! The runtime ends and comes back; its containers do not notice.

mod support;

use std::time::Duration;

use coracle_cri::{ContainerState, RuntimeService, SandboxState};
use support::Bench;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_adopted_and_no_exit_is_lost() {
    let mut bench = Bench::new().await;
    let pod = bench.pod("adopt").await;
    let stays = bench.start(&pod, "stays", "exec sleep 1000").await;
    let ends = bench.start(&pod, "ends", "until [ -e /tmp/go ]; do sleep 0.01; done; exit 9").await;
    let before = bench.status(&stays).await;
    let go = format!("/proc/{}/root/tmp/go", bench.status(&ends).await.pid.unwrap());
    bench.restart().await;
    assert_eq!(bench.status(&stays).await, before);
    std::fs::write(go, "").unwrap();
    assert_eq!(bench.wait_exited(&ends).await.exit_code, 9);
    bench.restart().await;
    assert_eq!(bench.status(&ends).await.exit_code, 9);
    let result = bench.runtime.exec_sync(&stays, &["hostname".to_owned()], None).await.unwrap();
    assert_eq!(result.stdout, b"adopt\n");
    bench.runtime.stop_container(&stays, Duration::ZERO).await.unwrap();
    bench.restart().await;
    assert_eq!(bench.status(&stays).await.exit_code, 137);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shim_ends_its_pod() {
    let mut bench = Bench::new().await;
    let pod = bench.pod("lost").await;
    let id = bench.start(&pod, "main", "exec sleep 1000").await;
    let cgroups = coracle_host::cgroup::Cgroups::discover().unwrap();
    let shims = cgroups.group(&format!("{}/shims", bench.cgroup)).unwrap();
    shims.kill().unwrap();
    let status = bench.wait_exited(&id).await;
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 255));
    let pid = status.pid;
    assert_eq!(pid, None);
    bench.wait_for("the pod to end", || cgroups.group(&bench.cgroup).unwrap().pids().is_empty()).await;
    bench.restart().await;
    let status = bench.runtime.pod_sandbox_status(&pod.id).await.unwrap();
    assert_eq!(status.state, SandboxState::NotReady);
    assert_eq!(bench.status(&id).await.exit_code, 255);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_made_again() {
    let bench = Bench::new().await;
    let pod = bench.pod("broken").await;
    let id = bench.start(&pod, "main", "until [ -e /tmp/go ]; do sleep 0.01; done; exit 5").await;
    let go = format!("/proc/{}/root/tmp/go", bench.status(&id).await.pid.unwrap());
    assert!(break_connections(&bench.cgroup) > 0);
    std::fs::write(go, "").unwrap();
    assert_eq!(bench.wait_exited(&id).await.exit_code, 5);
    assert_eq!(bench.runtime.pod_sandbox_status(&pod.id).await.unwrap().state, SandboxState::Ready);
    bench.end().await;
}

/// Shuts down every connection of this process to a shim below `cgroup`; returns how many.
fn break_connections(cgroup: &str) -> usize {
    use rustix::net::{Shutdown, SocketAddrUnix, getpeername, shutdown};
    let own = coracle_host::process::pidfd(i32::try_from(std::process::id()).unwrap()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<_>>();
    let copies = numbers.into_iter().filter_map(|number| {
        rustix::process::pidfd_getfd(&own, number, rustix::process::PidfdGetfdFlags::empty()).ok()
    });
    let is_shim = |file: &std::os::fd::OwnedFd| {
        let peer = getpeername(file).ok().flatten().and_then(|peer| SocketAddrUnix::try_from(peer).ok());
        peer.is_some_and(|peer| peer.path_bytes().is_some_and(|path| path.ends_with(b"shim.sock")))
    };
    let found = copies.filter(is_shim).filter(|file| belongs_to(file, cgroup)).collect::<Vec<_>>();
    found.iter().for_each(|file| shutdown(file, Shutdown::Both).unwrap());
    found.len()
}

/// Whether the process at the other end lives below `cgroup`.
fn belongs_to(file: &std::os::fd::OwnedFd, cgroup: &str) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(file) else { return false };
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", peer.pid.as_raw_nonzero())).unwrap_or_default();
    groups.contains(&format!("{cgroup}/"))
}
