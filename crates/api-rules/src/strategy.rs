//! The interface of rules, and the one implementation that all kinds share: a row of functions.

use std::borrow::Cow;

use coracle_api_meta::{FieldError, FieldPath, Gvk, ObjectExt, Value};

use crate::at::{At, Errors};
use crate::edit::{copy, copy_meta, put, remove};
use crate::kinds::{CUSTOM, KINDS};
use crate::meta::{self, NameRule};
use crate::same::same;

/// The rules of one kind.
pub trait Strategy: Send + Sync {
    /// Fills what is not there. Idempotent; also right for objects that are read from storage.
    fn default(&self, object: &mut Value);
    /// Drops what a client may not set, and sets what the server owns. Wants `name` and `uid`.
    fn prepare_for_create(&self, object: &mut Value);
    /// Carries over what an update of the main resource cannot change, and counts the generation.
    fn prepare_for_update(&self, new: &mut Value, old: &Value);
    /// `status` as far as the kind has it, and the metadata that the kind lets through.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value);
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;

    /// As the status pair, for any subresource that holds the object: `status`, `ephemeralcontainers`, `resize`,
    /// `finalize`, `approval`.
    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value);
    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError>;

    /// PUT on a name that is not there creates.
    fn allow_create_on_update(&self) -> bool;
    /// PUT without a resource version overwrites.
    fn allow_unconditional_update(&self) -> bool;
    /// The longest base of a generated name that leaves room for five letters.
    fn generate_name_bytes_max(&self) -> usize {
        58
    }
    fn warnings_on_create(&self, object: &Value) -> Vec<String>;
    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String>;
    /// Deletion waits for the grace period: pods.
    fn graceful_deletion(&self) -> bool;
    /// Seconds to wait before a deletion is final; `asked` comes from the delete options. 0 for all but pods.
    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> i64;
    /// Deletion without a propagation policy leaves the dependents.
    fn orphans_dependents(&self) -> bool;
    /// Names that field selectors may use, `metadata.name` and `metadata.namespace` included.
    fn selectable_fields(&self) -> &'static [&'static str];
    /// The value of a selectable field.
    fn field_value<'a>(&self, object: &'a Value, field: &str) -> Cow<'a, str>;
    /// Fields (dotted) that writes of `subresource` (empty: the main resource) cannot set; server-side apply does not own them.
    fn reset_fields(&self, subresource: &str) -> &'static [&'static str];
}

/// The rules of a kind.
#[must_use]
pub fn strategy(gvk: &Gvk) -> &'static dyn Strategy {
    let wanted = |row: &&Rules| {
        row.kind == gvk.kind && row.group == gvk.group && (row.version.is_empty() || row.version == gvk.version)
    };
    KINDS.iter().find(wanted).unwrap_or(&CUSTOM)
}

/// What becomes of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// The kind has none.
    None,
    /// Dropped on create, kept on update.
    Own,
    /// As sent on create, kept on update.
    KeptOnCreate,
}

/// What writes of `status` do to metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusMeta {
    /// Labels, annotations, finalizers and owners are written.
    Written,
    /// As `Written`, without labels.
    LabelsKept,
    /// As `Written`, without owners; a deletion never shows.
    Pod,
    /// Only managed fields change.
    Kept,
}

/// When an update is checked like a new object: before what must not change, after it, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidates {
    First,
    Last,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind does not count; what the client sent on create stays.
    None,
    /// 1, for ever.
    One,
    /// Counts changes of one top-level field.
    Of(&'static str),
    /// Counts changes of `spec` and of annotations.
    SpecAndAnnotations,
    /// Counts changes of everything but metadata and status.
    AllButMeta,
    /// As `AllButMeta`, and of labels.
    AllAndLabels,
}

/// One kind. The table is in [`crate::kinds`].
pub(crate) struct Rules {
    pub group: &'static str,
    /// Empty: every version.
    pub version: &'static str,
    pub kind: &'static str,
    /// `None`: as the object says (custom resources).
    pub namespaced: Option<bool>,
    pub names: NameRule,
    pub default: fn(&mut Value),
    pub status: Status,
    pub status_meta: StatusMeta,
    pub generation: Generation,
    pub create: fn(&mut Value),
    pub update: fn(&mut Value, &Value),
    pub status_update: fn(&mut Value, &Value),
    pub validate: fn(&At<'_>, &mut Errors),
    /// Upstream's update rules include those of creation for most kinds; where not, `validate_update` says all.
    pub revalidates: Revalidates,
    pub validate_update: fn(&At<'_>, &At<'_>, &mut Errors),
    pub validate_status: fn(&At<'_>, &At<'_>, &mut Errors),
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    pub create_on_update: bool,
    pub unconditional_update: bool,
    pub orphans_dependents: bool,
    pub fields: &'static [&'static str],
}

const META: &str = "metadata";

impl Rules {
    fn is_namespaced(&self, object: &Value) -> bool {
        self.namespaced.unwrap_or_else(|| !object.namespace().is_empty())
    }

    /// Manifests may name a namespace for kinds that have none.
    fn drop_namespace(&self, object: &mut Value) {
        if self.namespaced == Some(false) {
            object.remove_meta("namespace");
        }
    }

    fn changed(&self, new: &Value, old: &Value) -> bool {
        let part = |field: &str| !same(new.get(field).unwrap_or(&Value::Null), old.get(field).unwrap_or(&Value::Null));
        let meta = |field: &str| {
            !same(new.at(&[META, field]).unwrap_or(&Value::Null), old.at(&[META, field]).unwrap_or(&Value::Null))
        };
        let rest = || {
            let keys = [new, old].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys);
            keys.filter(|key| !matches!(key.as_str(), "apiVersion" | "kind" | META | "status")).any(|key| part(key))
        };
        match self.generation {
            Generation::None | Generation::One => false,
            Generation::Of(field) => part(field),
            Generation::SpecAndAnnotations => part("spec") || meta("annotations"),
            Generation::AllButMeta => rest(),
            Generation::AllAndLabels => rest() || meta("labels"),
        }
    }

    fn bump(&self, new: &mut Value, old: &Value) {
        copy_meta(new, old, "generation");
        if self.changed(new, old) {
            let generation = old.at(&[META, "generation"]).and_then(Value::as_i64).unwrap_or_default();
            new.set_meta("generation", generation + 1);
        }
    }
}

/// Replaces all but metadata and status by what was there.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let keys: Vec<String> = new.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    let fixed = |key: &str| matches!(key, "apiVersion" | "kind" | META | "status");
    for key in keys.iter().filter(|key| !fixed(key) && old.get(key.as_str()).is_none()) {
        remove(new, key);
    }
    for (key, value) in old.as_object().into_iter().flatten().filter(|(key, _)| !fixed(key)) {
        put(new, key, value.clone());
    }
}

/// Metadata that `ResetObjectMetaForStatus` carries over.
pub(crate) const META_OF_SPEC: [&str; 6] =
    ["deletionTimestamp", "generation", "labels", "annotations", "finalizers", "ownerReferences"];

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn prepare_for_create(&self, object: &mut Value) {
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object.remove_meta(field);
        }
        self.drop_namespace(object);
        if self.status == Status::Own && object.get("status").is_some() {
            remove(object, "status");
        }
        if self.generation != Generation::None {
            object.set_meta("generation", 1);
        }
        (self.create)(object);
        (self.default)(object);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        self.drop_namespace(new);
        if self.status != Status::None {
            copy(new, old, "status");
        }
        (self.update)(new, old);
        self.bump(new, old);
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        if self.status == Status::None {
            return;
        }
        keep_all_but_status(new, old);
        copy_meta(new, old, "generation");
        match self.status_meta {
            StatusMeta::Written => {}
            StatusMeta::LabelsKept => copy_meta(new, old, "labels"),
            StatusMeta::Pod => {
                copy_meta(new, old, "ownerReferences");
                copy_meta(new, old, "deletionTimestamp");
                copy_meta(new, old, "deletionGracePeriodSeconds");
            }
            StatusMeta::Kept => META_OF_SPEC.iter().for_each(|field| copy_meta(new, old, field)),
        }
        (self.status_update)(new, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        meta::check(&root.get(META), self.is_namespaced(object), self.names, &mut errors);
        if self.namespaced.is_some() && self.group != "apiextensions.k8s.io" {
            crate::validate::core::short_finalizers(&root.get(META), &mut errors);
        }
        (self.validate)(&root, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        meta::check_update(&new.get(META), &old.get(META), &mut errors);
        if self.revalidates == Revalidates::First {
            (self.validate)(&new, &mut errors);
        }
        (self.validate_update)(&new, &old, &mut errors);
        if self.revalidates == Revalidates::Last {
            (self.validate)(&new, &mut errors);
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        meta::check_update(&new.get(META), &old.get(META), &mut errors);
        (self.validate_status)(&new, &old, &mut errors);
        errors
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        match (self.kind, subresource) {
            ("Pod", "ephemeralcontainers") => {
                crate::prepare::pod::ephemeral_containers(new, old);
                self.bump(new, old);
            }
            ("Pod", "resize") => {
                crate::prepare::pod::resize(new, old);
                self.bump(new, old);
            }
            ("Namespace", "finalize") => copy(new, old, "status"),
            ("CertificateSigningRequest", "approval") => crate::prepare::signing_request_approval(new, old),
            (_, "status") => self.prepare_for_status_update(new, old),
            _ => self.prepare_for_update(new, old),
        }
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let rule: fn(&At<'_>, &At<'_>, &mut Errors) = match (self.kind, subresource) {
            ("Pod", "ephemeralcontainers") => crate::validate::pod::update::ephemeral_containers,
            ("Pod", "resize") => crate::validate::pod::update::resize,
            ("Namespace", "finalize") => crate::validate::core::namespace_finalize,
            ("CertificateSigningRequest", "approval") => crate::validate::certificates::approval_update,
            (_, "status") => return self.validate_status_update(new, old),
            _ => return self.validate_update(new, old),
        };
        let mut errors = validate_meta_update(new, old);
        rule(&At::root(new), &At::root(old), &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        self.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.unconditional_update
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object, None)
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        (self.warnings)(new, Some(old))
    }

    fn graceful_deletion(&self) -> bool {
        self.kind == "Pod" && self.group.is_empty()
    }

    fn grace_seconds(&self, object: &Value, asked: Option<i64>) -> i64 {
        if self.graceful_deletion() { crate::prepare::pod::grace_seconds(object, asked) } else { 0 }
    }

    fn orphans_dependents(&self) -> bool {
        self.orphans_dependents
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        match (self.fields, self.namespaced) {
            ([], Some(false)) => &["metadata.name"],
            ([], _) => &["metadata.name", "metadata.namespace"],
            (own, _) => own,
        }
    }

    fn field_value<'a>(&self, object: &'a Value, field: &str) -> Cow<'a, str> {
        crate::fields::value(self.group, self.kind, object, field)
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        match (subresource, self.status, self.status_meta) {
            (_, Status::None, _) => &[],
            ("", ..) if self.kind == "CertificateSigningRequest" => &["status", "spec"],
            ("", ..) => &["status"],
            ("status", _, StatusMeta::LabelsKept) => &["spec", "metadata.labels"],
            ("status", _, StatusMeta::Pod) => &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
            ("status", _, StatusMeta::Kept) => &["spec", "metadata"],
            ("status", ..) => &["spec"],
            _ => &["status"],
        }
    }
}

fn validate_meta_update(new: &Value, old: &Value) -> Errors {
    let null = Value::Null;
    let path = FieldPath::new(META);
    meta::validate_object_meta_update(new.get(META).unwrap_or(&null), old.get(META).unwrap_or(&null), &path)
}
