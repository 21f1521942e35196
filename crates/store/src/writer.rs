//! The one thread that writes: takes all transactions that wait, checks them in order, commits them together, makes them
//! visible, acknowledges them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, Row};
use crate::memory::{Change, Memory};
use crate::seal::Sealed;
use crate::{Condition, Durability, Entry, Key, Outcome, Revision, Seal, StoreError, Transaction, Write};

const BATCH_TRANSACTIONS_MAX: usize = 1024;
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// How often a full disk is looked at again.
const FULL_INTERVAL: Duration = Duration::from_secs(5);
/// Growth of an object that is still written to a full disk: marks of deletions, finalizers that go.
const FULL_GROWTH_BYTES_MAX: usize = 512;
const EXPIRED_PER_ROUND_MAX: usize = 512;

pub(crate) type Reply = oneshot::Sender<Result<Outcome, StoreError>>;

pub(crate) enum Request {
    Commit(Transaction, Reply),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    disk: Disk,
    memory: Arc<Memory>,
    requests: mpsc::Receiver<Request>,
    revision: Revision,
    /// Acknowledged but not on disk yet; the latest version of each key.
    pending: BTreeMap<Key, (Option<Arc<Entry>>, Option<Vec<u8>>)>,
    pending_since: Option<Instant>,
    expiries: BinaryHeap<Reverse<(u64, Key)>>,
    tidied: Instant,
    seal: Option<Arc<dyn Seal>>,
    /// The disk is full: since when it was last looked at. Only what frees room is written.
    full_since: Option<Instant>,
}

/// Transactions of one round, checked but not committed.
#[derive(Default)]
struct Round {
    changes: Vec<Change>,
    /// What is written on disk in place of the value of the change at the same place.
    sealed: Vec<Option<Vec<u8>>>,
    /// What the changes so far make of the keys they touch.
    overlay: HashMap<Key, Option<Arc<Entry>>>,
    replies: Vec<(Reply, Outcome)>,
    /// Transactions whose values could not be sealed.
    refused: Vec<(Reply, StoreError)>,
    synced: bool,
    /// Everything in the round may be written to a full disk.
    frees: bool,
}

/// A write whose bytes are made, but not its place in history.
struct Staged {
    key: Key,
    /// `None` for a deletion; with what is written on disk in place of the value.
    put: Option<(Entry, Option<Vec<u8>>)>,
}

impl Writer {
    pub(crate) fn new(
        disk: Disk,
        memory: Arc<Memory>,
        requests: mpsc::Receiver<Request>,
        expiries: impl IntoIterator<Item = (u64, Key)>,
        seal: Option<Arc<dyn Seal>>,
    ) -> Self {
        let revision = memory.read().revision;
        Self {
            disk,
            memory,
            requests,
            revision,
            pending: BTreeMap::new(),
            pending_since: None,
            expiries: expiries.into_iter().map(Reverse).collect(),
            tidied: Instant::now(),
            seal,
            full_since: None,
        }
    }

    /// Runs until told to close or until all handles are gone. Who told so is to be answered when the folder is free.
    pub(crate) fn run(mut self, runtime: &tokio::runtime::Runtime) -> Option<oneshot::Sender<()>> {
        let mut closing = None;
        while closing.is_none() {
            let wait = self.wait();
            let first = runtime.block_on(async { tokio::time::timeout(wait, self.requests.recv()).await });
            let mut round = Round { frees: true, ..Round::default() };
            match first {
                Ok(None) => break,
                Ok(Some(request)) => {
                    closing = self.take(request, &mut round);
                    while closing.is_none() && round.replies.len() < BATCH_TRANSACTIONS_MAX {
                        let Ok(request) = self.requests.try_recv() else { break };
                        closing = self.take(request, &mut round);
                    }
                }
                Err(_) => {}
            }
            self.expire(&mut round);
            self.finish(round);
            self.look_after();
        }
        self.shut_down();
        closing
    }

    fn wait(&self) -> Duration {
        let now = Instant::now();
        let flush = self.pending_since.map(|since| (since + self.memory.limits().relaxed_age_max).duration_since(now));
        let expiry =
            self.expiries.peek().map(|Reverse((at, _))| Duration::from_secs(at.saturating_sub(unix_now()).max(1)));
        let full = self.full_since.map(|since| (since + FULL_INTERVAL).duration_since(now));
        [flush, expiry, full].into_iter().flatten().min().unwrap_or(TIDY_INTERVAL).min(TIDY_INTERVAL)
    }

    fn take(&mut self, request: Request, round: &mut Round) -> Option<oneshot::Sender<()>> {
        match request {
            Request::Commit(transaction, reply) => {
                self.check(transaction, reply, round);
                None
            }
            Request::Close(done) => Some(done),
        }
    }

    fn current(&self, round: &Round, key: &Key) -> Option<Arc<Entry>> {
        round.overlay.get(key).cloned().unwrap_or_else(|| self.memory.get(key))
    }

    fn check(&mut self, transaction: Transaction, reply: Reply, round: &mut Round) {
        for (index, expectation) in transaction.expect.iter().enumerate() {
            let current = self.current(round, &expectation.key);
            let holds = match (expectation.condition, &current) {
                (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
                (Condition::Modified(revision), Some(entry)) => entry.modified == revision,
                _ => false,
            };
            if !holds {
                let refused = Outcome::Refused { index, current };
                round.replies.push((reply, refused));
                return;
            }
        }
        let frees = transaction.writes.iter().all(|write| self.frees_room(write, round));
        if let Some(error) = self.memory.trouble().filter(|_| self.full_since.is_some() && !frees) {
            let _ = reply.send(Err(error));
            return;
        }
        round.frees &= frees;
        let revision = Revision(self.revision.0 + 1);
        let staged = match transaction.writes.into_iter().map(|write| self.prepare(write, revision)).collect() {
            Ok::<Vec<Staged>, _>(staged) => staged,
            Err(error) => {
                tracing::error!(%error, "seal a value");
                round.refused.push((reply, error));
                return;
            }
        };
        self.revision = revision;
        round.synced |= transaction.durability == Durability::Synced;
        let entries = staged.into_iter().map(|write| self.stage(write, revision, round)).collect();
        round.replies.push((reply, Outcome::Committed { revision, entries }));
    }

    fn frees_room(&self, write: &Write, round: &Round) -> bool {
        match write {
            Write::Delete { .. } => true,
            Write::Put { key, content, .. } => self
                .current(round, key)
                .is_some_and(|entry| content.bytes.len() <= entry.value.len() + FULL_GROWTH_BYTES_MAX),
        }
    }

    /// Makes the bytes that go to memory and to disk. Nothing has happened yet when that fails.
    fn prepare(&self, write: Write, revision: Revision) -> Result<Staged, StoreError> {
        let (key, content, ttl) = match write {
            Write::Put { key, content, ttl } => (key, content, ttl),
            Write::Delete { key } => return Ok(Staged { key, put: None }),
        };
        let revision_at = content.revision_at;
        let value = content.with_revision(revision);
        let sealed = match &self.seal {
            Some(seal) => seal.seal(&key, &value).map_err(|detail| StoreError::Seal { key: key.clone(), detail })?,
            None => Sealed::default(),
        };
        let expires_at = ttl.map(|ttl| unix_now() + ttl.as_secs().max(1));
        let entry = Entry {
            revision_at,
            value,
            expires_at,
            name: Some(Arc::clone(&key.name)),
            seal: sealed.id,
            ..Entry::default()
        };
        Ok(Staged { key, put: Some((entry, sealed.value)) })
    }

    fn stage(&mut self, write: Staged, revision: Revision, round: &mut Round) -> Option<Arc<Entry>> {
        let Staged { key, put } = write;
        let current = self.current(round, &key);
        let (entry, sealed) = match put {
            Some((entry, sealed)) => {
                if let Some(at) = entry.expires_at {
                    self.expiries.push(Reverse((at, key.clone())));
                }
                let entry = Entry {
                    created: current.as_ref().map_or(revision, |entry| entry.created),
                    modified: revision,
                    version: current.as_ref().map_or(1, |entry| entry.version + 1),
                    ..entry
                };
                (Some(Arc::new(entry)), sealed)
            }
            None => (None, None),
        };
        if entry.is_none() && current.is_none() {
            return None;
        }
        round.overlay.insert(key.clone(), entry.clone());
        round.changes.push(Change { key, entry: entry.clone(), revision });
        round.sealed.push(sealed);
        entry
    }

    fn expire(&mut self, round: &mut Round) {
        let now = unix_now();
        for _ in 0..EXPIRED_PER_ROUND_MAX {
            let Some(Reverse((at, _))) = self.expiries.peek() else { return };
            if *at > now {
                return;
            }
            let Some(Reverse((_, key))) = self.expiries.pop() else { return };
            let due = self.current(round, &key).and_then(|entry| entry.expires_at).is_some_and(|at| at <= now);
            if due {
                self.revision.0 += 1;
                self.stage(Staged { key, put: None }, self.revision, round);
            }
        }
    }

    fn finish(&mut self, mut round: Round) {
        for (reply, error) in round.refused.drain(..) {
            let _ = reply.send(Err(error));
        }
        let must_sync = round.synced || self.revision >= self.disk.reserved();
        if must_sync && let Err(error) = self.flush_or_make_room(&round) {
            tracing::error!(%error, "commit to disk");
            self.revision = self.memory.read().revision;
            for (reply, outcome) in round.replies {
                let answer = if matches!(outcome, Outcome::Refused { .. }) { Ok(outcome) } else { Err(error.clone()) };
                let _ = reply.send(answer);
            }
            return;
        }
        if !must_sync && !round.changes.is_empty() {
            self.pending_since.get_or_insert_with(Instant::now);
            let sealed = std::mem::take(&mut round.sealed);
            let changes = round.changes.iter().zip(sealed);
            self.pending.extend(changes.map(|(change, sealed)| (change.key.clone(), (change.entry.clone(), sealed))));
        }
        if !round.changes.is_empty() {
            self.memory.apply(round.changes);
        }
        for (reply, outcome) in round.replies {
            let _ = reply.send(Ok(outcome));
        }
    }

    /// A full disk takes what frees room once the reserve is given up.
    fn flush_or_make_room(&mut self, round: &Round) -> Result<(), StoreError> {
        let mut result = self.flush(&round.changes, &round.sealed);
        if let Err(StoreError::DiskFull { .. }) = &result {
            self.full_since = Some(Instant::now());
            if self.disk.release_reserve() && round.frees {
                result = self.flush(&round.changes, &round.sealed);
            }
        }
        match &result {
            Err(error) => self.memory.set_trouble(Some(error.clone())),
            Ok(()) if self.full_since.is_none() && self.memory.trouble().is_some() => self.memory.set_trouble(None),
            Ok(()) => {}
        }
        result
    }

    /// Puts what is pending and then `changes` on disk. Pending writes stay pending when that fails.
    fn flush(&mut self, changes: &[Change], sealed: &[Option<Vec<u8>>]) -> Result<(), StoreError> {
        if self.pending.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let pending = self.pending.iter();
        let pending =
            pending.map(|(key, (entry, sealed))| Row { key, entry: entry.as_deref(), sealed: sealed.as_deref() });
        let changes = changes.iter().zip(sealed);
        let changes = changes.map(|(change, sealed)| Row {
            key: &change.key,
            entry: change.entry.as_deref(),
            sealed: sealed.as_deref(),
        });
        let rows: Vec<Row<'_>> = pending.chain(changes).collect();
        self.disk.commit(&rows, self.revision)?;
        self.pending.clear();
        self.pending_since = None;
        Ok(())
    }

    fn look_after(&mut self) {
        let now = Instant::now();
        let due =
            self.pending_since.is_some_and(|since| now.duration_since(since) >= self.memory.limits().relaxed_age_max);
        if due && let Err(error) = self.flush(&[], &[]) {
            tracing::error!(%error, "write out relaxed writes");
            self.pending_since = Some(now);
        }
        if self.full_since.is_some_and(|since| now.duration_since(since) >= FULL_INTERVAL) {
            let room = self.disk.find_room();
            self.full_since = room.is_err().then_some(now);
            self.memory.set_trouble(room.err());
        }
        if now.duration_since(self.tidied) >= TIDY_INTERVAL {
            self.tidied = now;
            self.memory.tidy(now);
        }
    }

    fn shut_down(mut self) {
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Commit(_, reply) => drop(reply.send(Err(StoreError::Closed))),
                Request::Close(done) => drop(done.send(())),
            }
        }
        if let Err(error) = self.flush(&[], &[]).and_then(|()| self.disk.close(self.revision)) {
            tracing::error!(%error, "write out the store");
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
