//! Seats and queues of one priority level: fair queuing over the queues that hold something.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{LevelSpec, Response};
use crate::demand::Demand;
use crate::flow::Rejected;
use crate::work::{SERVICE_TIME, Work};

/// A request that has its seats. Given back to [`crate::Flow::finish`].
#[derive(Debug, Clone)]
pub struct Ticket {
    pub id: u64,
    pub level: Arc<str>,
    pub schema: Arc<str>,
    pub work: Work,
    pub arrived: Duration,
    pub started: Duration,
    queue: Option<u32>,
    /// The level's progress when it came.
    arrived_at: f64,
}

/// Requests of flows that were dealt the same queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Ticket>,
    /// Seat-seconds of those that wait.
    pub(crate) work: f64,
    seats_waiting: u32,
    pub(crate) executing: u32,
    pub(crate) seats: u32,
    /// The progress at which the next one would start, were all queues served at once.
    pub(crate) next: f64,
}

impl Queue {
    /// Nobody gets served before they came: time that a queue did not use is lost.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrived_at);
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0 && self.seats == 0
    }

    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }
}

pub(crate) struct Level {
    pub(crate) spec: LevelSpec,
    /// Seats by shares, and between which bounds borrowing moves them.
    pub(crate) nominal: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Seats now.
    pub(crate) limit: u32,
    pub(crate) demand: Demand,
    /// Its object is gone: it only works off what it has.
    pub(crate) quiescing: bool,
    pub(crate) queues: BTreeMap<u32, Queue>,
    pub(crate) executing: u32,
    pub(crate) waiting: u32,
    pub(crate) seats: u32,
    pub(crate) seats_waiting: u32,
    pub(crate) dispatched: u64,
    pub(crate) rejected: u64,
    pub(crate) timed_out: u64,
    pub(crate) cancelled: u64,
    /// Queue that was served last, where the next round starts behind.
    robin: u32,
    enqueued: u64,
    /// Virtual time in seat-seconds, as of `synced`.
    progress: f64,
    synced: Duration,
    /// Seats that stay taken for a while after their request: until when, and whose.
    lingering: BTreeMap<(Duration, u64), (Option<u32>, u32)>,
}

/// `hand` different numbers below `deck`, all decided by `hash`.
fn deal(mut hash: u64, deck: u32, hand: u32) -> Vec<u32> {
    let mut dealt: Vec<u32> = Vec::with_capacity(hand as usize);
    for left in (deck - hand + 1..=deck).rev() {
        #[allow(clippy::cast_possible_truncation)]
        let mut card = (hash % u64::from(left)) as u32;
        hash /= u64::from(left);
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for other in sorted {
            if card >= other {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

impl Level {
    pub(crate) fn new(spec: LevelSpec, now: Duration) -> Self {
        Self {
            spec,
            nominal: 0,
            min: 0,
            max: 0,
            limit: 0,
            demand: Demand::new(now),
            quiescing: false,
            queues: BTreeMap::new(),
            executing: 0,
            waiting: 0,
            seats: 0,
            seats_waiting: 0,
            dispatched: 0,
            rejected: 0,
            timed_out: 0,
            cancelled: 0,
            robin: 0,
            enqueued: 0,
            progress: 0.0,
            synced: now,
            lingering: BTreeMap::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.executing == 0 && self.waiting == 0 && self.lingering.is_empty()
    }

    /// Brings virtual time to `now`: it advances as fast as each busy queue could be served.
    pub(crate) fn sync(&mut self, now: Duration) {
        while let Some((&(until, id), _)) = self.lingering.first_key_value() {
            if until > now {
                break;
            }
            self.progress_to(until);
            if let Some((queue, seats)) = self.lingering.remove(&(until, id)) {
                self.release(queue, seats, until);
            }
        }
        self.progress_to(now);
    }

    fn progress_to(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.synced).as_secs_f64();
        self.synced = self.synced.max(now);
        if elapsed == 0.0 || self.queues.is_empty() {
            return;
        }
        let (mut active, mut wanted) = (0_u32, 0_u32);
        for queue in self.queues.values() {
            wanted = wanted.saturating_add(queue.seats + queue.seats_waiting);
            active += u32::from(queue.is_active());
        }
        if active > 0 {
            self.progress += elapsed * f64::from(wanted.min(self.limit)) / f64::from(active);
        }
    }

    fn note_demand(&mut self, now: Duration) {
        self.demand.set(self.seats + self.seats_waiting, now);
    }

    fn release(&mut self, queue: Option<u32>, seats: u32, now: Duration) {
        self.seats -= seats;
        self.note_demand(now);
        let Some(index) = queue else { return };
        if let Some(queue) = self.queues.get_mut(&index) {
            queue.seats -= seats;
            if queue.is_empty() {
                self.queues.remove(&index);
            }
        }
    }

    fn has_room(&self, seats: u32) -> bool {
        if self.spec.response == Response::Exempt {
            return true;
        }
        if seats > self.limit { self.executing == 0 && self.limit > 0 } else { self.seats + seats <= self.limit }
    }

    /// A new request. Those that got their seats by it, itself perhaps among them, go to `out`.
    pub(crate) fn arrive(
        &mut self,
        ticket: Ticket,
        hash: u64,
        now: Duration,
        out: &mut Vec<Ticket>,
    ) -> Result<(), Rejected> {
        self.sync(now);
        let Response::Queue { queues, hand, length_max } = self.spec.response else {
            if !self.has_room(ticket.work.seats()) {
                self.rejected += 1;
                return Err(Rejected::ConcurrencyLimit);
            }
            self.start(ticket, now, out);
            return Ok(());
        };
        let index = self.choose(hash, queues, hand);
        let progress = self.progress;
        let full = self.seats >= self.limit;
        let queue = self.queues.entry(index).or_default();
        if full && queue.waiting.len() >= length_max as usize {
            queue.bound();
            self.rejected += 1;
            return Err(Rejected::QueueFull);
        }
        if !queue.is_active() {
            queue.next = progress;
        }
        let seats = ticket.work.seats();
        queue.work += ticket.work.total();
        queue.seats_waiting += seats;
        queue.waiting.push_back(Ticket { queue: Some(index), arrived_at: progress, ..ticket });
        queue.bound();
        self.waiting += 1;
        self.seats_waiting += seats;
        self.note_demand(now);
        self.dispatch(now, out);
        Ok(())
    }

    /// The least laden of the queues that the flow was dealt.
    fn choose(&mut self, hash: u64, queues: u32, hand: u32) -> u32 {
        let hand = deal(hash, queues, hand.min(queues));
        #[allow(clippy::cast_possible_truncation)]
        let offset = (self.enqueued % hand.len() as u64) as usize;
        self.enqueued = self.enqueued.wrapping_add(1);
        let work = |index: &u32| self.queues.get(index).map_or(0.0, |queue| queue.work);
        let round = hand[offset..].iter().chain(&hand[..offset]);
        round.min_by(|a, b| work(a).total_cmp(&work(b))).copied().unwrap_or_default()
    }

    /// Gives out seats until there are none or nobody waits.
    pub(crate) fn dispatch(&mut self, now: Duration, out: &mut Vec<Ticket>) {
        while self.waiting > 0 && self.seats < self.limit {
            let Some(index) = self.next_queue() else { return };
            let room = self.queues.get(&index).and_then(|queue| queue.waiting.front());
            if !room.is_some_and(|oldest| self.has_room(oldest.work.seats())) {
                return;
            }
            self.robin = index;
            let Some(queue) = self.queues.get_mut(&index) else { return };
            let Some(mut ticket) = queue.waiting.pop_front() else { return };
            let seats = ticket.work.seats();
            queue.work = if queue.waiting.is_empty() { 0.0 } else { queue.work - ticket.work.total() };
            queue.seats_waiting -= seats;
            ticket.work.narrow(self.limit);
            queue.next += ticket.work.total();
            queue.executing += 1;
            queue.seats += ticket.work.seats();
            queue.bound();
            self.waiting -= 1;
            self.seats_waiting -= seats;
            self.start(ticket, now, out);
        }
    }

    /// The queue whose oldest request would end first, ties going round.
    fn next_queue(&self) -> Option<u32> {
        let behind = self.queues.range(self.robin.saturating_add(1)..);
        let round = behind.chain(self.queues.range(..=self.robin));
        let ends = round.filter_map(|(index, queue)| {
            let oldest = queue.waiting.front()?;
            Some((*index, queue.next + oldest.work.total()))
        });
        ends.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
    }

    fn start(&mut self, ticket: Ticket, now: Duration, out: &mut Vec<Ticket>) {
        self.executing += 1;
        self.seats += ticket.work.seats();
        self.dispatched += 1;
        self.note_demand(now);
        out.push(Ticket { started: now, ..ticket });
    }

    /// A request is done; its seats go to others, now or after they lingered.
    pub(crate) fn finish(&mut self, ticket: &Ticket, now: Duration, out: &mut Vec<Ticket>) {
        self.sync(now);
        self.executing -= 1;
        if let Some(queue) = ticket.queue.and_then(|index| self.queues.get_mut(&index)) {
            queue.executing -= 1;
            let took = now.saturating_sub(ticket.started).as_secs_f64();
            // What was charged in advance for a usual request is put right.
            queue.next -= f64::from(ticket.work.initial_seats) * (SERVICE_TIME.as_secs_f64() - took);
            queue.bound();
        }
        let seats = ticket.work.seats();
        if ticket.work.linger.is_zero() {
            self.release(ticket.queue, seats, now);
        } else {
            self.lingering.insert((now + ticket.work.linger, ticket.id), (ticket.queue, seats));
        }
        self.dispatch(now, out);
    }

    /// A request gives up waiting. False when it does not wait (any more).
    pub(crate) fn cancel(&mut self, id: u64, timed_out: bool, now: Duration) -> bool {
        self.sync(now);
        let found = self
            .queues
            .iter()
            .find_map(|(index, queue)| Some((*index, queue.waiting.iter().position(|ticket| ticket.id == id)?)));
        let Some((index, position)) = found else { return false };
        let Some(queue) = self.queues.get_mut(&index) else { return false };
        let Some(ticket) = queue.waiting.remove(position) else { return false };
        let seats = ticket.work.seats();
        queue.work = if queue.waiting.is_empty() { 0.0 } else { queue.work - ticket.work.total() };
        queue.seats_waiting -= seats;
        queue.bound();
        if queue.is_empty() {
            self.queues.remove(&index);
        }
        self.waiting -= 1;
        self.seats_waiting -= seats;
        self.rejected += u64::from(timed_out);
        self.timed_out += u64::from(timed_out);
        self.cancelled += 1;
        self.note_demand(now);
        true
    }

    /// When lingering seats come free next.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.lingering.first_key_value().map(|((until, _), _)| *until)
    }

    pub(crate) fn ticket(id: u64, level: Arc<str>, schema: Arc<str>, work: Work, now: Duration) -> Ticket {
        Ticket { id, level, schema, work, arrived: now, started: now, queue: None, arrived_at: 0.0 }
    }
}

impl Ticket {
    #[must_use]
    pub fn queue(&self) -> Option<u32> {
        self.queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_hold_different_queues_within_the_deck() {
        for hash in 0..1000_u64 {
            let mut hand = deal(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15), 16, 4);
            hand.sort_unstable();
            hand.dedup();
            assert!(hand.len() == 4 && hand[3] < 16, "{hand:?}");
        }
        assert_eq!(deal(0, 3, 3).len(), 3);
    }
}
