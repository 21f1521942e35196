//! What a system call failed with, and at what.

use std::io;

use rustix::io::Errno;

/// Result of a call on the host.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed call: `<verb object>: <errno text>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}", describe(*.errno))]
pub struct Error {
    what: String,
    errno: i32,
}

impl Error {
    #[must_use]
    pub fn new(what: impl Into<String>, errno: i32) -> Self {
        Self { what: what.into(), errno }
    }

    /// The kernel's error number.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.errno == libc::ENOENT
    }
}

/// Anything that carries an error number.
pub trait ErrorNumber {
    fn number(&self) -> i32;
}

impl ErrorNumber for Errno {
    fn number(&self) -> i32 {
        self.raw_os_error()
    }
}

impl ErrorNumber for nix::errno::Errno {
    fn number(&self) -> i32 {
        *self as i32
    }
}

impl ErrorNumber for io::Error {
    fn number(&self) -> i32 {
        self.raw_os_error().unwrap_or(match self.kind() {
            io::ErrorKind::NotFound => libc::ENOENT,
            io::ErrorKind::AlreadyExists => libc::EEXIST,
            io::ErrorKind::InvalidInput => libc::EINVAL,
            _ => libc::EIO,
        })
    }
}

/// Names what was being done when a call failed.
pub trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: ErrorNumber> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error { what: what(), errno: error.number() })
    }
}

/// The text of an error number as container tools write it: `no such file or directory`.
#[must_use]
pub fn describe(errno: i32) -> String {
    let text = nix::errno::Errno::from_raw(errno).desc();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if !text.starts_with("I/O") => first.to_lowercase().chain(characters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_object_and_the_reason() {
        let error = std::fs::read("/nonexistent").context(|| "read /nonexistent".into()).unwrap_err();
        assert_eq!(error.to_string(), "read /nonexistent: no such file or directory");
        assert!(error.is_not_found());
    }
}
