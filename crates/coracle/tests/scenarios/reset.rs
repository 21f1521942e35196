//! After a reset the host is as it was.

use std::process::Command;

use super::World;

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn leaves_nothing(world: &mut World) {
    let data = world.cluster.data_dir();
    let settings = std::fs::read_to_string(data.join("cluster.json")).expect("settings");
    let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
    let instance = settings["instance"].as_str().expect("instance").to_owned();
    let running = world.cluster.coracle(&["reset", "--yes"]).expect("run");
    assert!(!running.status.success(), "reset of a running cluster");
    let asking = {
        world.cluster.interrupt().expect("stopped");
        world.cluster.coracle(&["reset"]).expect("run")
    };
    assert!(!asking.status.success() && data.exists(), "reset without a terminal must ask for --yes");
    let reset = world.cluster.coracle(&["reset", "--yes"]).expect("run");
    assert!(
        reset.status.success(),
        "{}{}",
        String::from_utf8_lossy(&reset.stdout),
        String::from_utf8_lossy(&reset.stderr)
    );
    assert!(!data.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&*data.to_string_lossy()), "{mounts}");
    let bridge = instance.replace("coracle-", "cor");
    assert!(!output("ip", &["link"]).contains(&format!(" {bridge}:")));
    assert!(!output("nft", &["list", "tables"]).contains(&instance));
    assert_eq!(output("pgrep", &["-f", "echo tick"]), "");
    for controller in ["memory", "cpu", "pids"] {
        assert!(!std::path::Path::new("/sys/fs/cgroup").join(controller).join(&instance).exists(), "{controller}");
    }
    let kubeconfig = std::fs::read_to_string(world.cluster.kubeconfig()).expect("kubeconfig");
    assert!(!kubeconfig.contains("name: coracle"), "{kubeconfig}");
}
