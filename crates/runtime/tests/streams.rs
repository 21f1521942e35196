//! Exec, attach, terminals and port-forward, for real.

mod support;

use std::time::Duration;

use coracle_cri::{AttachRequest, Error, ExecRequest, RuntimeService, TerminalSize};
use support::{Bench, WAIT_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// Reads until `end` has come.
async fn read_until(from: &mut coracle_cri::BoxRead, end: &str) -> String {
    let mut text = String::new();
    let read = async {
        let mut buffer = [0; 1024];
        while !text.contains(end) {
            match from.read(&mut buffer).await.unwrap() {
                0 => break,
                count => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
            }
        }
    };
    let in_time = tokio::time::timeout(WAIT_MAX, read).await.is_ok();
    assert!(in_time && text.contains(end), "waited for {end:?} in {text:?}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_containers() {
    let bench = Bench::new().await;
    let pod = bench.pod("exec").await;
    let id = bench.start(&pod, "main", "echo $$ > /tmp/pid; exec sleep 1000").await;
    let run = |command: &[&str], timeout| {
        let (runtime, id, command) = (bench.runtime.clone(), id.clone(), words(command));
        async move { runtime.exec_sync(&id, &command, timeout).await }
    };
    let result = run(&["sh", "-c", "echo out; echo err >&2; echo $FROM_IMAGE-$HOSTNAME; exit 5"], None).await.unwrap();
    assert_eq!(String::from_utf8(result.stdout).unwrap(), "out\n1-exec\n");
    assert_eq!((String::from_utf8(result.stderr).unwrap().as_str(), result.exit_code), ("err\n", 5));
    let error = run(&["nope"], None).await.unwrap_err().to_string();
    assert!(error.ends_with(r#"exec: "nope": executable file not found in $PATH"#), "{error}");
    let error = run(&["sleep", "1000"], Some(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(error, Error::DeadlineExceeded("command \"sleep 1000\" timed out".into()));
    // What a command leaves in the background does not hold the answer up for ever.
    let result = run(&["sh", "-c", "sleep 1000 & echo done"], None).await.unwrap();
    assert_eq!(result.stdout, b"done\n");
    let big = run(&["sh", "-c", "head -c 1000000 /dev/zero"], None).await.unwrap();
    assert_eq!(big.stdout.len(), 1_000_000);
    let result = run(&["sh", "-c", "kill -9 $$"], None).await.unwrap();
    assert_eq!(result.exit_code, 137);
    bench.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    assert!(matches!(run(&["true"], None).await, Err(Error::FailedPrecondition(_))));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_have_streams_and_terminals() {
    let bench = Bench::new().await;
    let pod = bench.pod("tty").await;
    let id = bench.start(&pod, "main", "exec sleep 1000").await;
    let request = ExecRequest { command: words(&["cat"]), stdin: true, stdout: true, ..ExecRequest::default() };
    let mut streams = bench.runtime.exec(&id, &request).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"through\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), streams.exit.await.unwrap().unwrap()), ("through\n", 0));

    let request = ExecRequest { command: words(&["sh"]), tty: true, stdin: true, stdout: true, stderr: true };
    let streams = bench.runtime.exec(&id, &request).await.unwrap();
    assert!(streams.stderr.is_none());
    let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
    streams.resize.send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    stdin.write_all(b"until [ \"$(stty size)\" = '45 123' ]; do :; done; tty; echo si''ze ok\n").await.unwrap();
    let text = read_until(&mut stdout, "size ok").await;
    assert!(text.contains("/dev/pts/0"), "{text}");
    stdin.write_all(b"exit 4\n").await.unwrap();
    assert_eq!(streams.exit.await.unwrap().unwrap(), 4);
    // Whoever leaves takes the command along.
    let request = ExecRequest { command: words(&["sleep", "4321"]), stdout: true, ..ExecRequest::default() };
    drop(bench.runtime.exec(&id, &request).await.unwrap());
    let pid = bench.status(&id).await.pid.unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/root/proc/1/stat")).is_ok();
    assert!(children());
    let gone = || !coracle_host_pids(&bench.cgroup).iter().any(|pid| command_of(*pid).contains("4321"));
    bench.wait_for("the command to end", gone).await;
    bench.end().await;
}

fn coracle_host_pids(cgroup: &str) -> Vec<i32> {
    coracle_host::cgroup::Cgroups::discover().unwrap().group(cgroup).unwrap().pids()
}

fn command_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_attach_to_one_container() {
    let bench = Bench::new().await;
    let pod = bench.pod("attach").await;
    let mut config = bench.config("main", "while read line; do echo got $line; echo err >&2; done; echo end");
    (config.stdin, config.stdin_once) = (true, true);
    let id = bench.start_of(&pod, &config).await;
    let all = AttachRequest { stdin: true, stdout: true, stderr: true };
    let mut first = bench.runtime.attach(&id, &all).await.unwrap();
    let watcher = AttachRequest { stdin: false, stdout: true, stderr: false };
    let mut second = bench.runtime.attach(&id, &watcher).await.unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all(b"one\n").await.unwrap();
    for streams in [&mut first, &mut second] {
        assert_eq!(read_until(streams.stdout.as_mut().unwrap(), "one\n").await, "got one\n");
    }
    assert_eq!(read_until(first.stderr.as_mut().unwrap(), "\n").await, "err\n");
    stdin.shutdown().await.unwrap();
    assert_eq!(read_until(second.stdout.as_mut().unwrap(), "end\n").await, "end\n");
    let code = tokio::time::timeout(WAIT_MAX, first.exit).await.unwrap();
    assert_eq!(code.unwrap().unwrap(), 0);
    assert_eq!(bench.log(&pod, "main"), "stdout F got one\nstderr F err\nstdout F end\n");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_have_terminals() {
    let bench = Bench::new().await;
    let pod = bench.pod("terminal").await;
    let mut config = bench.config("main", "tty; read line; echo got $line; stty size; test -c /dev/console");
    (config.stdin, config.tty) = (true, true);
    let id = bench.start_of(&pod, &config).await;
    let all = AttachRequest { stdin: true, stdout: true, stderr: true };
    let mut streams = bench.runtime.attach(&id, &all).await.unwrap();
    streams.resize.send(TerminalSize { width: 80, height: 25 }).await.unwrap();
    let terminal = format!("/proc/{}/fd/0", bench.status(&id).await.pid.unwrap());
    bench
        .wait_for("the size", || {
            let size = std::process::Command::new("stty").args(["-F", &terminal, "size"]).output().unwrap();
            size.stdout == b"25 80\n"
        })
        .await;
    streams.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let text = read_until(streams.stdout.as_mut().unwrap(), "25 80").await;
    assert!(text.contains("got word\r\n"), "{text:?}");
    assert_eq!(bench.wait_exited(&id).await.exit_code, 0);
    let log = std::fs::read_to_string(bench.status(&id).await.log_path).unwrap();
    assert!(log.contains(" stdout F got word\r\n"), "{log:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_of_pods_are_reached() {
    let bench = Bench::new().await;
    let pod = bench.pod("ports").await;
    let id = bench.start(&pod, "main", "echo ready; while true; do echo served | nc -l -p 80 127.0.0.1; done").await;
    bench.wait_for("the server", || !bench.log(&pod, "main").is_empty()).await;
    let error = bench.runtime.port_forward(&pod.id, 81).await.err().unwrap().to_string();
    assert!(error.contains("localhost:81 inside sandbox") && error.contains("connection refused"), "{error}");
    let connect = async {
        loop {
            if let Ok(stream) = bench.runtime.port_forward(&pod.id, 80).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut stream = tokio::time::timeout(WAIT_MAX, connect).await.unwrap();
    let mut text = [0; 7];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"served\n");
    assert!(bench.status(&id).await.pid.is_some());
    bench.end().await;
}
