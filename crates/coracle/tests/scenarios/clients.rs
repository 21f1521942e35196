//! Clients other than kubectl.

use std::path::Path;
use std::process::Command;

use coracle_testkit::Kubectl;

use super::World;

/// The official Python client, from the folder that `scripts/setup` fills.
pub fn python(world: &World, kubectl: &Kubectl) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    let output = Command::new(root.join("target/python/bin/python"))
        .arg(root.join("crates/coracle/tests/clients/client.py"))
        .arg(&kubectl.kubeconfig)
        .args([&kubectl.namespace, &world.image])
        .output()
        .expect("run scripts/setup first: it installs the Python client");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
