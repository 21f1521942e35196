//! Starts that are refused: one clear message, at once, and nothing is left behind. The real binary, without a node.

mod alone;

use std::path::Path;
use std::process::Command;

use alone::Folder;

/// What a start that is refused says.
fn refused(folder: &Folder, data: &Path) -> String {
    let output = folder.up(data).output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_no_folder_and_no_kubeconfig() {
    let folder = Folder::new();
    let file = folder.path("file");
    std::fs::write(&file, "precious").expect("write");
    let text = refused(&folder, &file);
    assert_eq!(text, format!("coracle: data folder {} is a file: name a folder with --data-dir\n", file.display()));
    std::fs::write(folder.path("kubeconfig"), "}garbage{").expect("write");
    let data = folder.path("data");
    let text = refused(&folder, &data);
    assert!(text.starts_with(&format!("coracle: kubeconfig {}: ", folder.path("kubeconfig").display())), "{text}");
    assert!(!data.exists(), "looked at before anything is made");
    assert_eq!(std::fs::read_to_string(file).expect("read"), "precious");
}

#[test]
fn settings_that_cannot_work_together() {
    let folder = Folder::new();
    let data = folder.path("data");
    let refused = |arguments: &[&str]| {
        let output = folder.up(&data).args(arguments).output().expect("run");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused(&["--pod-cidr", "10.96.4.0/24"]);
    assert!(text.contains("--pod-cidr 10.96.4.0/24 and --service-cidr 10.96.0.0/16 overlap"), "{text}");
    let text = refused(&["--pod-cidr", "fd00::/64"]);
    assert!(text.contains("not of the same family"), "{text}");
    let text = refused(&["--pod-cidr", "10.244.0.7/24"]);
    assert!(text.contains("did you mean 10.244.0.0/24?"), "{text}");
    let text = refused(&["--node-name", &"n".repeat(64)]);
    assert!(text.contains("must be no more than 63 characters"), "{text}");
    let text = refused(&["--node-name", "Not_A_Name"]);
    assert!(text.contains("a lowercase RFC 1123 subdomain"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = Folder::new();
    let data = folder.path("data");
    let running = folder.started(&data);
    let script = format!(
        "{} kubectl get clusterroles -o yaml --kubeconfig {} | head -1",
        env!("CARGO_BIN_EXE_coracle"),
        folder.path("kubeconfig").display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "apiVersion: v1\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let alive = Command::new("kill").args(["-0", &running.0.id().to_string()]).status().expect("run");
    assert!(alive.success(), "what it printed was read only in part");
    drop(running);
}

#[test]
fn a_cluster_that_runs_and_one_that_lost_its_data() {
    let folder = Folder::new();
    let data = folder.path("data");
    let running = folder.started(&data);
    let text = refused(&folder, &data);
    assert!(text.contains(&format!("is in use by process {}: stop that one first", running.0.id())), "{text}");
    drop(running);

    let good = std::fs::read(data.join("pki/ca.key")).expect("read");
    std::fs::write(data.join("pki/ca.key"), "no key").expect("write");
    let text = refused(&folder, &data);
    assert!(
        text.contains(&format!("{} is damaged: it holds no private key", data.join("pki/ca.key").display())),
        "{text}"
    );
    std::fs::write(data.join("pki/ca.key"), good).expect("write");

    std::fs::rename(data.join("store"), folder.path("copy")).expect("rename");
    let text = refused(&folder, &data);
    assert!(text.contains("has lost its data") && text.contains("Put it back from a copy"), "{text}");
    std::fs::rename(folder.path("copy"), data.join("store")).expect("rename");
    drop(folder.started(&data));
}
