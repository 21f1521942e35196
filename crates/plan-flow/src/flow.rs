//! All levels together: seats divided among them, and moved to where they are wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::classify::Classified;
use crate::config::{Config, Response};
use crate::level::{Level, Ticket};
use crate::share::{Claim, divide};
use crate::work::Work;

/// How often seats move between levels. Source: `borrowingAdjustmentPeriod`.
const ADJUST_PERIOD: Duration = Duration::from_secs(10);
/// Part of a level's seats that one request may take. Source: `priorityLevelMaxSeatsPercent`.
const REQUEST_SHARE_MAX: f64 = 0.15;

/// Why a request is turned away, in the words of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejected {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        })
    }
}

/// The state of priority and fairness. Methods take the time since some start, never going back.
pub struct Flow {
    levels: BTreeMap<Arc<str>, Level>,
    seats: u32,
    next_id: u64,
    adjusted: Duration,
    pub fair_fraction: f64,
}

/// What a level has and did.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelReport {
    pub name: Arc<str>,
    pub nominal: u32,
    pub lower: u32,
    pub upper: u32,
    pub limit: u32,
    pub quiescing: bool,
    pub counts: Counts,
    pub demand: f64,
    pub demand_high: u32,
    pub demand_smoothed: f64,
    pub active_queues: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub executing: u32,
    pub waiting: u32,
    pub seats: u32,
    pub seats_waiting: u32,
    pub dispatched: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}

/// A queue that holds something.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueReport {
    pub level: Arc<str>,
    pub index: u32,
    pub waiting: usize,
    pub executing: u32,
    pub seats: u32,
    pub next: f64,
    pub work: f64,
}

/// A request that waits.
#[derive(Debug, Clone)]
pub struct WaitingReport {
    pub position: usize,
    pub ticket: Ticket,
}

fn percent(of: u32, percent: u32) -> u32 {
    let part = (u64::from(of) * u64::from(percent) + 50) / 100;
    u32::try_from(part).unwrap_or(u32::MAX)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

impl Flow {
    /// `seats` is what the whole server gives out. Source: `--max-requests-inflight` and the mutating one together.
    #[must_use]
    pub fn new(config: &Config, seats: u32, now: Duration) -> Self {
        let mut flow = Self { levels: BTreeMap::new(), seats, next_id: 0, adjusted: now, fair_fraction: 0.0 };
        flow.configure(config, now, &mut Vec::new());
        flow
    }

    /// Takes other objects into account. Requests that got their seats by it go to `out`.
    pub fn configure(&mut self, config: &Config, now: Duration, out: &mut Vec<Ticket>) {
        self.levels.retain(|name, level| config.levels.contains_key(name) || !level.is_idle());
        for (name, level) in &mut self.levels {
            level.quiescing = !config.levels.contains_key(name);
        }
        for (name, spec) in &config.levels {
            match self.levels.get_mut(name) {
                Some(level) => level.spec = spec.clone(),
                None => {
                    let mut level = Level::new(spec.clone(), now);
                    level.limit = u32::MAX;
                    self.levels.insert(Arc::clone(name), level);
                }
            }
        }
        let shares: u64 = self.levels.values().map(|level| u64::from(level.spec.shares)).sum();
        let seats = self.seats;
        for level in self.levels.values_mut() {
            let part = (u64::from(seats) * u64::from(level.spec.shares)).div_ceil(shares.max(1));
            level.nominal = u32::try_from(part).unwrap_or(seats);
            level.min = level.nominal - percent(level.nominal, level.spec.lendable_percent);
            let borrows = level.spec.borrowing_percent.map_or(seats, |most| percent(level.nominal, most));
            level.max = level.nominal.saturating_add(borrows);
            if level.limit == u32::MAX {
                level.limit = level.nominal - (level.nominal - level.min) / 2;
            }
        }
        self.adjust(now, out);
    }

    /// Moves seats to where they were wanted lately.
    fn adjust(&mut self, now: Duration, out: &mut Vec<Ticket>) {
        let periods = now.saturating_sub(self.adjusted).as_secs() / ADJUST_PERIOD.as_secs();
        self.adjusted = now;
        let total: u32 = self.levels.values().map(|level| level.nominal).sum();
        let mut left = i64::from(total);
        let (mut claims, mut lows, mut floors) = (Vec::new(), 0_i64, 0_i64);
        for level in self.levels.values_mut() {
            level.demand.close(i32::try_from(periods).unwrap_or(i32::MAX), now);
            if level.spec.response == Response::Exempt {
                left -= i64::from(level.min.max(level.demand.high));
                continue;
            }
            let low = level.min.max(level.nominal.min(level.demand.high));
            let (low_seats, high) = (f64::from(low), f64::from(level.max));
            claims.push(Claim { target: low_seats.max(level.demand.smoothed), low: low_seats, high });
            lows += i64::from(low);
            floors += i64::from(level.min);
        }
        let (shares, fraction) = if left > lows { divide(f64::from(total), &claims) } else { (Vec::new(), 0.0) };
        self.fair_fraction = fraction;
        #[allow(clippy::cast_precision_loss)]
        let scarce =
            if lows > floors { ((left - floors).max(0) as f64 / (lows - floors) as f64).min(1.0) } else { 0.0 };
        let mut shares = shares.into_iter();
        for (claim, level) in claims.iter().zip(self.levels.values_mut().filter(|level| !level.is_exempt())) {
            level.limit = match shares.next() {
                Some(share) => rounded(share),
                None => level.min + rounded((claim.low - f64::from(level.min)) * scarce),
            };
            level.sync(now);
            level.dispatch(now, out);
        }
        for level in self.levels.values_mut().filter(|level| level.is_exempt()) {
            level.limit = level.min.max(level.demand.high);
        }
    }

    fn look_after(&mut self, now: Duration, out: &mut Vec<Ticket>) {
        if now.saturating_sub(self.adjusted) >= ADJUST_PERIOD {
            self.adjust(now, out);
        }
    }

    /// Seats that one request of the level may take; 0 for no limit of its own.
    #[must_use]
    pub fn seats_max(&self, level: &str) -> u32 {
        let Some(level) = self.levels.get(level) else { return 0 };
        let Response::Queue { hand, .. } = level.spec.response else { return 0 };
        let part = rounded((f64::from(level.nominal) * REQUEST_SHARE_MAX).ceil());
        part.min(level.nominal / hand.max(1)).max(1)
    }

    /// A new request: its number, unless it is turned away at once. It has its seats when its ticket is in `out`; other
    /// requests that got theirs are in `out` too.
    pub fn arrive(
        &mut self,
        class: &Classified,
        work: Work,
        now: Duration,
        out: &mut Vec<Ticket>,
    ) -> Result<u64, Rejected> {
        self.look_after(now, out);
        let id = self.next_id;
        self.next_id += 1;
        let name = &class.schema.level;
        let ticket = Level::ticket(id, Arc::clone(name), Arc::clone(&class.schema.name), work, now);
        match self.levels.get_mut(name) {
            Some(level) => level.arrive(ticket, class.hash, now, out).map(|()| id),
            None => Err(Rejected::ConcurrencyLimit),
        }
    }

    /// A request is done.
    pub fn finish(&mut self, ticket: &Ticket, now: Duration, out: &mut Vec<Ticket>) {
        let Some(level) = self.levels.get_mut(&ticket.level) else { return };
        level.finish(ticket, now, out);
        if level.quiescing && level.is_idle() {
            self.levels.remove(&ticket.level);
        }
        self.look_after(now, out);
    }

    /// A request waited too long, or nobody waits for its answer any more. False when it does not wait.
    pub fn cancel(&mut self, level: &str, id: u64, timed_out: bool, now: Duration) -> bool {
        self.levels.get_mut(level).is_some_and(|level| level.cancel(id, timed_out, now))
    }

    /// Gives out seats that came free by time alone.
    pub fn advance(&mut self, now: Duration, out: &mut Vec<Ticket>) {
        for level in self.levels.values_mut() {
            level.sync(now);
            level.dispatch(now, out);
        }
    }

    /// When [`Flow::advance`] has something to do for requests that wait.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.levels.values().filter(|level| level.waiting > 0).filter_map(Level::due).min()
    }

    #[must_use]
    pub fn levels(&self) -> Vec<LevelReport> {
        let report = |(name, level): (&Arc<str>, &Level)| LevelReport {
            name: Arc::clone(name),
            nominal: level.nominal,
            lower: level.min,
            upper: level.max,
            limit: level.limit,
            quiescing: level.quiescing,
            counts: Counts {
                executing: level.executing,
                waiting: level.waiting,
                seats: level.seats,
                seats_waiting: level.seats_waiting,
                dispatched: level.dispatched,
                rejected: level.rejected,
                timed_out: level.timed_out,
                cancelled: level.cancelled,
            },
            demand: level.demand.current(),
            demand_high: level.demand.high,
            demand_smoothed: level.demand.smoothed,
            active_queues: level.queues.values().filter(|queue| !queue.waiting.is_empty()).count(),
        };
        self.levels.iter().map(report).collect()
    }

    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        let levels = self.levels.iter();
        let queues =
            levels.flat_map(|(name, level)| level.queues.iter().map(move |(index, queue)| (name, index, queue)));
        let report = |(name, index, queue): (&Arc<str>, &u32, &crate::level::Queue)| QueueReport {
            level: Arc::clone(name),
            index: *index,
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats: queue.seats,
            next: queue.next,
            work: queue.work,
        };
        queues.map(report).collect()
    }

    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingReport> {
        let queues = self.levels.values().flat_map(|level| level.queues.values());
        let each = |queue: &crate::level::Queue| -> Vec<WaitingReport> {
            let tickets = queue.waiting.iter().enumerate();
            tickets.map(|(position, ticket)| WaitingReport { position, ticket: ticket.clone() }).collect()
        };
        queues.flat_map(each).collect()
    }
}

impl Level {
    fn is_exempt(&self) -> bool {
        self.spec.response == Response::Exempt
    }
}
