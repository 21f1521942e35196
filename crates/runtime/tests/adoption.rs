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
