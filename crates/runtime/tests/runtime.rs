//! The runtime for real: pods and containers of a busybox image, through the CRI traits.

mod support;

use std::time::Duration;

use coracle_cri::{ContainerState, DnsConfig, RuntimeEvent, RuntimeService, SandboxState};
use support::Bench;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_run_log_and_exit() {
    let bench = Bench::new().await;
    let pod = bench.pod("run").await;
    let id = bench.start(&pod, "main", "echo hello; echo oops >&2; printf partial; exit 3").await;
    let status = bench.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str(), status.signal), (3, "Error", 0));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    assert_eq!(bench.log(&pod, "main"), "stdout F hello\nstderr F oops\nstdout P partial\n");
    let id = bench.start(&pod, "ok", "true").await;
    let status = bench.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    bench.runtime.remove_container(&id).await.unwrap();
    bench.runtime.remove_container(&id).await.unwrap();
    assert!(bench.runtime.container_status(&id).await.is_err());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_stopped_and_pods_removed() {
    let bench = Bench::new().await;
    let pod = bench.pod("stop").await;
    let polite = bench.start(&pod, "polite", "trap 'exit 7' TERM; while true; do sleep 0.01; done").await;
    let stubborn = bench.start(&pod, "stubborn", "trap '' TERM; while true; do sleep 0.01; done").await;
    assert_eq!(bench.status(&polite).await.state, ContainerState::Running);
    bench.wait_until_traps(&polite).await;
    bench.wait_until_traps(&stubborn).await;
    bench.runtime.stop_container(&polite, Duration::from_secs(60)).await.unwrap();
    assert_eq!(bench.status(&polite).await.exit_code, 7);
    bench.runtime.stop_container(&stubborn, Duration::from_millis(200)).await.unwrap();
    let status = bench.status(&stubborn).await;
    assert_eq!((status.exit_code, status.signal, status.reason.as_str()), (137, 9, "Error"));
    bench.runtime.stop_pod_sandbox(&pod.id).await.unwrap();
    bench.runtime.stop_pod_sandbox(&pod.id).await.unwrap();
    assert_eq!(bench.runtime.pod_sandbox_status(&pod.id).await.unwrap().state, SandboxState::NotReady);
    bench.runtime.remove_pod_sandbox(&pod.id).await.unwrap();
    bench.runtime.remove_pod_sandbox(&pod.id).await.unwrap();
    assert!(bench.runtime.list_containers().await.unwrap().is_empty());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_why() {
    let bench = Bench::new().await;
    let pod = bench.pod("fail").await;
    let cases = [
        ("nope", r#"exec: "nope": executable file not found in $PATH"#),
        ("/nope", r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/etc/passwd", r#"exec: "/etc/passwd": permission denied"#),
        ("/etc", r#"exec: "/etc": is a directory"#),
    ];
    for (command, expected) in cases {
        let mut config = bench.config("bad", "");
        config.command = vec![command.into()];
        config.args = vec![];
        let id = bench.runtime.create_container(&pod.id, &config, &pod.config).await.unwrap();
        let error = bench.runtime.start_container(&id).await.unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
        let status = bench.wait_exited(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.ends_with(expected), "{}", status.message);
        bench.runtime.remove_container(&id).await.unwrap();
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_come_and_go_at_once() {
    const PODS: usize = 16;
    let bench = std::sync::Arc::new(Bench::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PODS {
        let bench = bench.clone();
        tasks.spawn(async move {
            let pod = bench.pod(&format!("many-{number}")).await;
            let stays = bench.start(&pod, "stays", "echo up; exec sleep 1000").await;
            let ends = bench.start(&pod, "ends", &format!("seq 1 2000; exit {number}")).await;
            let echo = ["echo".to_owned(), number.to_string()];
            let result = bench.runtime.exec_sync(&stays, &echo, None).await.unwrap();
            assert_eq!(String::from_utf8(result.stdout).unwrap(), format!("{number}\n"));
            assert_eq!(bench.wait_exited(&ends).await.exit_code, i32::try_from(number).unwrap());
            assert_eq!(bench.log(&pod, "ends").lines().count(), 2000);
            let (stop, remove) = tokio::join!(
                bench.runtime.stop_pod_sandbox(&pod.id),
                bench.runtime.stop_container(&stays, Duration::from_secs(1)),
            );
            stop.unwrap();
            remove.unwrap();
            let (once, twice) =
                tokio::join!(bench.runtime.remove_pod_sandbox(&pod.id), bench.runtime.remove_pod_sandbox(&pod.id));
            once.unwrap();
            twice.unwrap();
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert!(bench.runtime.list_pod_sandboxes().await.unwrap().is_empty());
    std::sync::Arc::into_inner(bench).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_rotated_and_events_told() {
    let bench = Bench::new().await;
    let mut events = bench.runtime.events();
    let pod = bench.pod("rotate").await;
    let id = bench.start(&pod, "main", "echo one; until [ -e /tmp/go ]; do sleep 0.01; done; echo two").await;
    let status = bench.status(&id).await;
    bench.wait_for("the first line", || bench.log(&pod, "main").contains("one")).await;
    std::fs::rename(&status.log_path, format!("{}.1", status.log_path)).unwrap();
    bench.runtime.reopen_container_log(&id).await.unwrap();
    std::fs::write(format!("/proc/{}/root/tmp/go", status.pid.unwrap()), "").unwrap();
    bench.wait_exited(&id).await;
    assert_eq!(bench.log(&pod, "main"), "stdout F two\n");
    bench.runtime.remove_container(&id).await.unwrap();
    bench.runtime.stop_pod_sandbox(&pod.id).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last != "SandboxStopped") {
        let event = tokio::time::timeout(support::WAIT_MAX, events.recv()).await.unwrap().unwrap();
        let (kind, container, sandbox, uid) = match event {
            RuntimeEvent::ContainerStarted { container_id, sandbox_id, pod_uid } => {
                ("ContainerStarted", container_id, sandbox_id, pod_uid)
            }
            RuntimeEvent::ContainerExited { container_id, sandbox_id, pod_uid } => {
                ("ContainerExited", container_id, sandbox_id, pod_uid)
            }
            RuntimeEvent::ContainerRemoved { container_id, sandbox_id, pod_uid } => {
                ("ContainerRemoved", container_id, sandbox_id, pod_uid)
            }
            RuntimeEvent::SandboxStopped { sandbox_id, pod_uid } => ("SandboxStopped", id.clone(), sandbox_id, pod_uid),
            RuntimeEvent::Lagged => panic!("nothing lags"),
        };
        assert_eq!((&container, &sandbox, uid.as_str()), (&id, &pod.id, "uid-rotate"));
        seen.push(kind);
    }
    assert_eq!(seen, ["ContainerStarted", "ContainerExited", "ContainerRemoved", "SandboxStopped"]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_have_settings_of_their_own() {
    let bench = Bench::new().await;
    let mut config = bench.pod_config("settings");
    config.dns_config = Some(DnsConfig {
        servers: vec!["192.0.2.53".into()],
        searches: vec!["a.test".into(), "b.test".into()],
        options: vec!["ndots:5".into()],
    });
    config.linux.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    let pod = bench.pod_of(config).await;
    let script = "cat /etc/resolv.conf /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let (_, shown) = bench.run_of(&pod, &bench.config("main", script)).await;
    assert_eq!(shown, "search a.test b.test\nnameserver 192.0.2.53\noptions ndots:5\n1\n0");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap(), "0\n");
    let mut wrong = bench.pod_config("wrong");
    wrong.linux.sysctls.insert("kernel.nope".into(), "1".into());
    let error = bench.runtime.run_pod_sandbox(&wrong, "").await.unwrap_err().to_string();
    assert!(error.contains("set sysctl kernel.nope to \"1\": no such file or directory"), "{error}");
    let error = bench.runtime.run_pod_sandbox(&wrong, "kata").await.unwrap_err().to_string();
    assert!(error.contains("no runtime for \"kata\" is configured"), "{error}");
    assert_eq!(bench.runtime.list_pod_sandboxes().await.unwrap().len(), 1);
    bench.end().await;
}

/// What a pod costs beside its containers: pages that only its shim has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shims_share_their_memory() {
    let bench = Bench::new().await;
    let mut private = Vec::new();
    for name in ["one", "two", "three"] {
        let pod = bench.pod(name).await;
        let id = bench.start(&pod, "main", "exec sleep 1000").await;
        let pid = bench.status(&id).await.pid.unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let shim = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
        let rollup = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        private.push(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
    }
    // Kibibytes. Without sharing it would be several thousand.
    assert!(private.iter().all(|kib| *kib < 1024), "{private:?}");
    bench.end().await;
}
