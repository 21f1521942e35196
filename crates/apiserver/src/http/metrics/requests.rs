//! Requests by what they were about and how they ended. Source: `k8s.io/apiserver/pkg/endpoints/metrics`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::histogram::{Histogram, Text, label};
use crate::http::request_info::RequestInfo;

/// Seconds. Source: `apiserver_request_duration_seconds`.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Bytes. Source: `apiserver_response_sizes`.
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Label sets that are counted apart.
const SERIES_MAX: usize = 4096;

/// What a request is counted under.
#[derive(Debug, Clone, Copy, Hash)]
struct Labels<'a> {
    verb: &'a str,
    scope: &'a str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
}

struct Series {
    labels: String,
    seconds: Histogram,
    bytes: Histogram,
    /// By status code.
    codes: Vec<(u16, u64)>,
    dropped: u64,
    running: u64,
}

#[derive(Default)]
pub(crate) struct Requests(Mutex<HashMap<u64, Series>>);

/// Upstream's name of the verb.
fn verb(info: &RequestInfo) -> &'static str {
    if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "list" => "LIST",
        "watch" => "WATCH",
        "get" | "head" => "GET",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty() && info.verb != "create", info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// Paths that are nothing are not told apart: there is no end of them.
fn labels(info: &RequestInfo, code: u16) -> Labels<'_> {
    let known = info.is_resource && code != 404;
    let text = |value| if known { value } else { "" };
    Labels {
        verb: verb(info),
        scope: scope(info),
        group: text(&info.group),
        version: text(&info.version),
        resource: text(&info.resource),
        subresource: if info.is_resource { text(&info.subresource) } else { own_path(&info.path) },
    }
}

/// The paths that upstream counts by their name.
fn own_path(path: &str) -> &str {
    const OWN: [&str; 6] = ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2"];
    OWN.into_iter().find(|own| *own == path).unwrap_or_default()
}

impl Labels<'_> {
    fn text(&self) -> String {
        format!(
            "component=\"apiserver\",dry_run=\"\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            label(self.group),
            label(self.resource),
            self.scope,
            label(self.subresource),
            self.verb,
            label(self.version)
        )
    }
}

impl Requests {
    fn with(&self, labels: Labels<'_>, change: impl FnOnce(&mut Series)) {
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        let key = hasher.finish();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get_mut(&key) {
            return change(series);
        }
        if all.len() < SERIES_MAX {
            let new = Series {
                labels: labels.text(),
                seconds: Histogram::new(&SECONDS),
                bytes: Histogram::new(&BYTES),
                codes: Vec::new(),
                dropped: 0,
                running: 0,
            };
            change(all.entry(key).or_insert(new));
        }
    }

    /// `bytes` is unknown for answers that are made while they are sent.
    pub(crate) fn observe(&self, info: &RequestInfo, code: u16, took: Duration, bytes: Option<u64>) {
        self.with(labels(info, code), |series| {
            series.seconds.took(took);
            match series.codes.iter_mut().find(|(own, _)| *own == code) {
                Some((_, count)) => *count += 1,
                None => series.codes.push((code, 1)),
            }
            #[allow(clippy::cast_precision_loss)]
            if let Some(bytes) = bytes {
                series.bytes.observe(bytes as f64);
            }
        });
    }

    /// A request was turned away because there were too many.
    pub(crate) fn drop_one(&self, info: &RequestInfo) {
        self.with(labels(info, 429), |series| series.dropped += 1);
    }

    /// A long-running request began, or ended.
    pub(crate) fn run(&self, info: &RequestInfo, begins: bool) {
        self.with(labels(info, 200), |series| {
            series.running = if begins { series.running + 1 } else { series.running.saturating_sub(1) };
        });
    }

    pub(crate) fn render(&self, out: &mut Text) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<&Series> = all.values().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        out.family("apiserver_request_total", "counter", "Requests by verb, resource and HTTP status code.");
        for series in &all {
            for (code, count) in &series.codes {
                out.sample("apiserver_request_total", &format!("code=\"{code}\",{}", series.labels), count);
            }
        }
        for name in ["apiserver_request_duration_seconds", "apiserver_request_sli_duration_seconds"] {
            out.family(name, "histogram", "Time to answer by verb and resource.");
            all.iter()
                .filter(|series| series.seconds.count() > 0)
                .for_each(|series| out.histogram(name, &series.labels, &series.seconds));
        }
        out.family("apiserver_response_sizes", "histogram", "Bytes of answers by verb and resource.");
        let sized = all.iter().filter(|series| series.bytes.count() > 0);
        sized.for_each(|series| out.histogram("apiserver_response_sizes", &series.labels, &series.bytes));
        out.family(
            "apiserver_longrunning_requests",
            "gauge",
            "Watches and other requests without an end that run now.",
        );
        for series in all.iter().filter(|series| series.running > 0) {
            out.sample("apiserver_longrunning_requests", &series.labels, series.running);
        }
        out.family("apiserver_dropped_requests_total", "counter", "Requests turned away because there were too many.");
        for series in all.iter().filter(|series| series.dropped > 0) {
            out.sample("apiserver_dropped_requests_total", &series.labels, series.dropped);
        }
    }
}
