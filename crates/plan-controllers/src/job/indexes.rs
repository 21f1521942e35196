//! Sets of completion indexes, written as `1,3-5`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use coracle_api_types::Object;
use coracle_plan_core::pod;
use k8s_openapi::api::core::v1::Pod;

use super::{INDEX, INDEX_FAILURES, Turn, is_tracked};

/// Indexes that are read at most.
const INDEXES_MAX: i32 = 1_000_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(pub BTreeSet<i32>);

impl Indexes {
    /// Those below `end`; what cannot be read is left out.
    pub fn parse(text: &str, end: i32) -> Self {
        let end = end.min(INDEXES_MAX);
        let mut indexes = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
            indexes.extend(first.max(0)..=last.min(end - 1));
        }
        Self(indexes)
    }

    pub fn total(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// Runs of three or more are written as ranges, like two.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.iter().copied().peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.peek() == Some(&(last + 1)) {
                last += 1;
                rest.next();
            }
            let comma = if text.is_empty() { "" } else { "," };
            let written = match last - first {
                0 => write!(text, "{comma}{first}"),
                1 => write!(text, "{comma}{first},{last}"),
                _ => write!(text, "{comma}{first}-{last}"),
            };
            written.expect("writing to a String cannot fail");
        }
        text
    }
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotation(INDEX)?.parse().ok()
}

pub fn failures_of(pod: &Pod) -> i32 {
    pod.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Turn<'_> {
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or_default()
    }

    pub(super) fn count_succeeded_indexes(&self) -> Indexes {
        let mut indexes =
            Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), self.completions());
        for pod in self.pods.iter().filter(|pod| pod::phase(pod) == "Succeeded" && is_tracked(pod)) {
            indexes.0.extend(index_of(pod).filter(|&index| index < self.completions()));
        }
        indexes
    }

    pub(super) fn count_failed_indexes(&self) -> Indexes {
        let Some(limit) = self.spec.backoff_limit_per_index else { return Indexes::default() };
        let mut indexes = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), self.completions());
        for pod in self.pods.iter().filter(|pod| self.is_failed(pod) && is_tracked(pod)) {
            let over = self.fails_index(pod) || (!self.is_ignored(pod) && failures_of(pod) >= limit);
            indexes.0.extend(index_of(pod).filter(|&index| over && !self.succeeded_indexes.has(index)));
        }
        indexes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_upstream_writes_them() {
        for text in ["", "0", "0,2", "1,3-5,7", "0-2", "3,4"] {
            assert_eq!(Indexes::parse(text, 10).text(), text);
        }
        assert_eq!(Indexes::parse("0-20,x", 3).text(), "0-2");
    }
}
