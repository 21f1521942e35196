//! What a kubelet can fail with.

/// Result of a kubelet's operation.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{context}")]
    Io {
        context: String,
        #[source]
        source: std::io::Error,
    },
    #[error("host: {0}")]
    Host(#[from] coracle_host::Error),
    #[error("{0}")]
    Runtime(#[from] coracle_cri::Error),
    #[error("{0}")]
    Client(#[from] coracle_client::Error),
    /// The message is shown to users as it is.
    #[error("{0}")]
    Message(String),
}

impl Error {
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }
}

/// Adds what was being done to an IO error.
pub(crate) trait IoContext<T> {
    fn context(self, text: impl FnOnce() -> String) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn context(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { context: format!("{}: {source}", text()), source })
    }
}
