//! Components come in with the rights of their own names, which must suffice.

use serde_json::Value;

use super::World;

/// What the cluster's own components asked for was not refused to them. Creating in a namespace that ends is refused to
/// everybody, and says nothing.
pub fn nothing_of_ours_is_refused(world: &World) {
    let folder = world.cluster.data_dir().join("audit");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let text = ["audit.log.2", "audit.log.1", "audit.log"].map(read).concat();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut seen = 0;
    let mut refused = Vec::new();
    for event in events {
        let word = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let user = word("/user/username");
        let ours = ["system:kube-", "system:node:", "system:serviceaccount:kube-system:"];
        if !ours.iter().any(|prefix| user.starts_with(prefix)) {
            continue;
        }
        seen += 1;
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64);
        if code == Some(403) && word("/verb") != "create" {
            refused.push(format!("{user}: {} {}", word("/verb"), word("/requestURI")));
        }
    }
    refused.sort();
    refused.dedup();
    assert!(seen > 100, "only {seen} requests of the cluster's own in the audit log");
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
}
