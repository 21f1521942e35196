//! The short hashes in names of replica sets, revisions and slices.

/// FNV-1a, 32 bits.
#[derive(Debug, Clone, Copy)]
pub struct Fnv32a(u32);

impl Default for Fnv32a {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv32a {
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }

    #[must_use]
    pub fn finish(self) -> u32 {
        self.0
    }
}

/// Letters and digits that form no words. Source: `k8s.io/apimachinery/pkg/util/rand`.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Maps each byte onto the safe alphabet.
#[must_use]
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()])).collect()
}

/// Hash of an object's JSON and the count of collisions met so far.
pub fn short_hash(json: &[u8], collisions: Option<i32>) -> String {
    let mut hash = Fnv32a::default();
    hash.write(json);
    if let Some(count) = collisions {
        hash.write(&u32::try_from(count).unwrap_or_default().to_le_bytes());
    }
    safe_encode(&hash.finish().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut hash = Fnv32a::default();
        hash.write(b"hello");
        assert_eq!(hash.finish(), 0x4f9f_2cab);
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
        assert_ne!(short_hash(b"x", None), short_hash(b"x", Some(1)));
    }
}
