//! What image operations fail with.

/// Result of an image operation.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name of an image breaks the rules.
    #[error("{0}")]
    InvalidReference(String),
    /// Not in the store, or not in the registry.
    #[error("{0}")]
    NotFound(String),
    /// The registry refused the credentials.
    #[error("{0}")]
    Denied(String),
    /// The registry cannot be reached or answers nonsense.
    #[error("{0}")]
    Registry(String),
    /// Content that is not what it says it is.
    #[error("{0}")]
    Corrupt(String),
    #[error(transparent)]
    Host(#[from] coracle_host::Error),
    /// A limit of this store was reached.
    #[error("{0}")]
    TooLarge(String),
}

impl Error {
    /// Puts what was being done in front, keeping the kind.
    #[must_use]
    pub(crate) fn during(self, what: &str) -> Self {
        let text = format!("{what}: {self}");
        match self {
            Self::InvalidReference(_) => Self::InvalidReference(text),
            Self::NotFound(_) => Self::NotFound(text),
            Self::Denied(_) => Self::Denied(text),
            Self::Registry(_) => Self::Registry(text),
            Self::Corrupt(_) => Self::Corrupt(text),
            Self::TooLarge(_) => Self::TooLarge(text),
            Self::Host(error) => Self::Host(coracle_host::Error::new(
                text.strip_suffix(&format!(": {}", coracle_host::describe(error.errno()))).unwrap_or(&text),
                error.errno(),
            )),
        }
    }
}
