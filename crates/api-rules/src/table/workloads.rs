//! Groups `apps`, `batch`, `autoscaling` and `policy`, and replication controllers.

use coracle_api_meta::{LabelSelector, ObjectExt, Value};
use jiff::Timestamp;

use super::Column;
use super::duration::{age, human, since};
use super::rows::{
    AGE, NAME, Table, containers, deleted, int, integer, is_true, labels, list, selector, shown, text, wide,
};

const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");

pub(crate) fn table(kind: &str) -> Option<Table> {
    Some(match kind {
        "Deployment" => (
            const { &[NAME, text("Ready"), text("Up-to-date"), text("Available"), AGE, CONTAINERS, IMAGES, SELECTOR] },
            deployment,
        ),
        "ReplicaSet" => (REPLICAS, replica_set),
        "StatefulSet" => (const { &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES] }, stateful_set),
        "DaemonSet" => (
            const {
                &[
                    NAME,
                    integer("Desired"),
                    integer("Current"),
                    integer("Ready"),
                    integer("Up-to-date"),
                    integer("Available"),
                    text("Node Selector"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            daemon_set,
        ),
        "ControllerRevision" => (const { &[NAME, text("Controller"), text("Revision"), AGE] }, controller_revision),
        "Job" => (
            const { &[NAME, text("Status"), text("Completions"), text("Duration"), AGE, CONTAINERS, IMAGES, SELECTOR] },
            job,
        ),
        "CronJob" => (
            const {
                &[
                    NAME,
                    text("Schedule"),
                    text("Timezone"),
                    super::rows::boolean("Suspend"),
                    integer("Active"),
                    text("Last Schedule"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cron_job,
        ),
        "HorizontalPodAutoscaler" => (
            const { &[NAME, text("Reference"), text("Targets"), text("MinPods"), text("MaxPods"), text("Replicas"), AGE] },
            autoscaler,
        ),
        "PodDisruptionBudget" => (
            const { &[NAME, text("Min Available"), text("Max Unavailable"), integer("Allowed Disruptions"), AGE] },
            disruption_budget,
        ),
        "Scale" => (const { &[text("Name"), integer("Desired"), integer("Available"), AGE] }, scale),
        _ => return None,
    })
}

pub(crate) const REPLICAS: &[Column] =
    &[NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR];

const TEMPLATE: [&str; 2] = ["spec", "template"];

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(object.at(&TEMPLATE));
    let selector = LabelSelector::from_value(object.at(&["spec", "selector"]).unwrap_or(&Value::Null));
    vec![
        object.name().into(),
        format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into(),
        int(object, &["status", "updatedReplicas"]).into(),
        int(object, &["status", "availableReplicas"]).into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        selector.map_or_else(|_| "<invalid>".to_owned(), |selector| selector.to_string()).into(),
    ]
}

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let (names, images) = containers(object.at(&TEMPLATE));
    vec![
        object.name().into(),
        int(object, &["spec", "replicas"]).into(),
        int(object, &["status", "replicas"]).into(),
        int(object, &["status", "readyReplicas"]).into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        selector.into(),
    ]
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, selector(object.at(&["spec", "selector"])))
}

pub(crate) fn replication_controller(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, labels(object.at(&["spec", "selector"])))
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(object.at(&TEMPLATE));
    vec![
        object.name().into(),
        format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into(),
        age(object, now).into(),
        names.into(),
        images.into(),
    ]
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(object.at(&TEMPLATE));
    let status = |field: &str| Value::from(int(object, &["status", field]));
    vec![
        object.name().into(),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        labels(object.at(&["spec", "template", "spec", "nodeSelector"])).into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        selector(object.at(&["spec", "selector"])).into(),
    ]
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owners = list(object, &["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let owner = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let group = owner.str_at(&["apiVersion"]).split_once('/').map(|(group, _)| format!(".{group}"));
            let kind = owner.str_at(&["kind"]).to_lowercase();
            format!("{kind}{}/{}", group.unwrap_or_default(), owner.name_of())
        },
    );
    vec![object.name().into(), owner.into(), int(object, &["revision"]).into(), age(object, now).into()]
}

trait NameOf {
    fn name_of(&self) -> &str;
}

impl NameOf for Value {
    fn name_of(&self) -> &str {
        self.str_at(&["name"])
    }
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = int(object, &["status", "succeeded"]);
    let parallelism = int(object, &["spec", "parallelism"]);
    let completions = match object.at(&["spec", "completions"]).and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let (names, images) = containers(object.at(&TEMPLATE));
    vec![
        object.name().into(),
        job_status(object).into(),
        completions.into(),
        job_duration(object, now).into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        selector(object.at(&["spec", "selector"])).into(),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let states = [("Complete", "Complete"), ("Failed", "Failed")];
    let later =
        [("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")];
    let find =
        |states: &[(&str, &'static str)]| states.iter().find(|(kind, _)| is_true(job, kind)).map(|found| found.1);
    match find(&states) {
        Some(ended) => ended,
        None if deleted(job) => "Terminating",
        None => find(&later).unwrap_or("Running"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let stamp = |field: &str| job.str_at(&["status", field]).parse::<Timestamp>().ok();
    let Some(start) = stamp("startTime") else { return String::new() };
    human(stamp("completionTime").unwrap_or(now).duration_since(start).as_secs())
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |field: &str| object.at(&["spec", field]);
    let last = object.str_at(&["status", "lastScheduleTime"]);
    let suspend = match spec("suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let (names, images) = containers(object.at(&["spec", "jobTemplate", "spec", "template"]));
    vec![
        object.name().into(),
        object.str_at(&["spec", "schedule"]).into(),
        spec("timeZone").and_then(Value::as_str).unwrap_or("<none>").into(),
        suspend.into(),
        (list(object, &["status", "active"]).len() as i64).into(),
        if last.is_empty() { "<none>".to_owned() } else { since(last, now) }.into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        selector(object.at(&["spec", "jobTemplate", "spec", "selector"])).into(),
    ]
}

fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = |field: &str| shown(object.at(&["spec", field])).unwrap_or_else(|| "N/A".to_owned());
    vec![
        object.name().into(),
        bound("minAvailable").into(),
        bound("maxUnavailable").into(),
        int(object, &["status", "disruptionsAllowed"]).into(),
        age(object, now).into(),
    ]
}

fn scale(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        int(object, &["spec", "replicas"]).into(),
        int(object, &["status", "replicas"]).into(),
        age(object, now).into(),
    ]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut object = object.clone();
    if object.api_version() == "autoscaling/v1" {
        let v2 = coracle_api_meta::Gvk::new("autoscaling", "v2", "HorizontalPodAutoscaler");
        crate::convert::convert(&mut object, &v2);
    }
    let target = object.at(&["spec", "scaleTargetRef"]).unwrap_or(&Value::Null);
    vec![
        object.name().into(),
        format!("{}/{}", target.str_at(&["kind"]), target.str_at(&["name"])).into(),
        metrics(list(&object, &["spec", "metrics"]), list(&object, &["status", "currentMetrics"])).into(),
        shown(object.at(&["spec", "minReplicas"])).unwrap_or_else(|| "<unset>".to_owned()).into(),
        int(&object, &["spec", "maxReplicas"]).into(),
        int(&object, &["status", "currentReplicas"]).into(),
        age(&object, now).into(),
    ]
}

const METRICS_MAX: usize = 2;

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&Value::Null)))
        .collect();
    let first = all.get(..METRICS_MAX).unwrap_or(&all).join(", ");
    if all.len() > METRICS_MAX { format!("{first} + {} more...", all.len() - METRICS_MAX) } else { first }
}

fn metric(spec: &Value, status: &Value) -> String {
    let field = match spec.str_at(&["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| shown(spec.at(&[field, "target", name]));
    let current = |name: &str| shown(status.at(&[field, "current", name])).unwrap_or_else(|| "<unknown>".to_owned());
    let average = target("averageValue");
    match field {
        "pods" => format!("{}/{}", current("averageValue"), average.unwrap_or_default()),
        "external" | "object" => match average {
            Some(average) => format!("{}/{average} (avg)", current("averageValue")),
            None => format!("{}/{}", current("value"), target("value").unwrap_or_default()),
        },
        _ => {
            let name = spec.str_at(&[field, "name"]);
            if let Some(average) = average {
                return format!("{name}: {}/{average}", current("averageValue"));
            }
            let percent = |shown: Option<String>, none: &str| shown.map_or(none.to_owned(), |text| format!("{text}%"));
            let now = percent(shown(status.at(&[field, "current", "averageUtilization"])), "<unknown>");
            format!("{name}: {now}/{}", percent(target("averageUtilization"), "<auto>"))
        }
    }
}
