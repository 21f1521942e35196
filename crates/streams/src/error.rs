//! What a stream can fail with.

/// Result of a stream operation.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The request does not ask for something that is served here.
    #[error("{0}")]
    BadRequest(String),
    #[error("the connection was not upgraded: {0}")]
    Upgrade(#[from] hyper::Error),
}

impl Error {
    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Self::Protocol(text.into())
    }
}
