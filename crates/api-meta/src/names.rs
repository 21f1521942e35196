//! Rules for names, labels and annotations. Each check gives upstream's texts (`k8s.io/apimachinery/pkg/util/validation`),
//! empty when the value is good.

pub const DNS1123_LABEL_BYTES_MAX: usize = 63;
pub const DNS1123_SUBDOMAIN_BYTES_MAX: usize = 253;
pub const LABEL_VALUE_BYTES_MAX: usize = 63;
pub const QUALIFIED_NAME_BYTES_MAX: usize = 63;

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// DNS names are counted in characters.
fn too_many_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn edge(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn lower_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    edge(first) && edge(last) && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
}

fn mixed_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[must_use]
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_LABEL_BYTES_MAX {
        errors.push(too_many_characters(DNS1123_LABEL_BYTES_MAX));
    }
    if !lower_label(text) {
        let dotted = text.split('.').all(lower_label);
        errors.push(if dotted { "must not contain dots".to_owned() } else { DNS1123_LABEL.to_owned() });
    }
    errors
}

#[must_use]
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_BYTES_MAX {
        errors.push(too_many_characters(DNS1123_SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(lower_label) {
        errors.push(DNS1123_SUBDOMAIN.to_owned());
    }
    errors
}

#[must_use]
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_LABEL_BYTES_MAX {
        errors.push(too_many_characters(DNS1123_LABEL_BYTES_MAX));
    }
    if !lower_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        errors.push(DNS1035_LABEL.to_owned());
    }
    errors
}

/// Keys of labels and annotations, resource names, condition types: `[prefix/]name`.
#[must_use]
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(is_dns1123_subdomain(prefix).into_iter().map(|text| format!("prefix part {text}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_BYTES_MAX {
        errors.push(format!("name part {}", too_long(QUALIFIED_NAME_BYTES_MAX)));
    }
    if !mixed_name(name) {
        errors.push(QUALIFIED_NAME.to_owned());
    }
    errors
}

#[must_use]
pub fn is_label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_VALUE_BYTES_MAX {
        errors.push(too_long(LABEL_VALUE_BYTES_MAX));
    }
    if !text.is_empty() && !mixed_name(text) {
        errors.push(LABEL_VALUE.to_owned());
    }
    errors
}

/// Names of objects that become one segment of a path, such as roles.
#[must_use]
pub fn is_path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|part| text.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_good_and_bad() {
        for good in ["a", "my-name", "0a"] {
            assert!(is_dns1123_label(good).is_empty(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "é"] {
            assert!(!is_dns1123_label(bad).is_empty(), "{bad}");
        }
        assert!(is_dns1123_subdomain("a.b-c.d").is_empty());
        assert!(!is_dns1123_subdomain("a..b").is_empty());
        assert!(!is_dns1035_label("0a").is_empty());
        assert!(is_qualified_name("app.kubernetes.io/Name_1").is_empty());
        for bad in ["", "/a", "a/", "a/b/c", "A.b/c"] {
            assert!(!is_qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(is_label_value("").is_empty());
        assert!(!is_label_value("-x").is_empty());
    }
}
