//! What making or reading credentials can fail with.

/// Result of a credential operation.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("read certificate: {0}")]
    Read(String),
    #[error("read signing request: {0}")]
    Request(String),
    #[error("token")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("time {0} is outside what a certificate can carry")]
    Time(jiff::Timestamp),
    #[error("bootstrap token must look like abcdef.0123456789abcdef")]
    BootstrapToken,
}
