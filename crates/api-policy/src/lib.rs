//! ValidatingAdmissionPolicy, MutatingAdmissionPolicy and match conditions as decisions: given a [`Request`], what a policy
//! says. Rules and selectors ([`matching`]) serve webhooks too.
//!
//! Start at [`ValidatingPolicy::compile`] and [`MutatingPolicy::compile`] when a policy is stored, at their `evaluate` when a
//! request comes, at [`Conditions`] for `matchConditions`. Objects are dynamic in expressions, as upstream evaluates them; what
//! the types of a kind have against a policy is [`type_check`]'s.
//!
//! This crate never knows storage, HTTP or time of day: the caller finds the bindings, parameters and namespaces.

mod authorize;
mod conditions;
mod expressions;
mod input;
pub mod matching;
mod merge;
mod mutating;
mod validating;

pub use authorize::{Ask, Query};
pub use conditions::{Conditions, Verdict};
pub use expressions::expression_errors;
pub use input::Request;
pub use mutating::MutatingPolicy;
pub use validating::{Action, Decision, Outcome, ValidatingPolicy, denial, type_check, warning_of};

/// Greatest cost of all match conditions of one webhook or policy (`RuntimeCELCostBudgetMatchConditions`).
pub const CONDITIONS_COST_MAX: u64 = 2_500_000;

/// Why a policy gives no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("compilation failed: {0}")]
    Compile(String),
    #[error("expression '{expression}' resulted in error: {error}")]
    Evaluate { expression: String, error: String },
    #[error("{0}")]
    Patch(String),
}
