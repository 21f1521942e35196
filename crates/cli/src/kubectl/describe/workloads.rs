//! What makes pods: deployments, sets, jobs.

use coracle_api_meta::{Value, object::ObjectExt as _};

use super::Related;
use super::pod::template;
use super::text::{Text, formatted_labels, is_true, list, moment, number, or, plain_at, selector};

fn template_of(object: &Value) -> &Value {
    object.at(&["spec", "template"]).unwrap_or(&Value::Null)
}

/// Counts of pods by phase.
fn pods_status(text: &mut Text, related: &Related) {
    let count = |phase: &str| related.pods.iter().filter(|pod| pod.str_at(&["status", "phase"]) == phase).count();
    let (running, waiting) = (count("Running"), count("Pending"));
    let (succeeded, failed) = (count("Succeeded"), count("Failed"));
    let status = format!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed");
    text.field(0, "Pods Status", status);
}

fn conditions(text: &mut Text, object: &Value) {
    let conditions = list(object, &["status", "conditions"]);
    if conditions.is_empty() {
        return;
    }
    text.raw(0, "Conditions:");
    text.raw(0, "  Type\tStatus\tReason");
    text.raw(1, "----\t------\t------");
    for own in conditions {
        let (kind, status, reason) = (own.str_at(&["type"]), own.str_at(&["status"]), own.str_at(&["reason"]));
        text.raw(1, &format!("{kind} \t{status}\t{reason}"));
    }
}

pub fn deployment(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.field(0, "CreationTimestamp", moment(object.meta_str("creationTimestamp")));
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.field(0, "Selector", selector(object));
    let status = |field: &str| number(object, &["status", field]);
    let replicas = format!(
        "{} desired | {} updated | {} total | {} available | {} unavailable",
        number(object, &["spec", "replicas"]),
        status("updatedReplicas"),
        status("replicas"),
        status("availableReplicas"),
        status("unavailableReplicas")
    );
    text.field(0, "Replicas", replicas);
    text.field(0, "StrategyType", object.str_at(&["spec", "strategy", "type"]));
    text.field(0, "MinReadySeconds", number(object, &["spec", "minReadySeconds"]).to_string());
    if let Some(rolling) = object.at(&["spec", "strategy", "rollingUpdate"]) {
        let (unavailable, surge) = (plain_at(rolling, &["maxUnavailable"]), plain_at(rolling, &["maxSurge"]));
        text.field(0, "RollingUpdateStrategy", format!("{unavailable} max unavailable, {surge} max surge"));
    }
    template(text, template_of(object));
    conditions(text, object);
    sets(text, object, related);
}

fn revision(object: &Value) -> u64 {
    let revision = object.str_at(&["metadata", "annotations", "deployment.kubernetes.io/revision"]);
    revision.parse().unwrap_or_default()
}

fn sets(text: &mut Text, object: &Value, related: &Related) {
    let (new, mut old): (Vec<&Value>, Vec<&Value>) =
        related.sets.iter().partition(|set| revision(set) == revision(object));
    if new.is_empty() && old.is_empty() {
        return;
    }
    old.sort_by_key(|set| (set.meta_str("creationTimestamp").to_owned(), set.name().to_owned()));
    let shown = |sets: &[&Value]| {
        let one = |set: &&Value| {
            let (made, wanted) = (number(set, &["status", "replicas"]), number(set, &["spec", "replicas"]));
            format!("{} ({made}/{wanted} replicas created)", set.name())
        };
        let all: Vec<String> = sets.iter().map(one).collect();
        or(&all.join(", "), "<none>").to_owned()
    };
    text.field(0, "OldReplicaSets", shown(&old));
    text.field(0, "NewReplicaSet", shown(&new));
}

/// Replica sets and replication controllers.
pub fn replicas(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    let controller = object.kind() == "ReplicationController";
    let selects = if controller { formatted_labels(object.at(&["spec", "selector"])) } else { selector(object) };
    text.field(0, "Selector", selects);
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.controlled_by(object);
    let (current, wanted) = (number(object, &["status", "replicas"]), number(object, &["spec", "replicas"]));
    text.field(0, "Replicas", format!("{current} current / {wanted} desired"));
    pods_status(text, related);
    template(text, template_of(object));
    conditions(text, object);
}

pub fn stateful_set(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.field(0, "CreationTimestamp", moment(object.meta_str("creationTimestamp")));
    text.field(0, "Selector", selector(object));
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    let (wanted, total) = (number(object, &["spec", "replicas"]), number(object, &["status", "replicas"]));
    text.field(0, "Replicas", format!("{wanted} desired | {total} total"));
    text.field(0, "Update Strategy", object.str_at(&["spec", "updateStrategy", "type"]));
    let partition = plain_at(object, &["spec", "updateStrategy", "rollingUpdate", "partition"]);
    text.optional(1, "Partition", &partition);
    pods_status(text, related);
    template(text, template_of(object));
    let claims = list(object, &["spec", "volumeClaimTemplates"]);
    if claims.is_empty() {
        return text.field(0, "Volume Claims", "<none>");
    }
    text.raw(0, "Volume Claims:");
    for claim in claims {
        text.field(1, "Name", claim.name());
        text.field(1, "StorageClass", claim.str_at(&["spec", "storageClassName"]));
        text.labels("  Labels", claim.labels());
        text.labels("  Annotations", claim.annotations());
        let capacity = claim.str_at(&["spec", "resources", "requests", "storage"]);
        text.field(1, "Capacity", or(capacity, "<default>"));
        let modes: Vec<String> = list(claim, &["spec", "accessModes"]).iter().map(|mode| plain_at(mode, &[])).collect();
        text.field(1, "Access Modes", format!("[{}]", modes.join(" ")));
    }
}

pub fn daemon_set(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    text.optional(0, "Namespace", object.namespace());
    text.field(0, "Selector", selector(object));
    text.field(0, "Node-Selector", formatted_labels(object.at(&["spec", "template", "spec", "nodeSelector"])));
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        text.raw(0, &format!("{title}: {}", number(object, &["status", field])));
    }
    pods_status(text, related);
    template(text, template_of(object));
}

pub fn job(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.field(0, "Selector", selector(object));
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.controlled_by(object);
    let spec = |field: &str| plain_at(object, &["spec", field]);
    text.optional(0, "Parallelism", &spec("parallelism"));
    text.field(0, "Completions", or(&spec("completions"), "<unset>"));
    text.optional(0, "Completion Mode", &spec("completionMode"));
    text.optional(0, "Suspend", &spec("suspend"));
    text.optional(0, "Backoff Limit", &spec("backoffLimit"));
    text.optional(0, "TTL Seconds After Finished", &spec("ttlSecondsAfterFinished"));
    let (start, end) = (object.str_at(&["status", "startTime"]), object.str_at(&["status", "completionTime"]));
    text.time(0, "Start Time", start);
    text.time(0, "Completed At", end);
    if let (false, Ok(end)) = (start.is_empty(), end.parse()) {
        text.field(0, "Duration", super::age(start, end));
    }
    if !spec("activeDeadlineSeconds").is_empty() {
        text.field(0, "Active Deadline Seconds", format!("{}s", spec("activeDeadlineSeconds")));
    }
    let status = |field: &str| number(object, &["status", field]);
    let ready = match object.at(&["status", "ready"]) {
        Some(ready) => format!(" ({ready} Ready)"),
        None => String::new(),
    };
    let (active, succeeded, failed) = (status("active"), status("succeeded"), status("failed"));
    text.field(0, "Pods Statuses", format!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed"));
    if spec("completionMode") == "Indexed" {
        text.field(0, "Completed Indexes", or(object.str_at(&["status", "completedIndexes"]), "<none>"));
    }
    template(text, template_of(object));
}

pub fn cron_job(text: &mut Text, object: &Value) {
    text.head(object);
    let spec = |field: &str| plain_at(object, &["spec", field]);
    text.field(0, "Schedule", spec("schedule"));
    text.field(0, "Concurrency Policy", spec("concurrencyPolicy"));
    text.field(0, "Suspend", if is_true(object.at(&["spec", "suspend"])) { "True" } else { "False" });
    text.field(0, "Time Zone", or(&spec("timeZone"), "<unset>"));
    text.field(0, "Successful Job History Limit", or(&spec("successfulJobsHistoryLimit"), "<unset>"));
    text.field(0, "Failed Job History Limit", or(&spec("failedJobsHistoryLimit"), "<unset>"));
    let unset_or_seconds =
        |seconds: String| if seconds.is_empty() { "<unset>".to_owned() } else { format!("{seconds}s") };
    text.field(0, "Starting Deadline Seconds", unset_or_seconds(spec("startingDeadlineSeconds")));
    let job = object.at(&["spec", "jobTemplate"]).unwrap_or(&Value::Null);
    let selects = if job.at(&["spec", "selector"]).is_some() { selector(job) } else { "<unset>".to_owned() };
    text.field(0, "Selector", selects);
    text.field(0, "Parallelism", or(&plain_at(job, &["spec", "parallelism"]), "<unset>"));
    text.field(0, "Completions", or(&plain_at(job, &["spec", "completions"]), "<unset>"));
    let deadline = plain_at(job, &["spec", "activeDeadlineSeconds"]);
    if !deadline.is_empty() {
        text.field(0, "Active Deadline Seconds", format!("{deadline}s"));
    }
    template(text, template_of(job));
    match object.str_at(&["status", "lastScheduleTime"]) {
        "" => text.field(0, "Last Schedule Time", "<unset>"),
        time => text.field(0, "Last Schedule Time", moment(time)),
    }
    let active: Vec<&str> = list(object, &["status", "active"]).iter().map(|job| job.str_at(&["name"])).collect();
    text.field(0, "Active Jobs", or(&active.join(", "), "<none>"));
}

pub fn autoscaler(text: &mut Text, object: &Value) {
    text.head(object);
    text.field(0, "CreationTimestamp", moment(object.meta_str("creationTimestamp")));
    let kind = object.str_at(&["spec", "scaleTargetRef", "kind"]);
    text.field(0, "Reference", format!("{kind}/{}", object.str_at(&["spec", "scaleTargetRef", "name"])));
    text.field(0, "Metrics", "( current / target )");
    let current = list(object, &["status", "currentMetrics"]);
    for (index, metric) in list(object, &["spec", "metrics"]).into_iter().enumerate() {
        measured(text, metric, current.get(index).copied().unwrap_or(&Value::Null));
    }
    text.field(0, "Min replicas", or(&plain_at(object, &["spec", "minReplicas"]), "<unset>"));
    text.field(0, "Max replicas", plain_at(object, &["spec", "maxReplicas"]));
    if object.at(&["spec", "behavior"]).is_some() {
        text.raw(0, "Behavior:");
        direction(text, "Scale Up", object.at(&["spec", "behavior", "scaleUp"]));
        direction(text, "Scale Down", object.at(&["spec", "behavior", "scaleDown"]));
    }
    let status = |field: &str| number(object, &["status", field]);
    let counts = format!("{} current / {} desired", status("currentReplicas"), status("desiredReplicas"));
    text.field(0, &format!("{kind} pods"), counts);
    let conditions = list(object, &["status", "conditions"]);
    if conditions.is_empty() {
        return;
    }
    text.raw(0, "Conditions:");
    text.raw(1, "Type\tStatus\tReason\tMessage");
    text.raw(1, "----\t------\t------\t-------");
    for own in conditions {
        let all = ["type", "status", "reason", "message"].map(|field| own.str_at(&[field]));
        text.raw(1, &all.join("\t"));
    }
}

fn measured(text: &mut Text, metric: &Value, current: &Value) {
    let (source, field, subject) = match (metric.get("resource"), metric.get("containerResource")) {
        (Some(own), _) => (own, "resource", format!("resource {} on pods", own.str_at(&["name"]))),
        (None, Some(own)) => {
            let (name, container) = (own.str_at(&["name"]), own.str_at(&["container"]));
            (own, "containerResource", format!("resource {name} of container {container:?} on pods"))
        }
        _ => return text.raw(1, &format!("<unknown metric type {:?}>", metric.str_at(&["type"]))),
    };
    let now = |path: &[&str]| current.get(field).map(|own| plain_at(own, path)).filter(|text| !text.is_empty());
    let unknown = || "<unknown>".to_owned();
    let target = plain_at(source, &["target", "averageValue"]);
    if !target.is_empty() {
        let value = now(&["current", "averageValue"]).unwrap_or_else(unknown);
        return text.raw(1, &format!("{subject}:\t{value} / {target}"));
    }
    let value = match (now(&["current", "averageUtilization"]), now(&["current", "averageValue"])) {
        (Some(percent), Some(value)) => format!("{percent}% ({value})"),
        _ => unknown(),
    };
    let target = format!("{}%", plain_at(source, &["target", "averageUtilization"]));
    text.raw(1, &format!("{subject}  (as a percentage of request):\t{value} / {target}"));
}

fn direction(text: &mut Text, title: &str, rules: Option<&Value>) {
    let Some(rules) = rules else { return };
    text.raw(1, &format!("{title}:"));
    if let Some(seconds) = rules.get("stabilizationWindowSeconds") {
        text.raw(2, &format!("Stabilization Window: {seconds} seconds"));
    }
    let policies = list(rules, &["policies"]);
    if policies.is_empty() {
        return;
    }
    text.raw(2, &format!("Select Policy: {}", or(rules.str_at(&["selectPolicy"]), "Max")));
    text.raw(2, "Policies:");
    for own in policies {
        let (kind, value, period) = (own.str_at(&["type"]), number(own, &["value"]), number(own, &["periodSeconds"]));
        text.raw(3, &format!("- Type: {kind}\tValue: {value}\tPeriod: {period} seconds"));
    }
}
