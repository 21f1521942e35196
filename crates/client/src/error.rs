//! What a call can fail with.

use coracle_api_meta::{Status, reason};

use crate::TransportError;

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused; the message is the server's.
    #[error("{0}")]
    Api(Box<Status>),
    #[error("cannot reach the API server")]
    Transport(#[from] TransportError),
    #[error("cannot read the server's answer")]
    Decode(#[from] serde_json::Error),
    #[error("{0}")]
    Config(String),
}

impl Error {
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    fn has_reason(&self, wanted: &str) -> bool {
        self.status().is_some_and(|status| status.is(wanted))
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has_reason(reason::NOT_FOUND)
    }

    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.has_reason(reason::ALREADY_EXISTS)
    }

    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.has_reason(reason::CONFLICT)
    }

    /// The resource version is older than the server's history.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.has_reason(reason::EXPIRED) || self.has_reason(reason::GONE)
    }

    /// The namespace is being deleted, so nothing can be made in it.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
        causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }
}
