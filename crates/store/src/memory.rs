//! Present state and recent history in memory: what reads and watches are served from, whatever engine keeps the data.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{Entry, Event, Key, Page, Range, Revision, StoreError};

/// Bounds of what is kept and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events younger than this are kept, unless there are too many.
    pub history_age_min: Duration,
    /// Events of one collection.
    pub history_events_max: usize,
    /// Bytes of the events of one collection. Beyond this only fresh ones are kept.
    pub history_bytes_max: usize,
    /// Events younger than this are fresh: watchers that lag find them.
    pub history_fresh_age: Duration,
    /// Bytes of the events of one collection, however fresh.
    pub history_burst_bytes_max: usize,
    /// Ranges at revisions older than this are refused.
    pub range_age_max: Duration,
    /// Relaxed writes reach the disk within this.
    pub relaxed_age_max: Duration,
    /// Room kept on the disk, so that objects can be deleted when it is full.
    pub reserve_bytes: u64,
    /// Transactions that wait for the writer.
    pub queue_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_age_min: Duration::from_secs(10 * 60),
            history_events_max: 100_000,
            history_bytes_max: 16 * 1024 * 1024,
            history_fresh_age: Duration::from_secs(75),
            history_burst_bytes_max: 256 * 1024 * 1024,
            range_age_max: Duration::from_secs(5 * 60),
            relaxed_age_max: Duration::from_secs(60),
            reserve_bytes: 8 * 1024 * 1024,
            queue_max: 16_384,
        }
    }
}

pub(crate) struct Collection {
    pub(crate) entries: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Of the values of all entries.
    bytes: usize,
    pub(crate) events: VecDeque<Arc<Event>>,
    /// What the events hold on to.
    events_bytes: usize,
    /// Watches may start from here on.
    floor: Revision,
    changed: watch::Sender<Revision>,
}

pub(crate) struct State {
    pub(crate) collections: HashMap<Arc<str>, Collection>,
    pub(crate) revision: Revision,
    /// Ranges may be asked from here on.
    pub(crate) compacted: Revision,
    /// Where history starts: what was there when the process started.
    start: Revision,
    /// When which revision was the latest, oldest first.
    marks: VecDeque<(Instant, Revision)>,
}

pub(crate) struct Memory {
    state: RwLock<State>,
    limits: Limits,
    /// Why the last write failed.
    trouble: RwLock<Option<StoreError>>,
}

/// One change to apply, made by the writer.
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) revision: Revision,
}

impl Collection {
    fn new(floor: Revision) -> Self {
        Self {
            entries: BTreeMap::new(),
            bytes: 0,
            events: VecDeque::new(),
            events_bytes: 0,
            floor,
            changed: watch::Sender::new(floor),
        }
    }

    /// Replaces or, without an entry, removes what a name stands for.
    fn put(&mut self, name: &Arc<str>, entry: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        let prev = match entry {
            Some(entry) => self.entries.insert(Arc::clone(name), Arc::clone(entry)),
            None => self.entries.remove(name),
        };
        let size = |entry: Option<&Arc<Entry>>| entry.map_or(0, |entry| entry.value.len());
        self.bytes = self.bytes + size(entry) - size(prev.as_ref());
        prev
    }

    fn range(&self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &Arc<Entry>)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let prefix = prefix.to_owned();
        self.entries.range::<str, _>((start, Bound::Unbounded)).take_while(move |(name, _)| name.starts_with(&prefix))
    }

    pub(crate) fn events_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|event| event.revision <= revision);
        self.events.range(start..)
    }

    fn trim(&mut self, limits: &Limits, now: Instant) {
        while let Some(oldest) = self.events.front() {
            let age = now.duration_since(oldest.at);
            let wanted = age <= limits.history_fresh_age
                || (age <= limits.history_age_min && self.events_bytes <= limits.history_bytes_max);
            let room =
                self.events.len() <= limits.history_events_max && self.events_bytes <= limits.history_burst_bytes_max;
            if wanted && room {
                break;
            }
            self.floor = oldest.revision;
            self.events_bytes -= oldest.bytes();
            self.events.pop_front();
        }
    }
}

impl Memory {
    pub(crate) fn new(limits: Limits, revision: Revision, entries: impl IntoIterator<Item = (Key, Entry)>) -> Self {
        let mut state = State {
            collections: HashMap::new(),
            revision,
            compacted: revision,
            start: revision,
            marks: VecDeque::from([(Instant::now(), revision)]),
        };
        for (key, entry) in entries {
            let entry = Entry { name: Some(Arc::clone(&key.name)), ..entry };
            let collection = state.collections.entry(key.collection).or_insert_with(|| Collection::new(revision));
            collection.put(&key.name, Some(&Arc::new(entry)));
        }
        Self { state: RwLock::new(state), limits, trouble: RwLock::default() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, trouble: Option<StoreError>) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.read().collections.get(&key.collection)?.entries.get(&key.name).cloned()
    }

    /// Makes changes visible, all at once.
    pub(crate) fn apply(&self, changes: Vec<Change>) {
        let now = Instant::now();
        let mut guard = self.write();
        let state = &mut *guard;
        let mut touched: Vec<Arc<str>> = Vec::new();
        for change in changes {
            state.revision = state.revision.max(change.revision);
            let start = state.start;
            let collection =
                state.collections.entry(Arc::clone(&change.key.collection)).or_insert_with(|| Collection::new(start));
            let prev = collection.put(&change.key.name, change.entry.as_ref());
            let event = Arc::new(Event {
                revision: change.revision,
                name: change.key.name,
                entry: change.entry,
                prev,
                at: now,
                note: Default::default(),
            });
            collection.events_bytes += event.bytes();
            collection.events.push_back(event);
            if collection.events.len() > self.limits.history_events_max
                || collection.events_bytes > self.limits.history_bytes_max
            {
                collection.trim(&self.limits, now);
            }
            if touched.last() != Some(&change.key.collection) {
                touched.push(change.key.collection);
            }
        }
        let revision = state.revision;
        for name in &touched {
            if let Some(collection) = state.collections.get(name) {
                collection.changed.send_replace(revision);
            }
        }
    }

    /// Drops history that is old enough. Called now and then, off the path of writes.
    pub(crate) fn tidy(&self, now: Instant) {
        let mut guard = self.write();
        let state = &mut *guard;
        for collection in state.collections.values_mut() {
            collection.trim(&self.limits, now);
        }
        let revision = state.revision;
        state.marks.push_back((now, revision));
        while let Some(&(at, mark)) = state.marks.front() {
            if now.duration_since(at) <= self.limits.range_age_max {
                break;
            }
            state.compacted = state.compacted.max(mark);
            state.marks.pop_front();
        }
    }

    pub(crate) fn compact(&self, revision: Revision) {
        let mut state = self.write();
        state.compacted = state.compacted.max(revision.min(state.revision));
    }

    pub(crate) fn size(&self, collection: &str) -> (usize, usize) {
        let state = self.read();
        state.collections.get(collection).map_or((0, 0), |own| (own.entries.len(), own.bytes))
    }

    pub(crate) fn local_range(&self, collection: &str, prefix: &str) -> Vec<Arc<Entry>> {
        let state = self.read();
        let Some(collection) = state.collections.get(collection) else { return Vec::new() };
        collection.range(prefix, None).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    pub(crate) fn range(&self, range: &Range) -> Result<Page, StoreError> {
        let state = self.read();
        let latest = state.revision;
        let at = range.at.unwrap_or(latest);
        if at > latest {
            return Err(StoreError::Future { requested: at, latest });
        }
        if at < state.compacted {
            return Err(StoreError::Compacted { requested: at, oldest: state.compacted });
        }
        let Some(collection) = state.collections.get(&range.collection) else {
            return Ok(Page { entries: Vec::new(), revision: at, remaining: 0 });
        };
        if at < latest {
            if at < collection.floor {
                return Err(StoreError::Compacted { requested: at, oldest: collection.floor });
            }
            return Ok(past(collection, range, at));
        }
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        let mut found = collection.range(&range.prefix, range.after.as_deref());
        let entries: Vec<_> = found.by_ref().take(limit).map(|(_, entry)| Arc::clone(entry)).collect();
        let remaining = if entries.len() == limit { found.count() } else { 0 };
        Ok(Page { entries, revision: at, remaining })
    }

    /// Checks that a watch can start, and gives it the signal to wait on.
    pub(crate) fn subscribe(&self, name: &str, after: Revision) -> Result<watch::Receiver<Revision>, StoreError> {
        let receiver = self.changes(name);
        let state = self.read();
        let oldest = state.collections.get(name).map_or(state.start, |collection| collection.floor);
        if after < oldest {
            return Err(StoreError::Compacted { requested: after, oldest });
        }
        Ok(receiver)
    }

    pub(crate) fn changes(&self, name: &str) -> watch::Receiver<Revision> {
        if let Some(collection) = self.read().collections.get(name) {
            return collection.changed.subscribe();
        }
        let mut state = self.write();
        let start = state.start;
        let collection = state.collections.entry(name.into()).or_insert_with(|| Collection::new(start));
        collection.changed.subscribe()
    }

    pub(crate) fn collection_revision(&self, name: &str) -> Revision {
        let state = self.read();
        state.collections.get(name).map_or(state.start, |collection| *collection.changed.borrow())
    }

    /// Events after `after`, at most `max`, and the revision up to which the caller has now seen everything.
    pub(crate) fn events(
        &self,
        name: &str,
        prefix: &str,
        after: Revision,
        max: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision), StoreError> {
        let state = self.read();
        let Some(collection) = state.collections.get(name) else { return Ok((Vec::new(), state.revision.max(after))) };
        if after < collection.floor {
            return Err(StoreError::Compacted { requested: after, oldest: collection.floor });
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        for event in collection.events_after(after).filter(|event| event.name.starts_with(prefix)) {
            if events.len() >= max && events.last().is_some_and(|last| last.revision != event.revision) {
                let seen = events.last().map_or(after, |last| last.revision);
                return Ok((events, seen));
            }
            events.push(Arc::clone(event));
        }
        Ok((events, state.revision.max(after)))
    }
}

/// The collection as it was: the present, with everything that happened since undone.
fn past(collection: &Collection, range: &Range, at: Revision) -> Page {
    let mut undone: BTreeMap<&str, Option<&Arc<Entry>>> = BTreeMap::new();
    for event in collection.events_after(at).filter(|event| event.name.starts_with(&range.prefix)) {
        undone.entry(&event.name).or_insert(event.prev.as_ref());
    }
    let after = range.after.as_deref();
    let mut view: BTreeMap<&str, &Arc<Entry>> =
        collection.range(&range.prefix, after).map(|(name, entry)| (&**name, entry)).collect();
    for (name, entry) in undone {
        if after.is_some_and(|after| name <= after) {
            continue;
        }
        match entry {
            Some(entry) => view.insert(name, entry),
            None => view.remove(name),
        };
    }
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let total = view.len();
    let entries: Vec<_> = view.into_values().take(limit).cloned().collect();
    Page { remaining: total - entries.len(), entries, revision: at }
}
