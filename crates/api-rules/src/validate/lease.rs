//! Leases.

use crate::at::{At, Errors, NON_NEGATIVE};

pub fn lease(lease: &At<'_>, errors: &mut Errors) {
    let spec = lease.get("spec");
    let (seconds, transitions) = (spec.get("leaseDurationSeconds"), spec.get("leaseTransitions"));
    if seconds.exists() && seconds.int() <= 0 {
        seconds.invalid(errors, "must be greater than 0");
    }
    if transitions.int() < 0 {
        transitions.invalid(errors, NON_NEGATIVE);
    }
    let strategy = spec.get("strategy");
    if strategy.exists() && strategy.str() != "OldestEmulationVersion" && !strategy.str().contains('/') {
        strategy.unsupported(errors, &["OldestEmulationVersion"]);
    }
    if !spec.get("preferredHolder").is_empty() && strategy.is_empty() {
        spec.get("preferredHolder").forbidden(errors, "may only be specified if `strategy` is defined");
    }
}
