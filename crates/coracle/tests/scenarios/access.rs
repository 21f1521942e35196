//! Into a pod and out of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use coracle_testkit::{Kubectl, wait_for};

use super::{SOON, World};

pub fn exec_logs_copy_and_forward(world: &World, kubectl: &Kubectl) {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {}
    command: [sh, -c, 'mkdir /www; echo hello > /www/index.html; i=0; httpd -p 8080 -h /www; while true; do echo line $i; echo oops $i >&2; i=$((i+1)); sleep 1; done']
",
        world.image
    ));
    kubectl.wait("pod/box", ".status.phase", "Running", SOON);
    exec(kubectl);
    logs(kubectl);
    copy(world, kubectl);
    forward(kubectl);
}

fn exec(kubectl: &Kubectl) {
    assert_eq!(kubectl.ok(&["exec", "box", "--", "echo", "a b"]), "a b\n");
    let failed = kubectl.command(&["exec", "box", "--", "sh", "-c", "echo bad >&2; exit 7"]).output().expect("kubectl");
    assert_eq!(failed.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&failed.stderr).starts_with("bad\n"));
    let (good, text) = kubectl.with_input(&["exec", "-i", "box", "--", "sh", "-c", "tr a-z A-Z"], "through\n");
    assert_eq!((good, text.as_str()), (true, "THROUGH\n"));
    let missing = kubectl.fails(&["exec", "box", "--", "/no/such"]);
    assert!(missing.contains("no such file or directory"), "{missing}");
    // A terminal, from `script`, which gives kubectl one on this side.
    let inner = kubectl.command(&["exec", "-it", "box", "--", "sh", "-c", "tty; stty size"]);
    let words: Vec<String> = std::iter::once("kubectl".to_owned())
        .chain(inner.get_args().map(|argument| format!("'{}'", argument.to_string_lossy())))
        .collect();
    let output = std::process::Command::new("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script is part of bsdutils");
    assert!(String::from_utf8_lossy(&output.stdout).contains("/dev/pts/"), "{output:?}");
}

fn logs(kubectl: &Kubectl) {
    // The container may write more between the look for the tail and the end of the answer.
    let text = wait_for("a log of one line", Duration::from_secs(20), || {
        let text = kubectl.ok(&["logs", "box", "--timestamps", "--tail=1"]);
        (text.lines().count() == 1).then_some(text)
    });
    assert!(text.starts_with("20") && text.contains('T'), "{text}");
    let mut follow = kubectl.command(&["logs", "-f", "box", "-c", "main"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().expect("kubectl");
    let mut seen = String::new();
    let mut stdout = child.stdout.take().expect("piped");
    wait_for("lines that come while following", Duration::from_secs(30), || {
        let mut buffer = [0; 1024];
        let count = stdout.read(&mut buffer).ok()?;
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        (seen.contains("line 0") && seen.lines().count() > 6).then_some(())
    });
    let _ = child.kill();
    let _ = child.wait();
}

fn copy(world: &World, kubectl: &Kubectl) {
    let file = world.cluster.scratch().join("copied");
    std::fs::write(&file, "over and back").expect("write");
    let there = "box:/tmp/copied";
    let _ = kubectl.ok(&["cp", &file.to_string_lossy(), there]);
    let back = world.cluster.scratch().join("back");
    let _ = kubectl.ok(&["cp", there, &back.to_string_lossy()]);
    assert_eq!(std::fs::read_to_string(back).expect("copied back"), "over and back");
}

fn forward(kubectl: &Kubectl) {
    let mut child = kubectl
        .command(&["port-forward", "pod/box", ":8080", "--address", "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl");
    let mut stdout = child.stdout.take().expect("piped");
    let mut text = String::new();
    let port: u16 = wait_for("the port", Duration::from_secs(20), || {
        let mut buffer = [0; 256];
        let count = stdout.read(&mut buffer).ok()?;
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        text.split("127.0.0.1:").nth(1)?.split(' ').next()?.parse().ok()
    });
    let mut answer = String::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("forwarded");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
        // An end by reset after the answer is as good.
        let _ = stream.read_to_string(&mut answer);
    }
    assert_eq!(answer.matches("hello").count(), 2, "{answer}");
    let _ = child.kill();
    let _ = child.wait();
}
