//! Simulated load: who gets how much of the server, and how long the others wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use coracle_api_meta::UserInfo;
use coracle_plan_flow::{Classified, Config, Flow, Rejected, Request, Ticket, Work};
use serde_json::{Value, json};

const SEATS: u32 = 20;

/// A user with so many requests under way at once, each taking so long.
struct Client {
    user: &'static str,
    parallel: usize,
    service: Duration,
    work: Work,
}

impl Client {
    fn new(user: &'static str, parallel: usize, service_ms: u64) -> Self {
        Self { user, parallel, service: Duration::from_millis(service_ms), work: Work::ONE }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    served: u32,
    rejected: u32,
    wait_max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Finish(u64),
    Advance,
}

fn level(name: &str, shares: u32, lendable: u32, response: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
        "lendablePercent": lendable, "limitResponse": response}}})
}

fn queues(queues: u32, hand: u32, length: u32) -> Value {
    json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}})
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 500,
        "distinguisherMethod": {"type": "ByUser"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": user}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}})
}

fn classify(config: &Config, user: &str) -> Classified {
    let user = UserInfo::authenticated(user, &[]);
    let request = Request {
        user: &user,
        verb: "get",
        is_resource: true,
        path: "",
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "default",
    };
    config.classify(&request).expect("a schema")
}

struct Sim<'a> {
    config: &'a Config,
    clients: &'a [Client],
    flow: Flow,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    running: BTreeMap<u64, (usize, Ticket)>,
    waiting: BTreeMap<u64, usize>,
    seen: Vec<Seen>,
    order: u64,
}

impl<'a> Sim<'a> {
    fn new(config: &'a Config, clients: &'a [Client]) -> Self {
        let mut sim = Self {
            config,
            clients,
            flow: Flow::new(config, SEATS, Duration::ZERO),
            events: BinaryHeap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            seen: vec![Seen::default(); clients.len()],
            order: 0,
        };
        for (index, client) in clients.iter().enumerate() {
            (0..client.parallel).for_each(|_| sim.at(Duration::ZERO, Event::Arrive(index)));
        }
        sim
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    fn run(&mut self, until: Duration) {
        while let Some(Reverse((now, _, event))) = self.events.pop().filter(|Reverse((now, ..))| *now <= until) {
            let mut out = Vec::new();
            match event {
                Event::Arrive(client) => self.arrive(client, now, &mut out),
                Event::Finish(id) => {
                    let (client, ticket) = self.running.remove(&id).expect("it runs");
                    self.flow.finish(&ticket, now, &mut out);
                    self.seen[client].served += 1;
                    self.at(now, Event::Arrive(client));
                }
                Event::Advance => self.flow.advance(now, &mut out),
            }
            for ticket in out {
                let client = self.waiting.remove(&ticket.id).expect("it waited");
                let seen = &mut self.seen[client];
                seen.wait_max = seen.wait_max.max(ticket.started - ticket.arrived);
                self.at(now + self.clients[client].service, Event::Finish(ticket.id));
                self.running.insert(ticket.id, (client, ticket));
            }
            if let Some(due) = self.flow.due() {
                self.at(due.max(now), Event::Advance);
            }
            self.check();
        }
    }

    fn arrive(&mut self, client: usize, now: Duration, out: &mut Vec<Ticket>) {
        let class = classify(self.config, self.clients[client].user);
        match self.flow.arrive(&class, self.clients[client].work, now, out) {
            Ok(id) => drop(self.waiting.insert(id, client)),
            Err(_) => {
                self.seen[client].rejected += 1;
                self.at(now + Duration::from_millis(100), Event::Arrive(client));
            }
        }
    }

    /// What must hold at every moment.
    fn check(&self) {
        for level in self.flow.levels() {
            let counts = level.counts;
            let free = level.limit.saturating_sub(counts.seats);
            let wide = self.clients.iter().map(|client| client.work.initial_seats.max(client.work.final_seats)).max();
            assert!(counts.waiting == 0 || free < wide.unwrap_or(1), "{} has free seats and a queue", level.name);
        }
    }
}

fn simulate(levels: &[Value], schemas: &[Value], clients: &[Client], seconds: u64) -> Vec<Seen> {
    let config = Config::read(schemas, levels);
    let mut sim = Sim::new(&config, clients);
    sim.run(Duration::from_secs(seconds));
    sim.seen
}

#[test]
fn many_requests_of_one_do_not_slow_the_others() {
    let levels = [level("work", 100, 0, queues(64, 6, 50))];
    let schemas = ["elephant", "mouse", "other"].map(|user| schema(user, "work", user));
    let clients = [Client::new("elephant", 200, 50), Client::new("mouse", 1, 50), Client::new("other", 2, 50)];
    let seen = simulate(&levels, &schemas, &clients, 60);
    // Alone, the mouse would be served 1,200 times.
    assert!(seen[1].served > 500, "{seen:?}");
    assert!(seen[1].wait_max < Duration::from_millis(200), "{seen:?}");
    assert!(seen[2].served > 1000, "{seen:?}");
    // The elephant gets what is left: the server does 400 of these a second.
    let total: u32 = seen.iter().map(|seen| seen.served).sum();
    assert!(total > 20_000, "{seen:?}");
}

#[test]
fn equal_flows_get_equal_parts() {
    let levels = [level("work", 100, 0, queues(128, 6, 100))];
    let users = ["a", "b", "c", "d"];
    let schemas = users.map(|user| schema(user, "work", user));
    let clients: Vec<Client> = users.into_iter().map(|user| Client::new(user, 60, 20)).collect();
    let seen = simulate(&levels, &schemas, &clients, 30);
    let served: Vec<u32> = seen.iter().map(|seen| seen.served).collect();
    let (least, most) = (served.iter().min().expect("one"), served.iter().max().expect("one"));
    assert!(f64::from(*most) / f64::from(*least) < 1.25, "{served:?}");
}

#[test]
fn levels_do_not_starve_each_other() {
    let levels = [level("high", 50, 50, queues(64, 6, 50)), level("low", 50, 90, queues(64, 6, 50))];
    let schemas = [schema("flood", "low", "flood"), schema("node", "high", "node")];
    let clients = [Client::new("flood", 500, 100), Client::new("node", 3, 10)];
    let seen = simulate(&levels, &schemas, &clients, 60);
    assert_eq!(seen[1].wait_max, Duration::ZERO, "{seen:?}");
    assert_eq!(seen[1].rejected, 0);
    assert!(seen[0].rejected > 0);
}

#[test]
fn seats_that_nobody_uses_are_lent() {
    let levels = [level("idle", 80, 90, queues(64, 6, 50)), level("busy", 15, 0, queues(64, 6, 50))];
    let schemas = [schema("busy", "busy", "busy")];
    let config = Config::read(&schemas, &levels);
    let clients = [Client::new("busy", 40, 10)];
    let mut sim = Sim::new(&config, &clients);
    let limit = |sim: &Sim<'_>| sim.flow.levels().iter().find(|level| &*level.name == "busy").expect("level").limit;
    assert!(limit(&sim) < 12);
    sim.run(Duration::from_secs(60));
    assert!(limit(&sim) > 12, "{:?}", sim.flow.levels());
}

#[test]
fn wide_requests_get_their_turn() {
    let levels = [level("work", 100, 0, queues(64, 6, 50))];
    let schemas = ["lister", "getter"].map(|user| schema(user, "work", user));
    let list = Work { initial_seats: 10, ..Work::ONE };
    let clients = [Client { work: list, ..Client::new("lister", 2, 100) }, Client::new("getter", 100, 10)];
    let seen = simulate(&levels, &schemas, &clients, 30);
    assert!(seen[0].served > 100 && seen[1].served > 5000, "{seen:?}");
}

#[test]
fn final_seats_hold_others_up_and_come_free_by_time() {
    let levels = [level("work", 100, 0, queues(8, 4, 50))];
    let schemas = [schema("writer", "work", "writer")];
    let write = Work { initial_seats: 1, final_seats: 10, linger: Duration::from_millis(100) };
    let clients = [Client { work: write, ..Client::new("writer", 20, 1) }];
    let seen = simulate(&levels, &schemas, &clients, 10);
    // One at a time on 20 seats less those of catch-all, 101 ms each.
    assert!((90..=210).contains(&seen[0].served), "{seen:?}");
}

#[test]
fn full_queues_and_levels_without_queues_turn_away() {
    let levels = [level("work", 100, 0, queues(1, 1, 2)), level("strict", 10, 0, json!({"type": "Reject"}))];
    let schemas = [schema("a", "work", "a"), schema("b", "strict", "b")];
    let config = Config::read(&schemas, &levels);
    let mut flow = Flow::new(&config, SEATS, Duration::ZERO);
    let mut out = Vec::new();
    let mut fill = |user: &str, out: &mut Vec<Ticket>| {
        let class = classify(&config, user);
        for count in 0.. {
            if let Err(why) = flow.arrive(&class, Work::ONE, Duration::ZERO, out) {
                return (count, why);
            }
        }
        unreachable!("there is a limit")
    };
    let (count, why) = fill("a", &mut out);
    assert_eq!((why, count), (Rejected::QueueFull, out.len() + 2));
    let before = out.len();
    let (count, why) = fill("b", &mut out);
    assert_eq!((why, count), (Rejected::ConcurrencyLimit, out.len() - before));
}

#[test]
fn those_who_gave_up_are_forgotten() {
    let levels = [level("work", 100, 0, queues(4, 2, 50))];
    let schemas = [schema("a", "work", "a")];
    let config = Config::read(&schemas, &levels);
    let mut flow = Flow::new(&config, 1, Duration::ZERO);
    let class = classify(&config, "a");
    let mut out = Vec::new();
    let ids: Vec<u64> =
        (0..3).map(|_| flow.arrive(&class, Work::ONE, Duration::ZERO, &mut out).expect("place")).collect();
    let first = out.pop().expect("one runs");
    let second = ids.iter().copied().find(|id| *id != first.id).expect("one waits");
    assert!(flow.cancel("work", second, true, Duration::from_secs(1)));
    assert!(!flow.cancel("work", second, true, Duration::from_secs(1)));
    flow.finish(&first, Duration::from_secs(2), &mut out);
    assert!(out.len() == 1 && out[0].id != second);
    let level: Arc<str> = "work".into();
    flow.finish(&out[0].clone(), Duration::from_secs(3), &mut Vec::new());
    let counts = flow.levels().into_iter().find(|report| report.name == level).expect("level").counts;
    assert_eq!((counts.executing, counts.waiting, counts.seats, counts.timed_out), (0, 0, 0, 1));
}
