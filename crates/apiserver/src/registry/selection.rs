//! Selectors of lists, watches and collections.

use std::borrow::Cow;

use coracle_api_meta::{FieldSelector, LabelSelector, Status};
use coracle_store::Entry;

use super::fields::Facts;
use super::objects;
use super::resources::{Custom, Resource, item_name};
use super::{Target, conversion, storage};
use crate::http::query::Query;

/// What must hold for an object to be seen.
pub(crate) struct Selection {
    labels: LabelSelector,
    /// Terms that the key alone decides.
    names: FieldSelector,
    fields: FieldSelector,
    /// Names in the store start with this.
    pub prefix: String,
}

impl Selection {
    pub(crate) fn read(target: &Target, query: &Query) -> Result<Self, Status> {
        let resource = &target.resource;
        let label_text = query.get("labelSelector");
        let labels = LabelSelector::parse(label_text)
            .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
        let mut fields =
            FieldSelector::parse(query.get("fieldSelector")).map_err(|error| Status::bad_request(error.to_string()))?;
        for term in &mut fields.terms {
            term.field = objects::selectable_field(resource, &term.field).ok_or_else(|| {
                let text = format!("field label not supported: {}", term.field);
                Status::bad_request(text)
            })?;
        }
        let prefix = prefix(target, &fields);
        let (names, rest) = fields.terms.into_iter().partition(|term| is_name(&term.field));
        Ok(Self { labels, names: FieldSelector { terms: names }, fields: FieldSelector { terms: rest }, prefix })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.names.is_everything()
    }

    pub(crate) fn holds(&self, resource: &Resource, entry: &Entry) -> bool {
        if !self.names_hold(entry.name()) {
            return false;
        }
        if self.labels.is_everything() && self.fields.is_everything() {
            return true;
        }
        let facts = Facts::of(resource, entry);
        if !facts.match_labels(&self.labels) {
            return false;
        }
        match &resource.custom {
            Some(custom) if !self.fields.is_everything() => self.custom_fields_hold(resource, custom, entry),
            _ => self.fields.matches_with(|field| Cow::Borrowed(facts.field(field))),
        }
    }

    /// Fields are those of the version that is asked for.
    fn custom_fields_hold(&self, resource: &Resource, custom: &Custom, entry: &Entry) -> bool {
        let served = conversion::served(resource, custom, entry).and_then(|bytes| storage::parse(&bytes));
        let values = served.map(|object| objects::selectable_values(resource, &object)).unwrap_or_default();
        let value = |field: &str| values.iter().find(|(own, _)| own == field).map_or("", |(_, value)| value.as_str());
        self.fields.matches_with(|field| Cow::Borrowed(value(field)))
    }

    fn names_hold(&self, item: &str) -> bool {
        if self.names.is_everything() {
            return true;
        }
        let (namespace, name) = item.split_once('/').unwrap_or(("", item));
        self.names.matches_with(|field| Cow::Borrowed(if field == "metadata.name" { name } else { namespace }))
    }
}

fn is_name(field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
}

/// The narrowest part of the collection that can match. An exact name stays in the selector, since prefixes may be longer names.
fn prefix(target: &Target, fields: &FieldSelector) -> String {
    let mut namespace = target.namespace.clone();
    if namespace.is_empty() && target.resource.namespaced {
        fields.required("metadata.namespace").unwrap_or_default().clone_into(&mut namespace);
    }
    let name = fields.required("metadata.name").unwrap_or_default();
    if !target.resource.namespaced {
        return name.to_owned();
    }
    if namespace.is_empty() { String::new() } else { item_name(&namespace, name) }
}
