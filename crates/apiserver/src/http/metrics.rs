//! Counts and durations under upstream's names of the SLO metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Ctx;
use super::request_info::RequestInfo;

/// Upper bounds in seconds. Source: `apiserver_request_duration_seconds`, thinned.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 5.0, 60.0];
/// Label sets that are counted apart.
const SERIES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Series, Histogram>>,
}

impl Metrics {
    pub(crate) fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let verb = match info.verb.as_str() {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            other => other.to_ascii_uppercase(),
        };
        let known = info.is_resource && code != 404;
        let text = |value: &String| if known { value.clone() } else { String::new() };
        let series = Series {
            verb,
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
            code,
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= SERIES_MAX && !requests.contains_key(&series) {
            return;
        }
        let histogram = requests.entry(series).or_default();
        let seconds = took.as_secs_f64();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, ctx: &Ctx) -> String {
        let mut out = String::new();
        let (reading, mutating) = ctx.server.in_flight.counts();
        out.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, count) in [("readOnly", reading), ("mutating", mutating)] {
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
        }
        out.push_str("# TYPE apiserver_storage_objects gauge\n");
        for resource in ctx.server.resources().stored() {
            let count = ctx.server.store.local_count(&resource.collection);
            let _ =
                writeln!(out, "apiserver_storage_objects{{resource=\"{}\"}} {count}", resource.gvr().group_resource());
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        out.push_str("# TYPE apiserver_request_total counter\n");
        for (series, histogram) in requests.iter() {
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{}\",component=\"apiserver\",{}}} {}",
                series.code,
                series.labels(),
                histogram.count
            );
        }
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for (series, histogram) in requests.iter() {
            render_histogram(&mut out, &series.labels(), histogram);
        }
        out
    }
}

impl Series {
    fn labels(&self) -> String {
        let scope = if self.resource.is_empty() { "" } else { "resource" };
        format!(
            "dry_run=\"\",group=\"{}\",resource=\"{}\",scope=\"{scope}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.subresource, self.verb, self.version
        )
    }
}

fn render_histogram(out: &mut String, labels: &str, histogram: &Histogram) {
    const NAME: &str = "apiserver_request_duration_seconds";
    for (count, bound) in histogram.buckets.iter().zip(BUCKETS) {
        let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count);
    let _ = writeln!(out, "{NAME}_sum{{{labels}}} {}", histogram.sum);
    let _ = writeln!(out, "{NAME}_count{{{labels}}} {}", histogram.count);
}
