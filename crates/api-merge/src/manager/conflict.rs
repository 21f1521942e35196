//! What stands against an apply.

use coracle_api_meta::{Cause, Status, StatusDetails, reason};

use super::entries::{ManagerId, Operation};
use crate::fields::{PathElement, path_text};
use crate::golang;

/// A field that another manager owns and the apply would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As texts show it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`
    pub field: String,
    pub(super) path: Vec<PathElement>,
    pub(super) order: String,
}

impl Conflict {
    pub(super) fn new(id: &ManagerId, path: &[&PathElement]) -> Self {
        Self {
            manager: shown(id),
            field: path_text(path),
            path: path.iter().map(|element| (*element).clone()).collect(),
            order: format!("{}\0{}\0{}\0{}", id.manager, id.operation.as_str(), id.api_version, id.subresource),
        }
    }
}

fn shown(id: &ManagerId) -> String {
    let mut text = golang::quoted(&id.manager);
    if !id.subresource.is_empty() {
        text.push_str(" with subresource ");
        text.push_str(&golang::quoted(&id.subresource));
    }
    if id.operation == Operation::Update {
        text.push_str(" using ");
        text.push_str(&id.api_version);
    }
    text
}

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what it would change: 409.
    #[error("{}", conflicts_text(.0))]
    Conflicts(Vec<Conflict>),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// What upstream answers with 500 and no reason, such as a field that the schema does not know.
    #[error("{0}")]
    Failed(String),
}

impl ApplyError {
    /// The answer to the request.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Conflicts(conflicts) => {
                let mut status = Status::failure(409, reason::CONFLICT, self.to_string());
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.field.clone(),
                });
                status.details = Some(StatusDetails { causes: causes.collect(), ..StatusDetails::default() });
                status
            }
            Self::BadRequest(message) => Status::bad_request(message.clone()),
            Self::Failed(message) => Status::failure(500, "", message.clone()),
        }
    }
}

fn conflicts_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field);
    }
    let mut sorted: Vec<&Conflict> = conflicts.iter().collect();
    sorted.sort_by(|left, right| left.order.cmp(&right.order));
    let mut lines = Vec::with_capacity(conflicts.len() + 1);
    for group in sorted.chunk_by(|left, right| left.order == right.order) {
        lines.extend(group.first().map(|first| format!("conflicts with {}:", first.manager)));
        lines.extend(group.iter().map(|conflict| format!("- {}", conflict.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
