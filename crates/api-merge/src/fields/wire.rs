//! `FieldsV1`: `{"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}`.

use coracle_api_meta::{Map, Value};

use super::{FieldSet, PathElement};

impl FieldSet {
    /// The wire form, in upstream's order.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.to_map(false))
    }

    fn to_map(&self, is_member: bool) -> Map {
        let mut map = Map::with_capacity(self.members.len() + self.children.len());
        if is_member && !(self.members.is_empty() && self.children.is_empty()) {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        let (mut members, mut children) = (self.members.iter().peekable(), self.children.iter().peekable());
        loop {
            let order = match (members.peek(), children.peek()) {
                (None, None) => return map,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(member), Some((element, _))) => (*member).cmp(element),
            };
            let member = if order.is_le() { members.next() } else { None };
            let child = if order.is_ge() { children.next() } else { None };
            match (member, child) {
                (_, Some((element, set))) => {
                    map.insert(element_text(element), Value::Object(set.to_map(member.is_some())));
                }
                (Some(element), None) => {
                    map.insert(element_text(element), Value::Object(Map::new()));
                }
                (None, None) => {}
            }
        }
    }

    /// Reads the wire form. Elements of kinds that are not known are skipped, as upstream skips them.
    ///
    /// # Errors
    /// A text in upstream's words when an element is malformed.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        Ok(read(value)?.0)
    }
}

/// The set below, and whether the place itself is a member.
fn read(value: &Value) -> Result<(FieldSet, bool), String> {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Ok((FieldSet::new(), true)),
        _ => return Err("expect { or n".to_owned()),
    };
    let mut set = FieldSet::new();
    let mut is_member = false;
    for (key, value) in map {
        if key == "." {
            is_member = true;
            continue;
        }
        let Some(element) = read_element(key)? else { continue };
        let (below, child_is_member) = read(value)?;
        if child_is_member {
            set.insert_member(element.clone());
        }
        set.attach(element, below);
    }
    let is_leaf = set.members.is_empty() && set.children.is_empty();
    Ok((set, is_member || is_leaf))
}

fn read_element(text: &str) -> Result<Option<PathElement>, String> {
    if text.len() < 2 {
        return Err("key must be 2 characters long:".to_owned());
    }
    if text.as_bytes().get(1) != Some(&b':') {
        return Err(format!("missing colon: {text}"));
    }
    let rest = text.get(2..).unwrap_or_default();
    let json = |rest: &str| serde_json::from_str::<Value>(rest).map_err(|error| error.to_string());
    match text.as_bytes().first() {
        Some(b'f') => Ok(Some(PathElement::Field(rest.to_owned()))),
        Some(b'v') => Ok(Some(PathElement::Value(json(rest)?))),
        Some(b'i') => match rest.parse() {
            Ok(index) => Ok(Some(PathElement::Index(index))),
            Err(_) => Err(format!("strconv.Atoi: parsing {}: invalid syntax", crate::golang::quoted(rest))),
        },
        Some(b'k') => match json(rest)? {
            Value::Object(map) => {
                let mut fields: Vec<(String, Value)> = map.into_iter().collect();
                fields.sort_by(|left, right| left.0.cmp(&right.0));
                Ok(Some(PathElement::Key(fields)))
            }
            _ => Err("expect { or n".to_owned()),
        },
        _ => Ok(None),
    }
}

fn element_text(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(fields) => {
            let mut text = String::from("k:{");
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                text.push_str(&json_text(value));
            }
            text.push('}');
            text
        }
        PathElement::Value(value) => format!("v:{}", json_text(value)),
        PathElement::Index(index) => format!("i:{index}"),
    }
}

/// JSON as Go writes it: `<`, `>` and `&` are escaped in strings.
fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        return text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    }
    text
}
