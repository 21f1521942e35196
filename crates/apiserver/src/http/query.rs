//! Query strings.

/// Parameters in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

const PARAMETERS_MAX: usize = 1000;

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty()).take(PARAMETERS_MAX).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// As Go reads booleans of query strings: present and neither `false` nor `0`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key), "false" | "0" | "False" | "FALSE" | "f" | "F")
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.get(key).parse().ok()
    }
}

/// Percent decoding; `plus` also turns `+` into a space. What is no escape stays.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escape = text.get(index + 1..index + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escape) {
            (b'%', Some(value)) => {
                out.push(value);
                index += 3;
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            _ => out.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent encoding of everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_go_reads_them() {
        let query = Query::parse("a=1&b=x%2Cy+z&flag&c=&a=2&off=false");
        assert_eq!((query.get("a"), query.get("b"), query.get("c")), ("1", "x,y z", ""));
        assert!(query.flag("flag") && !query.flag("off") && !query.flag("none"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(decode("a%2", true), "a%2");
        assert_eq!(encode("a b/é"), "a%20b%2F%C3%A9");
    }
}
