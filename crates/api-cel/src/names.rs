//! Names: of types as values, and of properties that CEL cannot spell.

/// Types that may stand as values.
pub(crate) const TYPES: [&str; 16] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "kubernetes.Quantity",
    "net.IP",
    "net.CIDR",
    "optional_type",
];
/// Words that no field may have as its name.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const ESCAPES: [(&str, &str); 4] = [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

/// The property that a field of an expression names: `foo__dash__bar` is `foo-bar`.
#[must_use]
pub fn unescape(field: &str) -> String {
    if !field.contains("__") {
        return field.to_owned();
    }
    if let Some(word) = field.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return word.to_owned();
    }
    let mut out = String::new();
    let mut rest = field;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        let Some((escape, plain)) = ESCAPES.iter().find(|(escape, _)| rest[at..].starts_with(escape)) else {
            out.push_str(&rest[at..]);
            return out;
        };
        out.push_str(plain);
        rest = &rest[at + escape.len()..];
    }
    out.push_str(rest);
    out
}
