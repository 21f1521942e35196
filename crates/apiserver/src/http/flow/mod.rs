//! Priority and fairness at the door: every request gets its seats here, waits for them, or is turned away.
//! What is decided, [`coracle_plan_flow`] decides; this module knows the clock, the waiting tasks and the counters.

mod dump;
mod reload;
mod series;
mod watches;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use coracle_api_meta::Status;
use coracle_plan_flow::{Classified, Config, Drops, Flow, Load, Rejected, Request, Ticket, Work};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::oneshot;

use super::metrics::histogram::Text;
use super::{Ctx, Reply, reply};

pub(crate) use reload::{keep_up, refresh};
pub(crate) use watches::Watched;

/// Seats of the whole server. Source: `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
const SEATS: u32 = 600;
/// Nobody waits longer for seats, however patient.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Hands out seats.
pub(crate) struct Gate {
    config: RwLock<Arc<Config>>,
    state: Mutex<State>,
    started: Instant,
    watches: watches::Watches,
}

struct State {
    flow: Flow,
    waiting: HashMap<u64, oneshot::Sender<Ticket>>,
    series: series::All,
    drops: HashMap<Arc<str>, Drops>,
    /// Requests that were just given seats; empty between calls.
    out: Vec<Ticket>,
    /// An alarm for seats that come free by time is set.
    alarm: bool,
}

/// Seats that a request has until this is dropped.
pub(crate) struct Seat {
    gate: Arc<Gate>,
    ticket: Ticket,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = self.gate.now();
        let mut state = self.gate.state();
        state.finish(&self.ticket, now);
        self.gate.set_alarm(&mut state, now);
    }
}

/// A request in a queue. Gives up its place, or the seats that came too late, when dropped.
struct Place<'a> {
    gate: &'a Arc<Gate>,
    class: &'a Classified,
    work: Work,
    id: u64,
    receiver: oneshot::Receiver<Ticket>,
    timed_out: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = self.gate.now();
        let mut state = self.gate.state();
        if state.waiting.remove(&self.id).is_some() {
            state.flow.cancel(&self.class.schema.level, self.id, self.timed_out, now);
            state.series.of(&self.class.schema).gave_up(self.work, self.timed_out);
        } else if let Ok(ticket) = self.receiver.try_recv() {
            state.finish(&ticket, now);
        }
    }
}

impl State {
    /// Tells those whose seats are ready. One that is gone gives its seats to others.
    fn tell(&mut self, now: Duration) {
        while let Some(ticket) = self.out.pop() {
            self.series.named(&ticket.schema).start(&ticket);
            let Some(sender) = self.waiting.remove(&ticket.id) else {
                self.finish_quietly(&ticket, now);
                continue;
            };
            if let Err(ticket) = sender.send(ticket) {
                self.finish_quietly(&ticket, now);
            }
        }
    }

    fn finish_quietly(&mut self, ticket: &Ticket, now: Duration) {
        self.series.named(&ticket.schema).finish(ticket, now);
        self.flow.finish(ticket, now, &mut self.out);
    }

    fn finish(&mut self, ticket: &Ticket, now: Duration) {
        self.finish_quietly(ticket, now);
        self.tell(now);
    }
}

/// What schemas look at.
fn request(ctx: &Ctx) -> Request<'_> {
    let info = &ctx.info;
    Request {
        user: &ctx.user,
        verb: &info.verb,
        is_resource: info.is_resource,
        path: &info.path,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        let config = Config::read(&[], &[]);
        let flow = Flow::new(&config, SEATS, Duration::ZERO);
        let state = State {
            flow,
            waiting: HashMap::new(),
            series: series::All::default(),
            drops: HashMap::new(),
            out: Vec::new(),
            alarm: false,
        };
        Self {
            config: RwLock::new(Arc::new(config)),
            state: Mutex::new(state),
            started: Instant::now(),
            watches: watches::Watches::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes other objects into account.
    fn configure(&self, config: Config) {
        let now = self.now();
        let mut guard = self.state();
        let state = &mut *guard;
        state.flow.configure(&config, now, &mut state.out);
        state.tell(now);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Where the request belongs.
    pub(crate) fn classify(&self, ctx: &Ctx) -> Option<Classified> {
        self.config().classify(&request(ctx))
    }

    /// Counts a watch, for what later writes cost.
    pub(crate) fn watched(self: &Arc<Self>, collection: &Arc<str>, namespace: &str) -> Watched {
        self.watches.add(self, collection, namespace)
    }

    fn load(&self, ctx: &Ctx) -> Load {
        let (info, query) = (&ctx.info, &ctx.query);
        let resources = ctx.server.resources();
        let Some(row) = resources.find(&info.group, &info.version, &info.resource) else { return Load::default() };
        if !matches!(info.verb.as_str(), "list" | "watch") {
            let watches = self.watches.count(&row.collection, &info.namespace);
            return Load { watches, ..Load::default() };
        }
        let (objects, bytes) = ctx.server.store.local_size(&row.collection);
        Load {
            objects,
            bytes,
            watches: 0,
            limit: usize::try_from(query.number("limit").unwrap_or(0)).unwrap_or(0),
            single: !info.name.is_empty(),
            shows_present: matches!(query.get("resourceVersion"), "" | "0") || query.flag("sendInitialEvents"),
        }
    }

    /// Seats for a request, at once or after waiting; otherwise the answer that turns it away.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        ctx: &Ctx,
        class: &Classified,
        patience: Duration,
    ) -> Result<Seat, Box<Reply>> {
        let place = match self.arrive(ctx, class) {
            Ok(Arrived::Seated(seat)) => return Ok(seat),
            Ok(Arrived::Queued(place)) => place,
            Err(why) => return Err(self.turn_away(ctx, class, why)),
        };
        match self.wait(place, patience.min(WAIT_MAX)).await {
            Some(seat) => Ok(seat),
            None => Err(self.turn_away(ctx, class, Rejected::TimeOut)),
        }
    }

    fn arrive<'a>(self: &'a Arc<Self>, ctx: &Ctx, class: &'a Classified) -> Result<Arrived<'a>, Rejected> {
        let level = &class.schema.level;
        let exempt = &**level == "exempt";
        let load = if exempt { Load::default() } else { self.load(ctx) };
        let now = self.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let work = if exempt { Work::ONE } else { Work::estimate(&request(ctx), || load, state.flow.seats_max(level)) };
        let series = state.series.of(&class.schema);
        series.estimated(work);
        let id = match state.flow.arrive(class, work, now, &mut state.out) {
            Ok(id) => id,
            Err(why) => {
                series.rejected(why);
                state.tell(now);
                return Err(why);
            }
        };
        if let Some(own) = state.out.iter().position(|ticket| ticket.id == id) {
            let ticket = state.out.swap_remove(own);
            state.series.of(&class.schema).start_at_once(&ticket);
            state.tell(now);
            return Ok(Arrived::Seated(Seat { gate: Arc::clone(self), ticket }));
        }
        series.queued(work);
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(id, sender);
        state.tell(now);
        self.set_alarm(state, now);
        Ok(Arrived::Queued(Place { gate: self, class, work, id, receiver, timed_out: false }))
    }

    async fn wait(self: &Arc<Self>, mut place: Place<'_>, patience: Duration) -> Option<Seat> {
        match tokio::time::timeout(patience, &mut place.receiver).await {
            Ok(Ok(ticket)) => Some(Seat { gate: Arc::clone(self), ticket }),
            Ok(Err(_)) => None,
            Err(_) => {
                place.timed_out = true;
                None
            }
        }
    }

    /// Seats that linger after a write come free by time alone; somebody has to look when others wait for them.
    fn set_alarm(self: &Arc<Self>, state: &mut State, now: Duration) {
        let Some(due) = state.flow.due().filter(|_| !state.alarm) else { return };
        state.alarm = true;
        let gate = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(due.saturating_sub(now) + Duration::from_millis(1)).await;
            let now = gate.now();
            let mut guard = gate.state();
            let state = &mut *guard;
            state.alarm = false;
            state.flow.advance(now, &mut state.out);
            state.tell(now);
            gate.set_alarm(state, now);
        });
    }

    /// Source: `tooManyRequests` of `k8s.io/apiserver/pkg/server/filters/priority-and-fairness.go`.
    fn turn_away(&self, ctx: &Ctx, class: &Classified, why: Rejected) -> Box<Reply> {
        tracing::debug!(%why, level = %class.schema.level, path = %ctx.info.path, "a request was turned away");
        ctx.server.metrics.requests.drop_one(&ctx.info);
        let second = self.now().as_secs();
        let after = self.state().drops.entry(Arc::clone(&class.schema.level)).or_default().add(second);
        let mut reply = reply::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
        reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        Box::new(reply)
    }

    pub(crate) fn render(&self, out: &mut Text) {
        let state = self.state();
        state.series.render(out, &state.flow);
    }

    /// What `/debug/api_priority_and_fairness/` shows.
    pub(crate) fn dump(&self, what: &str) -> Result<Reply, Status> {
        let state = self.state();
        let text = match what {
            "dump_priority_levels" => dump::levels(&state.flow),
            "dump_queues" => dump::queues(&state.flow),
            "dump_requests" => dump::requests(&state.flow, self.started.elapsed()),
            _ => return Err(Status::no_such_path()),
        };
        Ok(reply::text(StatusCode::OK, text))
    }
}

enum Arrived<'a> {
    Seated(Seat),
    Queued(Place<'a>),
}

/// Says which objects decided about the request, by their unique names: the given ones may tell too much.
pub(crate) fn add_headers(reply: &mut Reply, class: &Classified) {
    let headers = reply.headers_mut();
    let mut add = |name: &'static str, uid: &str| {
        if let Ok(value) = HeaderValue::from_str(uid) {
            headers.insert(name, value);
        }
    };
    add("x-kubernetes-pf-flowschema-uid", &class.schema.uid);
    add("x-kubernetes-pf-prioritylevel-uid", &class.schema.level_uid);
}
