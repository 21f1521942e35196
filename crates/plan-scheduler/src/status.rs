//! What a plugin says about a pod and a node.

/// Whether removing other pods could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    Unschedulable,
    UnschedulableAndUnresolvable,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub plugin: &'static str,
    pub reasons: Vec<String>,
}

impl Rejection {
    #[must_use]
    pub fn new(code: Code, plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { code, plugin, reasons: vec![reason.into()] }
    }

    #[must_use]
    pub fn unschedulable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self::new(Code::Unschedulable, plugin, reason)
    }

    #[must_use]
    pub fn unresolvable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self::new(Code::UnschedulableAndUnresolvable, plugin, reason)
    }
}

/// `Ok` when the plugin has nothing against it.
pub type Verdict = Result<(), Rejection>;
