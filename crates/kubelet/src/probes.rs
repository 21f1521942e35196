//! Probes of one pod's containers: a task for each, which lives as long as its container runs.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod tcp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_plan_pods::{ProbeKind, ProbeRun, ProbeVerdict};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::context::Ctx;
use crate::source::Inbox;
use http::Target;

/// Attempts before a failed probe counts. Source: kubelet prober.
const ATTEMPTS_ON_ERROR: u32 = 3;
/// Bytes of a probe's output that are shown.
const OUTPUT_BYTES_MAX: usize = 10 * 1024;

/// Running probes by container id and kind. Dropping stops them.
#[derive(Default)]
pub(crate) struct ProbeSet {
    tasks: BTreeMap<(String, ProbeKind), DropGuard>,
}

/// A container to probe.
pub(crate) struct Subject<'a> {
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    /// Nanoseconds since the epoch.
    pub(crate) started_at: i64,
    /// Its startup probe has succeeded, or it has none.
    pub(crate) started: bool,
}

pub(crate) fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

enum Outcome {
    Success,
    Warning(String),
    Failure(String),
    /// The probe itself could not be made; it does not count.
    Error(String),
}

impl ProbeSet {
    /// Starts probes of containers that run, and stops all others. `ending`: only readiness still matters.
    pub(crate) fn adjust(
        &mut self,
        ctx: &Ctx,
        pod: &Arc<Pod>,
        inbox: &Arc<Inbox>,
        pod_ip: &str,
        subjects: &[Subject<'_>],
        ending: bool,
    ) {
        let wanted = |id: &str, kind: ProbeKind| {
            subjects.iter().any(|subject| {
                let due = (kind == ProbeKind::Startup) != subject.started;
                subject.id == id && due && (!ending || kind == ProbeKind::Readiness)
            })
        };
        self.tasks.retain(|(id, kind), _| wanted(id, *kind));
        for subject in subjects {
            for kind in ProbeKind::ALL {
                let Some(probe) = probe_of(subject.container, kind) else { continue };
                let key = (subject.id.to_owned(), kind);
                if !wanted(subject.id, kind) || self.tasks.contains_key(&key) {
                    continue;
                }
                let prober = Prober {
                    ctx: ctx.clone(),
                    pod: pod.clone(),
                    container: subject.container.clone(),
                    probe: probe.clone(),
                    kind,
                    id: subject.id.to_owned(),
                    pod_ip: pod_ip.to_owned(),
                    inbox: inbox.clone(),
                };
                let stop = CancellationToken::new();
                tokio::spawn(stop.clone().run_until_cancelled_owned(prober.run(subject.started_at)));
                self.tasks.insert(key, stop.drop_guard());
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
    }
}

struct Prober {
    ctx: Ctx,
    pod: Arc<Pod>,
    container: Container,
    probe: Probe,
    kind: ProbeKind,
    id: String,
    pod_ip: String,
    inbox: Arc<Inbox>,
}

impl Prober {
    async fn run(self, started_at: i64) {
        let delay = i64::from(self.probe.initial_delay_seconds.unwrap_or(0).max(0));
        let since = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX).saturating_sub(started_at);
        let rest = delay.saturating_mul(1_000_000_000).saturating_sub(since);
        tokio::time::sleep(Duration::from_nanos(u64::try_from(rest).unwrap_or(0))).await;
        let period = u64::try_from(self.probe.period_seconds.unwrap_or(10).max(1)).unwrap_or(10);
        let mut ticks = tokio::time::interval(Duration::from_secs(period));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut run = ProbeRun::default();
        loop {
            ticks.tick().await;
            let Some(success) = self.attempt().await else { continue };
            let ProbeVerdict::Set { success, hold } = run.record(self.kind, &self.probe, success) else { continue };
            let verdict = (self.id.clone(), self.kind, success);
            self.inbox.post(|news| news.verdicts.push(verdict));
            if hold {
                return;
            }
        }
    }

    /// `None` when the result does not count.
    async fn attempt(&self) -> Option<bool> {
        let mut outcome = self.once().await;
        for _ in 1..ATTEMPTS_ON_ERROR {
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
            outcome = self.once().await;
        }
        let title = self.kind.title();
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(output) => {
                self.event("ProbeWarning", &format!("{title} probe warning: {}", cut(&output)));
                Some(true)
            }
            Outcome::Failure(output) => {
                self.event("Unhealthy", &format!("{title} probe failed: {}", cut(&output)));
                Some(false)
            }
            Outcome::Error(error) => {
                self.event("Unhealthy", &format!("{title} probe errored and resulted in unknown state: {error}"));
                None
            }
        }
    }

    fn event(&self, reason: &str, message: &str) {
        self.ctx.warning(&self.pod, Some(&self.container), reason, message);
    }

    async fn once(&self) -> Outcome {
        let limit = Duration::from_secs(u64::try_from(self.probe.timeout_seconds.unwrap_or(1).max(1)).unwrap_or(1));
        if let Some(exec) = &self.probe.exec {
            return self.exec(&exec.command.clone().unwrap_or_default(), limit).await;
        }
        if let Some(get) = &self.probe.http_get {
            return match Target::of(get, &self.container, &self.pod_ip) {
                Ok(target) => http_outcome(&target, limit).await,
                Err(error) => Outcome::Error(error),
            };
        }
        if let Some(socket) = &self.probe.tcp_socket {
            let host = socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.pod_ip);
            return match port_number(&socket.port, &self.container) {
                Ok(port) => tcp::probe(host, port, limit).await.map_or_else(Outcome::Failure, |()| Outcome::Success),
                Err(error) => Outcome::Error(error),
            };
        }
        if let Some(action) = &self.probe.grpc {
            let port = u16::try_from(action.port).unwrap_or(0);
            let service = action.service.as_deref().unwrap_or_default();
            let result = grpc::probe(&self.pod_ip, port, service, limit).await;
            return result.map_or_else(Outcome::Failure, |()| Outcome::Success);
        }
        Outcome::Error(format!(
            "missing probe handler for {}:{}",
            coracle_plan_pods::pod_text(&self.pod),
            self.container.name
        ))
    }

    async fn exec(&self, command: &[String], limit: Duration) -> Outcome {
        match self.ctx.runtime.exec_sync(&self.id, command, Some(limit)).await {
            Ok(done) => {
                let mut output = done.stdout;
                output.extend_from_slice(&done.stderr);
                let output = String::from_utf8_lossy(&output).into_owned();
                if done.exit_code == 0 { Outcome::Success } else { Outcome::Failure(output) }
            }
            Err(coracle_cri::Error::DeadlineExceeded(_)) => {
                let seconds = limit.as_secs();
                Outcome::Failure(format!("command timed out: {:?} timed out after {seconds}s", command.join(" ")))
            }
            Err(error) => Outcome::Error(error.to_string()),
        }
    }
}

async fn http_outcome(target: &Target, limit: Duration) -> Outcome {
    match http::get(target, limit).await {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
        Ok(answer) if (300..400).contains(&answer.status) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
        }
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(error),
    }
}

/// A port as a number, or by its name among the container's ports.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    number.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name}"),
    })
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
