//! Two summaries to rates. Source: `pkg/storage` of `sigs.k8s.io/metrics-server`.

use std::time::Duration;

use coracle_api_meta::Value;
use jiff::Timestamp;
use serde_json::{Map, json};

use crate::sample::{Summary, Usage};

/// Two samples that are nearer to each other than this give no rate.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// The last two summaries of a node.
#[derive(Debug, Clone, Default)]
pub struct Window {
    before: Option<Summary>,
    last: Option<Summary>,
}

impl Window {
    pub fn push(&mut self, summary: Summary) {
        self.before = self.last.replace(summary);
    }

    /// Since the last sample.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let time: Timestamp = self.last.as_ref()?.node.cpu.time.parse().ok()?;
        now.duration_since(time).try_into().ok().or(Some(Duration::ZERO))
    }
}

/// Usage between two samples.
#[derive(Debug, Clone, PartialEq)]
struct Rate {
    nano_cores: u64,
    working_set_bytes: u64,
    time: Timestamp,
    span: Duration,
}

fn rate(before: &Usage, last: &Usage) -> Option<Rate> {
    if before.start_time != last.start_time {
        return None;
    }
    let time = |usage: &Usage| usage.cpu.time.parse::<Timestamp>().ok();
    let span: Duration = time(last)?.duration_since(time(before)?).try_into().ok()?;
    if span < SPAN_MIN {
        return None;
    }
    let nanos = last.cpu.usage_core_nano_seconds?.checked_sub(before.cpu.usage_core_nano_seconds?)?;
    let nano_cores = u128::from(nanos) * 1_000_000_000 / span.as_nanos();
    Some(Rate {
        nano_cores: nano_cores.try_into().ok()?,
        working_set_bytes: last.memory.working_set_bytes?,
        time: time(last)?,
        span,
    })
}

fn usage(rate: &Rate) -> Value {
    let kibibytes = rate.working_set_bytes / 1024;
    let cpu = if rate.nano_cores == 0 { "0".to_owned() } else { format!("{}n", rate.nano_cores) };
    json!({"cpu": cpu, "memory": if kibibytes == 0 { "0".to_owned() } else { format!("{kibibytes}Ki") }})
}

fn metadata(measured: &Value) -> Value {
    let mut fields = Map::new();
    for name in ["name", "namespace", "labels"] {
        if let Some(value) = measured.pointer("/metadata").and_then(|meta| meta.get(name)) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(fields)
}

fn object(kind: &str, measured: &Value, rate: &Rate, more: (&str, Value)) -> Value {
    let mut metadata = metadata(measured);
    let time = Timestamp::from_second(rate.time.as_second()).unwrap_or(rate.time).to_string();
    metadata["creationTimestamp"] = time.clone().into();
    let mut object = json!({
        "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata, "timestamp": time,
        "window": window(rate.span),
    });
    object[more.0] = more.1;
    object
}

/// As Go writes durations: `15s`, `1m0.5s`.
fn window(span: Duration) -> String {
    let (minutes, seconds) = (span.as_secs() / 60, span.as_secs() % 60);
    let fraction = format!("{:03}", span.subsec_millis());
    let fraction = fraction.trim_end_matches('0');
    let seconds = if fraction.is_empty() { format!("{seconds}s") } else { format!("{seconds}.{fraction}s") };
    if minutes == 0 { seconds } else { format!("{minutes}m{seconds}") }
}

/// `None` while there is no rate.
#[must_use]
pub fn node_metrics(node: &Value, window: &Window) -> Option<Value> {
    let rate = rate(&window.before.as_ref()?.node, &window.last.as_ref()?.node)?;
    Some(object("NodeMetrics", node, &rate, ("usage", usage(&rate))))
}

/// `None` while a container that runs has no rate, and for pods that do not run.
#[must_use]
pub fn pod_metrics(pod: &Value, window: &Window) -> Option<Value> {
    if pod.pointer("/status/phase")?.as_str()? != "Running" {
        return None;
    }
    let uid = pod.pointer("/metadata/uid")?.as_str()?;
    let of = |summary: &'_ Summary| summary.pods.iter().find(|pod| pod.pod_ref.uid == uid).cloned();
    let (before, last) = (of(window.before.as_ref()?)?, of(window.last.as_ref()?)?);
    let mut containers = Vec::new();
    let mut oldest: Option<Rate> = None;
    for usage_now in last.containers.iter().filter(|container| runs(pod, &container.name)) {
        let then = before.containers.iter().find(|container| container.name == usage_now.name)?;
        let rate = rate(then, usage_now)?;
        containers.push(json!({"name": usage_now.name, "usage": usage(&rate)}));
        oldest = Some(oldest.filter(|oldest| oldest.time <= rate.time).unwrap_or(rate));
    }
    Some(object("PodMetrics", pod, &oldest?, ("containers", containers.into())))
}

/// Containers that have ended may still be in a summary.
fn runs(pod: &Value, name: &str) -> bool {
    ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"].iter().any(|list| {
        let statuses = pod.pointer("/status").and_then(|status| status.get(list)).and_then(Value::as_array);
        statuses.into_iter().flatten().any(|status| {
            status.get("name").and_then(Value::as_str) == Some(name) && status.pointer("/state/running").is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(seconds: u32, nanos: u64, started: &str) -> Summary {
        let cpu = json!({"time": format!("2026-01-01T00:00:{seconds:02}Z"), "usageCoreNanoSeconds": nanos});
        let memory = json!({"workingSetBytes": 5 << 20});
        let container = |name: &str| json!({"name": name, "startTime": started, "cpu": cpu, "memory": memory});
        serde_json::from_value(json!({
            "node": {"nodeName": "n", "cpu": cpu, "memory": memory},
            "pods": [{"podRef": {"uid": "u"}, "containers": [container("a"), container("ended")]}],
        }))
        .expect("a summary")
    }

    fn window_of(samples: &[Summary]) -> Window {
        let mut window = Window::default();
        samples.iter().for_each(|sample| window.push(sample.clone()));
        window
    }

    #[test]
    fn usage_is_a_rate_between_two_samples() {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "b"}},
            "status": {"phase": "Running", "containerStatuses": [{"name": "a", "state": {"running": {}}}, {"name": "ended", "state": {"terminated": {}}}]}});
        let first = summary(0, 1_000_000_000, "x");
        assert_eq!(pod_metrics(&pod, &window_of(std::slice::from_ref(&first))), None, "one sample is no rate");
        let window = window_of(&[summary(0, 0, "w"), first, summary(20, 6_000_000_000, "x")]);
        let metrics = pod_metrics(&pod, &window).expect("two samples");
        let expected = json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "p", "namespace": "d", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:20Z"},
            "timestamp": "2026-01-01T00:00:20Z", "window": "20s",
            "containers": [{"name": "a", "usage": {"cpu": "250000000n", "memory": "5120Ki"}}]});
        assert_eq!(metrics, expected);
        let node = node_metrics(&json!({"metadata": {"name": "n"}}), &window).expect("two samples");
        assert_eq!(node["usage"], json!({"cpu": "250000000n", "memory": "5120Ki"}));
        let restarted = window_of(&[summary(0, 9, "x"), summary(20, 1, "y")]);
        assert_eq!(pod_metrics(&pod, &restarted), None, "a container that began anew");
        assert_eq!(node_metrics(&json!({}), &window_of(&[summary(0, 9, ""), summary(0, 10, "")])), None, "no span");
    }

    #[test]
    fn windows_as_go_writes_them() {
        let text = |millis: u64| window(Duration::from_millis(millis));
        assert_eq!([text(15_000), text(60_500), text(950)], ["15s", "1m0.5s", "0.95s"]);
    }
}
