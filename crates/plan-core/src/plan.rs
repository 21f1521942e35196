//! What a decider answers.

use std::fmt;
use std::time::Duration;

use coracle_api_meta::{Gvr, ObjectKey, Value};
use coracle_api_types::Object;

/// What to do now, in this order, and when to look again although nothing changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub requeue_after: Option<Duration>,
    pub why: Vec<Why>,
}

/// A choice and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub choice: String,
    pub because: String,
}

/// A resource's object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub gvr: Gvr,
    pub key: ObjectKey,
}

/// One call. Neighbouring creates of one resource may be carried out in growing batches, neighbouring deletes at once;
/// everything else strictly in order. The first failure ends the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Create {
        gvr: Gvr,
        object: Value,
        report: Option<Report>,
        /// An object of this name that is there already is as good.
        exists_is_fine: bool,
    },
    /// Replaces the object; its resource version guards against lost updates.
    Update {
        gvr: Gvr,
        subresource: &'static str,
        object: Value,
    },
    Patch {
        target: Target,
        subresource: &'static str,
        patch: PlannedPatch,
    },
    /// An object that is gone already is as good.
    Delete {
        target: Target,
        uid: String,
        grace_seconds: Option<i64>,
        propagation: Option<Propagation>,
        report: Option<Report>,
    },
    /// A call such as `pods/binding` or `pods/eviction`.
    Post {
        target: Target,
        subresource: &'static str,
        object: Value,
    },
    Event(EventPlan),
}

#[derive(Debug, Clone, PartialEq)]
pub enum PlannedPatch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Normal,
    Warning,
}

impl EventKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

impl ObjectRef {
    pub fn of<K: Object>(object: &K) -> Self {
        Self {
            api_version: K::API_VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            resource_version: object.resource_version().to_owned(),
        }
    }
}

/// An event to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPlan {
    pub about: ObjectRef,
    pub kind: EventKind,
    pub reason: String,
    pub message: String,
    /// Upstream's `action` of `events.k8s.io`; empty for core events.
    pub action: String,
}

/// Events for the outcome of a create or delete. Messages may hold `{name}` and `{error}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub about: ObjectRef,
    pub success: (String, String),
    pub failure: (String, String),
}

impl Report {
    /// As upstream's pod control words it.
    #[must_use]
    pub fn pod_create(about: ObjectRef) -> Self {
        Self::new(about, ("SuccessfulCreate", "Created pod: {name}"), ("FailedCreate", "Error creating: {error}"))
    }

    #[must_use]
    pub fn pod_delete(about: ObjectRef) -> Self {
        Self::new(about, ("SuccessfulDelete", "Deleted pod: {name}"), ("FailedDelete", "Error deleting: {error}"))
    }

    #[must_use]
    pub fn new(about: ObjectRef, success: (&str, &str), failure: (&str, &str)) -> Self {
        let own = |(reason, message): (&str, &str)| (reason.to_owned(), message.to_owned());
        Self { about, success: own(success), failure: own(failure) }
    }

    /// The event of a success.
    #[must_use]
    pub fn succeeded(&self, name: &str) -> EventPlan {
        self.event(EventKind::Normal, &self.success, name, "")
    }

    #[must_use]
    pub fn failed(&self, name: &str, error: &str) -> EventPlan {
        self.event(EventKind::Warning, &self.failure, name, error)
    }

    fn event(&self, kind: EventKind, (reason, message): &(String, String), name: &str, error: &str) -> EventPlan {
        let message = message.replace("{name}", name).replace("{error}", error);
        EventPlan { about: self.about.clone(), kind, reason: reason.clone(), message, action: String::new() }
    }
}

fn gvr_of<K: Object>() -> Gvr {
    Gvr::new(K::GROUP, K::VERSION, K::PLURAL)
}

impl Target {
    pub fn of<K: Object>(object: &K) -> Self {
        Self { gvr: gvr_of::<K>(), key: ObjectKey::new(object.namespace(), object.name()) }
    }

    #[must_use]
    pub fn new(gvr: Gvr, key: ObjectKey) -> Self {
        Self { gvr, key }
    }

    pub fn named<K: Object>(namespace: &str, name: &str) -> Self {
        Self { gvr: gvr_of::<K>(), key: ObjectKey::new(namespace, name) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.gvr.group_resource(), self.key)
    }
}

impl Action {
    pub fn create<K: Object>(object: &K) -> Self {
        Self::Create { gvr: gvr_of::<K>(), object: object.to_value(), report: None, exists_is_fine: false }
    }

    /// A create that is content with an object of that name.
    pub fn ensure<K: Object>(object: &K) -> Self {
        Self::Create { gvr: gvr_of::<K>(), object: object.to_value(), report: None, exists_is_fine: true }
    }

    pub fn update<K: Object>(object: &K) -> Self {
        Self::Update { gvr: gvr_of::<K>(), subresource: "", object: object.to_value() }
    }

    pub fn update_status<K: Object>(object: &K) -> Self {
        Self::Update { gvr: gvr_of::<K>(), subresource: "status", object: object.to_value() }
    }

    pub fn delete<K: Object>(object: &K) -> Self {
        Self::Delete {
            target: Target::of(object),
            uid: object.uid().to_owned(),
            grace_seconds: None,
            propagation: None,
            report: None,
        }
    }

    pub fn merge<K: Object>(object: &K, subresource: &'static str, patch: Value) -> Self {
        Self::Patch { target: Target::of(object), subresource, patch: PlannedPatch::Merge(patch) }
    }

    pub fn strategic<K: Object>(object: &K, subresource: &'static str, patch: Value) -> Self {
        Self::Patch { target: Target::of(object), subresource, patch: PlannedPatch::Strategic(patch) }
    }

    pub fn event<K: Object>(about: &K, kind: EventKind, reason: &str, message: impl Into<String>) -> Self {
        Self::Event(EventPlan {
            about: ObjectRef::of(about),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            action: String::new(),
        })
    }

    /// Adds events for the outcome of a create or delete.
    #[must_use]
    pub fn reported(mut self, wanted: Report) -> Self {
        if let Self::Create { report, .. } | Self::Delete { report, .. } = &mut self {
            *report = Some(wanted);
        }
        self
    }

    #[must_use]
    pub fn with_grace(mut self, seconds: i64) -> Self {
        if let Self::Delete { grace_seconds, .. } = &mut self {
            *grace_seconds = Some(seconds);
        }
        self
    }

    #[must_use]
    pub fn propagated(mut self, policy: Propagation) -> Self {
        if let Self::Delete { propagation, .. } = &mut self {
            *propagation = Some(policy);
        }
        self
    }
}

impl Plan {
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn because(&mut self, choice: impl Into<String>, because: impl Into<String>) {
        self.why.push(Why { choice: choice.into(), because: because.into() });
    }

    /// Looks again after the shorter of what is asked for so far and `after`.
    pub fn requeue(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |before| before.min(after)));
    }

    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.actions.is_empty()
    }
}

impl From<Vec<Action>> for Plan {
    fn from(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::default() }
    }
}

/// One line per action, for transcripts.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        if let Some(after) = self.requeue_after {
            writeln!(f, "again after {after:?}")?;
        }
        for why in &self.why {
            writeln!(f, "because {}: {}", why.choice, why.because)?;
        }
        Ok(())
    }
}

fn name_of(object: &Value) -> String {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let name = match text("/metadata/name") {
        "" => format!("{}*", text("/metadata/generateName")),
        name => name.to_owned(),
    };
    ObjectKey::new(text("/metadata/namespace"), name).to_string()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { gvr, object, .. } => write!(f, "create {} {}", gvr.group_resource(), name_of(object)),
            Self::Update { gvr, subresource: "status", object } => {
                let status = object.get("status").unwrap_or(&Value::Null);
                write!(f, "update {} {} status {status}", gvr.group_resource(), name_of(object))
            }
            Self::Update { gvr, subresource, object } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                write!(f, "update {}{slash}{subresource} {}", gvr.group_resource(), name_of(object))
            }
            Self::Patch { target, subresource, patch } => {
                let (PlannedPatch::Json(value) | PlannedPatch::Merge(value) | PlannedPatch::Strategic(value)) = patch;
                write!(f, "patch {target} {subresource} {value}")
            }
            Self::Delete { target, grace_seconds, propagation, .. } => {
                write!(f, "delete {target}")?;
                if let Some(seconds) = grace_seconds {
                    write!(f, " grace {seconds}")?;
                }
                if let Some(policy) = propagation {
                    write!(f, " {}", policy.as_str())?;
                }
                Ok(())
            }
            Self::Post { target, subresource, object } => write!(f, "post {target} {subresource} {object}"),
            Self::Event(event) => {
                write!(f, "event {} {} {}: {}", event.about.name, event.kind.as_str(), event.reason, event.message)
            }
        }
    }
}
