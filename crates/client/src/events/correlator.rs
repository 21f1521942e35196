//! Which events are written, which raise a count, and which are dropped.
//! Source: client-go `tools/record` `EventCorrelator`: spam filter, aggregation of similar messages, counting of equal ones.

use std::collections::{BTreeMap, HashMap};

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::jiff::Timestamp;

/// Distinct things remembered of each sort; the least recently seen is forgotten first.
const REMEMBERED_MAX: usize = 4096;
/// Messages that share object and reason before they are combined.
const SIMILAR_MESSAGES_MAX: usize = 10;
/// Seconds without a similar event after which they are no longer combined.
const SIMILAR_SECONDS_MAX: i64 = 600;
/// Events of one object that pass at once.
const BURST_MAX: f64 = 25.0;
/// Events of one object that pass for each second that goes by.
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// Something to tell about an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    pub(super) object: ObjectReference,
    /// `Normal` or `Warning`.
    pub(super) type_: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// What is to be done about a notice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    Create {
        message: String,
    },
    /// The same again: `name` is the event that stands for it.
    Count {
        name: String,
        count: i32,
        message: String,
    },
    Drop,
}

type ObjectId = [String; 5];
type SimilarKey = (ObjectId, String, String);

#[derive(Default)]
pub(super) struct Correlator {
    buckets: Remembered<ObjectId, Bucket>,
    similar: Remembered<SimilarKey, Similar>,
    written: Remembered<(SimilarKey, String), Written>,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: BTreeMap<String, ()>,
    at: Timestamp,
}

struct Written {
    name: String,
    count: i32,
}

impl Correlator {
    pub(super) fn decide(&mut self, notice: &Notice) -> Decision {
        if !self.take_token(notice) {
            return Decision::Drop;
        }
        let (key, message) = self.key_of(notice);
        match self.written.get(&key) {
            Some(written) => {
                written.count = written.count.saturating_add(1);
                Decision::Count { name: written.name.clone(), count: written.count, message }
            }
            None => Decision::Create { message },
        }
    }

    /// Remembers what the server stored.
    pub(super) fn stored(&mut self, notice: &Notice, event: &Event) {
        let (key, _) = self.key_of(notice);
        self.written.insert(key, Written { name: event.name().to_owned(), count: event.count.unwrap_or(1) });
    }

    /// The event that counted is gone from the server.
    pub(super) fn forget(&mut self, notice: &Notice) {
        let (key, _) = self.key_of(notice);
        self.written.remove(&key);
    }

    fn take_token(&mut self, notice: &Notice) -> bool {
        let bucket =
            self.buckets.get_or_insert(object_id(&notice.object), || Bucket { tokens: BURST_MAX, at: notice.at });
        let seconds = (notice.at.as_second() - bucket.at.as_second()).max(0);
        #[allow(clippy::cast_precision_loss)]
        let refill = seconds as f64 * REFILL_PER_SECOND;
        bucket.tokens = (bucket.tokens + refill).min(BURST_MAX);
        bucket.at = notice.at;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// The key under which a notice is counted, and its message as it will be shown.
    fn key_of(&mut self, notice: &Notice) -> ((SimilarKey, String), String) {
        let similar_key = (object_id(&notice.object), notice.type_.clone(), notice.reason.clone());
        let fresh = || Similar { messages: BTreeMap::new(), at: notice.at };
        let similar = self.similar.get_or_insert(similar_key.clone(), fresh);
        if notice.at.as_second() - similar.at.as_second() > SIMILAR_SECONDS_MAX {
            similar.messages.clear();
        }
        similar.at = notice.at;
        if similar.messages.len() <= SIMILAR_MESSAGES_MAX {
            similar.messages.insert(notice.message.clone(), ());
        }
        if similar.messages.len() < SIMILAR_MESSAGES_MAX {
            return ((similar_key, notice.message.clone()), notice.message.clone());
        }
        let message = format!("(combined from similar events): {}", notice.message);
        ((similar_key, String::new()), message)
    }
}

fn object_id(object: &ObjectReference) -> ObjectId {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let path = format!("{}#{}", text(&object.uid), text(&object.field_path));
    [text(&object.api_version), text(&object.kind), text(&object.namespace), text(&object.name), path]
}

/// A map with a limit.
struct Remembered<K, V> {
    entries: HashMap<K, (u64, V)>,
    clock: u64,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0 }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Remembered<K, V> {
    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.clock += 1;
        let clock = self.clock;
        self.entries.get_mut(key).map(|(seen, value)| {
            *seen = clock;
            value
        })
    }

    fn get_or_insert(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.make_room();
        }
        self.clock += 1;
        let entry = self.entries.entry(key).or_insert_with(|| (0, make()));
        entry.0 = self.clock;
        &mut entry.1
    }

    fn insert(&mut self, key: K, value: V) {
        self.make_room();
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Forgets the older half when full.
    fn make_room(&mut self) {
        if self.entries.len() < REMEMBERED_MAX {
            return;
        }
        let mut seen: Vec<u64> = self.entries.values().map(|(seen, _)| *seen).collect();
        let middle = seen.len() / 2;
        let (_, &mut median, _) = seen.select_nth_unstable(middle);
        self.entries.retain(|_, (seen, _)| *seen >= median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str, second: i64) -> Notice {
        Notice {
            object: ObjectReference { name: Some("web".into()), ..ObjectReference::default() },
            type_: "Normal".into(),
            reason: "BackOff".into(),
            message: message.into(),
            at: Timestamp::from_second(second).expect("time"),
        }
    }

    fn store(correlator: &mut Correlator, notice: &Notice, name: &str) {
        let mut event = Event { count: Some(1), ..Event::default() };
        event.metadata.name = Some(name.to_owned());
        correlator.stored(notice, &event);
    }

    #[test]
    fn equal_messages_are_counted() {
        let mut correlator = Correlator::default();
        let first = notice("again", 0);
        assert_eq!(correlator.decide(&first), Decision::Create { message: "again".into() });
        store(&mut correlator, &first, "web.1");
        let counted = Decision::Count { name: "web.1".into(), count: 2, message: "again".into() };
        assert_eq!(correlator.decide(&notice("again", 1)), counted);
        correlator.forget(&first);
        assert_eq!(correlator.decide(&notice("again", 2)), Decision::Create { message: "again".into() });
    }

    #[test]
    fn similar_messages_are_combined() {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            let decision = correlator.decide(&notice(&format!("m{number}"), 0));
            assert_eq!(decision, Decision::Create { message: format!("m{number}") });
        }
        let tenth = notice("m9", 0);
        assert_eq!(
            correlator.decide(&tenth),
            Decision::Create { message: "(combined from similar events): m9".into() }
        );
        store(&mut correlator, &tenth, "web.9");
        assert!(matches!(correlator.decide(&notice("m10", 0)), Decision::Count { count: 2, .. }));
        assert_eq!(correlator.decide(&notice("m10", 601)), Decision::Create { message: "m10".into() });
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        let passed = (0..100).filter(|_| correlator.decide(&notice("x", 0)) != Decision::Drop).count();
        assert_eq!(passed, 25);
        assert_ne!(correlator.decide(&notice("x", 300)), Decision::Drop);
        assert_eq!(correlator.decide(&notice("x", 301)), Decision::Drop);
    }
}
