//! Bootstrap tokens. Source: `bootstrap.kubernetes.io/token` secrets.

use crate::{Error, Result};

/// `id.secret`, 6 and 16 characters of `[a-z0-9]`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
}

impl BootstrapToken {
    pub fn parse(text: &str) -> Result<Self> {
        let (id, secret) = text.split_once('.').ok_or(Error::BootstrapToken)?;
        let good = |part: &str, len| {
            part.len() == len && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if good(id, 6) && good(secret, 16) {
            Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
        } else {
            Err(Error::BootstrapToken)
        }
    }

    /// From 22 random bytes.
    #[must_use]
    pub fn from_random(random: &[u8; 22]) -> Self {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let text: String =
            random.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect();
        Self { id: text[..6].to_owned(), secret: text[6..].to_owned() }
    }
}

/// Shows the id only.
impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.****************", self.id)
    }
}

impl std::fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_made() {
        let made = BootstrapToken::from_random(&[7; 22]);
        assert_eq!(BootstrapToken::parse(&made.to_string()).expect("token"), made);
        for bad in ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef.x"] {
            assert!(BootstrapToken::parse(bad).is_err(), "{bad}");
        }
    }
}
