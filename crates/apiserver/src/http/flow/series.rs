//! Counters by schema, and the metrics of levels. Source: `k8s.io/apiserver/pkg/util/flowcontrol/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_plan_flow::{Flow, LevelReport, Rejected, Schema, Ticket, Work};

use crate::http::metrics::histogram::{Histogram, Text, label};

/// Seconds that requests waited.
const WAITED: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const EXECUTED: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
const SEATS: [f64; 6] = [1.0, 2.0, 4.0, 10.0, 25.0, 50.0];
const REASONS: [Rejected; 3] = [Rejected::ConcurrencyLimit, Rejected::QueueFull, Rejected::TimeOut];

/// What one schema's requests did.
pub(super) struct Series {
    level: Arc<str>,
    executing: u64,
    executing_seats: u64,
    waiting: u64,
    waiting_seats: u64,
    dispatched: u64,
    rejected: [u64; 3],
    waited: Histogram,
    executed: Histogram,
    seats: Histogram,
}

#[derive(Default)]
pub(super) struct All(BTreeMap<Arc<str>, Series>);

fn seats(work: Work) -> u64 {
    u64::from(work.initial_seats.max(work.final_seats))
}

impl Series {
    fn new(level: &Arc<str>) -> Self {
        Self {
            level: Arc::clone(level),
            executing: 0,
            executing_seats: 0,
            waiting: 0,
            waiting_seats: 0,
            dispatched: 0,
            rejected: [0; 3],
            waited: Histogram::new(&WAITED),
            executed: Histogram::new(&EXECUTED),
            seats: Histogram::new(&SEATS),
        }
    }

    pub(super) fn estimated(&mut self, work: Work) {
        self.seats.observe(f64::from(work.initial_seats.max(work.final_seats)));
    }

    pub(super) fn queued(&mut self, work: Work) {
        self.waiting += 1;
        self.waiting_seats += seats(work);
    }

    fn leave_queue(&mut self, work: Work) {
        self.waiting = self.waiting.saturating_sub(1);
        self.waiting_seats = self.waiting_seats.saturating_sub(seats(work));
    }

    pub(super) fn gave_up(&mut self, work: Work, timed_out: bool) {
        self.leave_queue(work);
        if timed_out {
            self.rejected(Rejected::TimeOut);
        }
    }

    pub(super) fn rejected(&mut self, why: Rejected) {
        for (count, reason) in self.rejected.iter_mut().zip(REASONS) {
            *count += u64::from(reason == why);
        }
    }

    pub(super) fn start(&mut self, ticket: &Ticket) {
        self.leave_queue(ticket.work);
        self.start_at_once(ticket);
    }

    pub(super) fn start_at_once(&mut self, ticket: &Ticket) {
        self.executing += 1;
        self.executing_seats += seats(ticket.work);
        self.dispatched += 1;
        self.waited.took(ticket.started.saturating_sub(ticket.arrived));
    }

    pub(super) fn finish(&mut self, ticket: &Ticket, now: Duration) {
        self.executing = self.executing.saturating_sub(1);
        self.executing_seats = self.executing_seats.saturating_sub(seats(ticket.work));
        self.executed.took(now.saturating_sub(ticket.started));
    }
}

impl All {
    pub(super) fn of(&mut self, schema: &Schema) -> &mut Series {
        self.0.entry(Arc::clone(&schema.name)).or_insert_with(|| Series::new(&schema.level))
    }

    pub(super) fn named(&mut self, schema: &Arc<str>) -> &mut Series {
        self.0.entry(Arc::clone(schema)).or_insert_with(|| Series::new(schema))
    }

    pub(super) fn render(&self, out: &mut Text, flow: &Flow) {
        self.render_schemas(out);
        render_levels(out, &flow.levels());
        out.family("apiserver_flowcontrol_seat_fair_frac", "gauge", "Fair fraction of the server's seats to give out.");
        out.sample("apiserver_flowcontrol_seat_fair_frac", "", flow.fair_fraction);
    }

    fn render_schemas(&self, out: &mut Text) {
        let labels = |name: &str, series: &Series| {
            format!("flow_schema=\"{}\",priority_level=\"{}\"", label(name), label(&series.level))
        };
        let mut family = |name: &str, kind: &str, help: &str, value: fn(&Series) -> u64| {
            let name = format!("apiserver_flowcontrol_{name}");
            out.family(&name, kind, help);
            self.0.iter().for_each(|(schema, series)| out.sample(&name, &labels(schema, series), value(series)));
        };
        family("dispatched_requests_total", "counter", "Requests that were let in.", |own| own.dispatched);
        family("current_executing_requests", "gauge", "Requests under way.", |own| own.executing);
        family("current_executing_seats", "gauge", "Seats of requests under way.", |own| own.executing_seats);
        family("current_inqueue_requests", "gauge", "Requests in queues.", |own| own.waiting);
        family("current_inqueue_seats", "gauge", "Seats that requests in queues wait for.", |own| own.waiting_seats);
        let name = "apiserver_flowcontrol_rejected_requests_total";
        out.family(name, "counter", "Requests that were turned away.");
        for (schema, series) in &self.0 {
            for (reason, count) in REASONS.iter().zip(series.rejected).filter(|(_, count)| *count > 0) {
                out.sample(name, &format!("{},reason=\"{reason}\"", labels(schema, series)), count);
            }
        }
        let mut histogram = |name: &str, help: &str, more: &str, value: fn(&Series) -> &Histogram| {
            let name = format!("apiserver_flowcontrol_{name}");
            out.family(&name, "histogram", help);
            for (schema, series) in &self.0 {
                out.histogram(&name, &format!("{more}{}", labels(schema, series)), value(series));
            }
        };
        let waited = "Time that requests spent in queues.";
        histogram("request_wait_duration_seconds", waited, "execute=\"true\",", |own| &own.waited);
        histogram("request_execution_seconds", "Time that requests took.", "type=\"regular\",", |own| &own.executed);
        histogram("work_estimated_seats", "Seats that requests were thought to need.", "", |own| &own.seats);
    }
}

fn render_levels(out: &mut Text, levels: &[LevelReport]) {
    let mut family = |name: &str, help: &str, value: &dyn Fn(&LevelReport) -> f64| {
        let name = format!("apiserver_flowcontrol_{name}");
        out.family(&name, "gauge", help);
        for level in levels {
            out.sample(&name, &format!("priority_level=\"{}\"", label(&level.name)), value(level));
        }
    };
    family("nominal_limit_seats", "Seats by shares.", &|level| level.nominal.into());
    family("lower_limit_seats", "Seats that are never lent.", &|level| level.lower.into());
    family("upper_limit_seats", "Seats with all that may be borrowed.", &|level| level.upper.into());
    family("current_limit_seats", "Seats now.", &|level| level.limit.into());
    family("demand_seats_high_watermark", "Highest demand of the last period.", &|level| level.demand_high.into());
    family("demand_seats_smoothed", "Demand, smoothed.", &|level| level.demand_smoothed);
}
