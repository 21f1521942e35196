//! Which fields a way of writing may own: upstream's `GetResetFields` and `GetResetFieldsFilter`.

use super::{FieldSet, PathElement};

/// Fields that do not count, because the write resets them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FieldFilter {
    /// All fields count.
    #[default]
    All,
    /// These fields and all below them do not count: `status` on the main resource.
    Except(FieldSet),
    /// Only what matches one of these, and all below it, counts: resources of containers on a pod's `resize`.
    Only(Vec<PathPattern>),
}

/// A path in which `None` stands for any element.
pub type PathPattern = Vec<Option<PathElement>>;

impl FieldFilter {
    pub(crate) fn apply(&self, mut set: FieldSet) -> FieldSet {
        match self {
            Self::All => set,
            Self::Except(except) => {
                set.subtract_below(except);
                set
            }
            Self::Only(patterns) => {
                let patterns: Vec<&[Option<PathElement>]> = patterns.iter().map(Vec::as_slice).collect();
                matching(&set, &patterns)
            }
        }
    }
}

fn matching(set: &FieldSet, patterns: &[&[Option<PathElement>]]) -> FieldSet {
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return set.clone();
    }
    let rests = |element: &PathElement| -> Vec<&[Option<PathElement>]> {
        let split = patterns.iter().filter_map(|pattern| pattern.split_first());
        let fits = split.filter(|(first, _)| first.as_ref().is_none_or(|first| first == element));
        fits.map(|(_, rest)| rest).collect()
    };
    let mut out = FieldSet::new();
    for member in set.members() {
        if !rests(member).is_empty() {
            out.insert_member(member.clone());
        }
    }
    for (element, below) in set.children() {
        let rests = rests(element);
        if !rests.is_empty() {
            out.attach(element.clone(), matching(below, &rests));
        }
    }
    out
}
