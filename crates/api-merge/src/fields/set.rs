//! A set of fields as a tree. Membership of a field says nothing of its children, and the other way round.

use std::cmp::Ordering;

use super::PathElement;
use super::element::path_text;

/// Fields of an object. Both lists are sorted and free of repetitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) members: Vec<PathElement>,
    pub(super) children: Vec<(PathElement, FieldSet)>,
}

impl FieldSet {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of paths of field names: `&[&["status"], &["metadata", "generation"]]`.
    #[must_use]
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, set)| set.is_empty())
    }

    /// How many fields are members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len() + self.children.iter().map(|(_, set)| set.len()).sum::<usize>()
    }

    /// Adds one field; its parents are not added. The empty path adds nothing.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut set = self;
        for element in parents {
            set = set.descend(element.clone());
        }
        set.insert_member(last.clone());
    }

    #[must_use]
    pub fn has(&self, path: &[PathElement]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let set = parents.iter().try_fold(self, |set, element| set.child(element));
        set.is_some_and(|set| set.has_member(last))
    }

    pub(crate) fn has_member(&self, element: &PathElement) -> bool {
        self.members.binary_search(element).is_ok()
    }

    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.members.binary_search_by(|member| member.cmp_field(name)).is_ok()
    }

    pub(crate) fn child(&self, element: &PathElement) -> Option<&Self> {
        let place = self.children.binary_search_by(|(child, _)| child.cmp(element)).ok()?;
        self.children.get(place).map(|(_, set)| set)
    }

    pub(crate) fn child_field(&self, name: &str) -> Option<&Self> {
        let place = self.children.binary_search_by(|(child, _)| child.cmp_field(name)).ok()?;
        self.children.get(place).map(|(_, set)| set)
    }

    pub(crate) fn members(&self) -> &[PathElement] {
        &self.members
    }

    pub(crate) fn children(&self) -> &[(PathElement, Self)] {
        &self.children
    }

    pub(crate) fn insert_member(&mut self, element: PathElement) {
        if self.members.last().is_none_or(|last| *last < element) {
            self.members.push(element);
        } else if let Err(place) = self.members.binary_search(&element) {
            self.members.insert(place, element);
        }
    }

    /// The set below `element`, made when there is none.
    pub(crate) fn descend(&mut self, element: PathElement) -> &mut Self {
        let place = match self.children.binary_search_by(|(child, _)| child.cmp(&element)) {
            Ok(place) => place,
            Err(place) => {
                self.children.insert(place, (element, Self::default()));
                place
            }
        };
        &mut self.children[place].1
    }

    /// Adds all of `set` below `element`.
    pub(crate) fn attach(&mut self, element: PathElement, set: Self) {
        if set.members.is_empty() && set.children.is_empty() {
            return;
        }
        let place = self.descend(element);
        if place.members.is_empty() && place.children.is_empty() {
            *place = set;
        } else {
            *place = place.union(&set);
        }
    }

    /// Fields of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = Self {
            members: Vec::with_capacity(self.members.len().max(other.members.len())),
            children: Vec::with_capacity(self.children.len().max(other.children.len())),
        };
        zip(&self.members, &other.members, Ord::cmp, |left, right| out.members.extend(left.or(right).cloned()));
        zip(&self.children, &other.children, by_element, |left, right| {
            out.children.push(match (left, right) {
                (Some((element, left)), Some((_, right))) => (element.clone(), left.union(right)),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => return,
            });
        });
        out
    }

    /// Adds all fields of `other`. Costs nothing where one of the two is empty.
    pub(crate) fn absorb(&mut self, other: Self) {
        if self.members.is_empty() && self.children.is_empty() {
            *self = other;
        } else if !(other.members.is_empty() && other.children.is_empty()) {
            *self = self.union(&other);
        }
    }

    /// Becomes [`FieldSet::difference`] without copying what stays.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if !other.members.is_empty() {
            self.members.retain(|member| !other.has_member(member));
        }
        if other.children.is_empty() {
            return;
        }
        self.children.retain_mut(|(element, set)| {
            let Some(other) = other.child(element) else { return true };
            set.subtract(other);
            !set.is_empty()
        });
    }

    /// Becomes [`FieldSet::recursive_difference`] without copying what stays.
    pub(crate) fn subtract_below(&mut self, other: &Self) {
        self.members.retain(|member| !other.has_member(member));
        self.children.retain_mut(|(element, set)| {
            if other.has_member(element) {
                return false;
            }
            if let Some(other) = other.child(element) {
                set.subtract_below(other);
            }
            !set.is_empty()
        });
    }

    /// Fields of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        zip(&self.members, &other.members, Ord::cmp, |left, right| {
            out.members.extend(left.filter(|_| right.is_some()).cloned());
        });
        zip(&self.children, &other.children, by_element, |left, right| {
            if let (Some((element, left)), Some((_, right))) = (left, right) {
                out.children.push((element.clone(), left.intersection(right)));
            }
        });
        out.children.retain(|(_, set)| !set.is_empty());
        out
    }

    /// Fields of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: without(&self.members, &other.members), children: Vec::new() };
        zip(&self.children, &other.children, by_element, |left, right| match (left, right) {
            (Some((element, left)), Some((_, right))) => {
                let rest = left.difference(right);
                if !rest.is_empty() {
                    out.children.push((element.clone(), rest));
                }
            }
            (Some(left), None) => out.children.push(left.clone()),
            _ => {}
        });
        out
    }

    /// Fields of this set that are neither in the other nor below one of its fields.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self { members: without(&self.members, &other.members), children: Vec::new() };
        zip(&self.children, &other.children, by_element, |left, right| {
            let Some((element, left)) = left.filter(|(element, _)| !other.has_member(element)) else { return };
            let rest = right.map_or_else(|| left.clone(), |(_, right)| left.recursive_difference(right));
            if !rest.is_empty() {
                out.children.push((element.clone(), rest));
            }
        });
        out
    }

    /// Calls `each` with every path: the members of an object first, then what is below it.
    pub(crate) fn each_path<'s>(&'s self, each: &mut impl FnMut(&[&'s PathElement])) {
        self.each_path_below(&mut Vec::new(), each);
    }

    fn each_path_below<'s>(&'s self, path: &mut Vec<&'s PathElement>, each: &mut impl FnMut(&[&'s PathElement])) {
        for member in &self.members {
            path.push(member);
            each(path);
            path.pop();
        }
        for (element, set) in &self.children {
            path.push(element);
            set.each_path_below(path, each);
            path.pop();
        }
    }

    /// The fields as texts such as `.spec.containers[name="a"].image`, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.each_path(&mut |path| paths.push(path_text(path)));
        paths
    }
}

fn by_element(left: &(PathElement, FieldSet), right: &(PathElement, FieldSet)) -> Ordering {
    left.0.cmp(&right.0)
}

fn without(left: &[PathElement], right: &[PathElement]) -> Vec<PathElement> {
    let mut out = Vec::new();
    zip(left, right, Ord::cmp, |left, right| out.extend(left.filter(|_| right.is_none()).cloned()));
    out
}

/// Walks two sorted lists at once; equal items come together.
fn zip<'v, T>(
    left: &'v [T],
    right: &'v [T],
    compare: impl Fn(&T, &T) -> Ordering,
    mut each: impl FnMut(Option<&'v T>, Option<&'v T>),
) {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => compare(left, right),
        };
        let one = if order.is_le() { left.next() } else { None };
        let other = if order.is_ge() { right.next() } else { None };
        each(one, other);
    }
}
