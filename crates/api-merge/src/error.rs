//! What can go wrong with a patch, and the Status that each answers with.

use coracle_api_meta::{Status, reason};

/// A patch that could not be applied or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is malformed: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The patch is well formed and does not fit the object: 422. Clients see a fixed message; this one is for logs.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch has too many operations: 413.
    #[error("Request entity is too large: {0}")]
    TooLarge(String),
    /// A three-way patch would overwrite changes of others, and overwriting was not asked for.
    #[error("{0}")]
    Conflict(String),
    /// A made patch would change what identifies the object.
    #[error("{0}")]
    Precondition(String),
    /// What upstream answers with 500 and no reason.
    #[error("{0}")]
    Failed(String),
}

impl PatchError {
    /// The answer to the request that carried the patch.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::BadRequest(message) => Status::bad_request(message.clone()),
            Self::Unprocessable(_) => {
                let message = "the server rejected our request due to an error in our request";
                let mut status = Status::failure(422, reason::INVALID, message);
                status.details = Some(coracle_api_meta::StatusDetails::default());
                status
            }
            Self::TooLarge(_) => Status::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, self.to_string()),
            Self::Conflict(message) => Status::failure(409, reason::CONFLICT, message.clone()),
            Self::Precondition(message) | Self::Failed(message) => Status::failure(500, "", message.clone()),
        }
    }
}
