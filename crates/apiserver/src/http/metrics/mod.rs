//! Counts and durations under upstream's names.

pub(crate) mod histogram;
mod process;
mod requests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Ctx;
use histogram::{Histogram, Text, label};

pub(crate) use requests::Requests;

/// Seconds of storage and admission. Source: `etcd_request_duration_seconds`.
const STEPS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0];
/// Pairs of labels that are counted apart.
const PAIRS_MAX: usize = 2048;

/// Durations by two labels.
#[derive(Default)]
pub(crate) struct Durations(Mutex<BTreeMap<&'static str, BTreeMap<String, Histogram>>>);

impl Durations {
    pub(crate) fn took(&self, first: &'static str, second: &str, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(first).or_default();
        if let Some(histogram) = own.get_mut(second) {
            return histogram.took(time);
        }
        if own.len() < PAIRS_MAX {
            own.entry(second.to_owned()).or_insert_with(|| Histogram::new(&STEPS)).took(time);
        }
    }

    fn render(&self, out: &mut Text, name: &str, first: &str, second: &str) {
        for (a, own) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            for (b, histogram) in own {
                out.histogram(name, &format!("{first}=\"{a}\",{second}=\"{}\"", label(b)), histogram);
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    /// By operation and collection.
    pub(crate) storage: Durations,
    /// By step and operation.
    pub(crate) admission: Durations,
}

impl Metrics {
    /// The text of `/metrics`.
    pub(crate) fn render(&self, ctx: &Ctx) -> String {
        let mut out = Text::default();
        render_static(&mut out);
        out.family("apiserver_current_inflight_requests", "gauge", "Requests that are worked on now.");
        let (reading, mutating) = ctx.server.in_flight.counts();
        for (kind, count) in [("mutating", mutating), ("readOnly", reading)] {
            out.sample("apiserver_current_inflight_requests", &format!("request_kind=\"{kind}\""), count);
        }
        ctx.server.gate.render(&mut out);
        for name in ["apiserver_storage_objects", "apiserver_resource_objects"] {
            out.family(name, "gauge", "Number of stored objects.");
            for resource in ctx.server.resources().stored() {
                let count = ctx.server.store.local_size(&resource.collection).0;
                let labels = if name == "apiserver_storage_objects" {
                    format!("resource=\"{}\"", resource.gvr().group_resource())
                } else {
                    format!("group=\"{}\",resource=\"{}\"", resource.group, resource.plural)
                };
                out.sample(name, &labels, count);
            }
        }
        out.family("etcd_request_duration_seconds", "histogram", "Time of writes to the store.");
        self.storage.render(&mut out, "etcd_request_duration_seconds", "operation", "type");
        let step = "apiserver_admission_step_admission_duration_seconds";
        out.family(step, "histogram", "Time of admission.");
        self.admission.render(&mut out, step, "type", "operation");
        self.requests.render(&mut out);
        process::render(&mut out);
        out.finish()
    }
}

fn render_static(out: &mut Text) {
    out.family("kubernetes_build_info", "gauge", "Version of the API and of the program that serves it.");
    let program = env!("CARGO_PKG_VERSION");
    out.sample(
        "kubernetes_build_info",
        &format!("git_version=\"v1.36.2+coracle.{program}\",major=\"1\",minor=\"36\",platform=\"linux\""),
        1,
    );
}
