//! Answers of the upstream servers, for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::message::Sections;

/// Answers remembered.
const ENTRIES_MAX: usize = 10_000;
/// Source: CoreDNS' `cache 30` in every kubeadm cluster.
const SECONDS_MAX: u32 = 30;

/// A question, as far as answers differ by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// In lower case.
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Question, Entry>,
}

struct Entry {
    sections: Sections,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// The answer, its times to live less by its age.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Sections> {
        let entry = self.entries.get(question).filter(|entry| entry.expires > now)?;
        let age = u32::try_from(now.duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut sections = entry.sections.clone();
        for record in sections.records_mut() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(sections)
    }

    pub(crate) fn put(&mut self, question: Question, sections: &Sections, now: Instant) {
        let Some(seconds) = seconds(sections) else { return };
        if self.entries.len() >= ENTRIES_MAX {
            self.make_room(now);
        }
        let expires = now + Duration::from_secs(seconds.into());
        self.entries.insert(question, Entry { sections: sections.clone(), stored: now, expires });
    }

    /// Drops what has expired; when that is little, a half of the rest too.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
        if self.entries.len() > ENTRIES_MAX / 2 {
            let mut keep = false;
            self.entries.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }
}

/// For how long the answer may be remembered; `None` for not at all.
fn seconds(sections: &Sections) -> Option<u32> {
    let positive = sections.code.0 == ResponseCode::NoError && !sections.answers.is_empty();
    let negative = matches!(sections.code.0, ResponseCode::NXDomain | ResponseCode::NoError) && !positive;
    let shortest = if positive {
        sections.answers.iter().map(|record| record.ttl).min()
    } else if negative {
        // RFC 2308 section 5: the smaller of the SOA's own time and its minimum field.
        sections.authorities.iter().find_map(soa_seconds)
    } else {
        None
    };
    shortest.map(|seconds| seconds.min(SECONDS_MAX)).filter(|seconds| *seconds > 0)
}

fn soa_seconds(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}

impl Sections {
    fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.answers.iter_mut().chain(&mut self.authorities).chain(&mut self.additionals)
    }
}
