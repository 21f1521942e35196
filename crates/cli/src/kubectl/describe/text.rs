//! The pieces that descriptions are made of.

use coracle_api_meta::{LabelSelector, Map, Value, object::ObjectExt as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::tabs::tabbed;

/// Longest annotation on one line. Source: `maxAnnotationLen`.
const ANNOTATION_BYTES_MAX: usize = 140;
/// What `apply` keeps for itself.
const HIDDEN_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Lines with tabs, and the moment that ages are counted from.
pub struct Text {
    text: String,
    pub now: Timestamp,
}

impl Text {
    pub fn new(now: Timestamp) -> Self {
        Self { text: String::new(), now }
    }

    pub fn finish(self) -> String {
        tabbed(&self.text)
    }

    /// A line as it is, two spaces deeper with each level.
    pub fn raw(&mut self, level: usize, line: &str) {
        for _ in 0..level {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub fn field(&mut self, level: usize, key: &str, value: impl AsRef<str>) {
        self.raw(level, &format!("{key}:\t{}", value.as_ref()));
    }

    /// Nothing when the value is empty.
    pub fn optional(&mut self, level: usize, key: &str, value: &str) {
        if !value.is_empty() {
            self.field(level, key, value);
        }
    }

    /// A field that shows a moment, unless there is none.
    pub fn time(&mut self, level: usize, key: &str, time: &str) {
        if !time.is_empty() {
            self.field(level, key, moment(time));
        }
    }

    /// `key=value` under one another.
    pub fn labels(&mut self, title: &str, labels: Option<&Map>) {
        let pairs = sorted_pairs(labels).into_iter().map(|(key, value)| format!("{key}={value}"));
        self.lines(title, pairs.collect());
    }

    /// The first line beside the title, the others below it.
    pub fn lines(&mut self, title: &str, lines: Vec<String>) {
        let mut lines = lines.into_iter();
        self.raw(0, &format!("{title}:\t{}", lines.next().unwrap_or_else(|| "<none>".to_owned())));
        lines.for_each(|line| self.raw(0, &format!("\t{line}")));
    }

    pub fn annotations(&mut self, title: &str, annotations: Option<&Map>) {
        let mut lines = Vec::new();
        for (key, value) in sorted_pairs(annotations).into_iter().filter(|(key, _)| key != HIDDEN_ANNOTATION) {
            let value = value.strip_suffix('\n').unwrap_or(&value);
            if key.len() + value.len() + 2 > ANNOTATION_BYTES_MAX || value.contains('\n') {
                lines.push(format!("{key}:"));
                lines.extend(value.split('\n').map(|line| format!("  {}", shortened(line))));
            } else {
                lines.push(format!("{key}: {value}"));
            }
        }
        self.lines(title, lines);
    }

    /// Name, namespace, labels and annotations.
    pub fn head(&mut self, object: &Value) {
        self.field(0, "Name", object.name());
        self.optional(0, "Namespace", object.namespace());
        self.labels("Labels", object.labels());
        self.annotations("Annotations", object.annotations());
    }

    pub fn controlled_by(&mut self, object: &Value) {
        let owners = list(object, &["metadata", "ownerReferences"]);
        if let Some(owner) = owners.into_iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true))) {
            self.field(0, "Controlled By", format!("{}/{}", owner.kind(), owner.str_at(&["name"])));
        }
    }

    pub fn age(&self, time: &str) -> String {
        super::age(time, self.now)
    }
}

fn shortened(line: &str) -> String {
    let max = ANNOTATION_BYTES_MAX - 2;
    if line.len() <= max { line.to_owned() } else { format!("{}...", line.chars().take(max).collect::<String>()) }
}

fn sorted_pairs(map: Option<&Map>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pairs: Vec<(String, String)> =
        map.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
    pairs.sort();
    pairs
}

/// `a=b,c=d`, or `<none>`.
pub fn formatted_labels(labels: Option<&Value>) -> String {
    let pairs = sorted_pairs(labels.and_then(Value::as_object));
    let all: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

pub fn selector(object: &Value) -> String {
    let selector = LabelSelector::from_value(object.at(&["spec", "selector"]).unwrap_or(&Value::Null));
    selector.map(|selector| selector.to_string()).ok().filter(|text| !text.is_empty()).unwrap_or("<none>".to_owned())
}

/// RFC 1123 in the local zone, as kubectl writes times.
pub fn moment(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        Err(_) => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}

pub fn list<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    value.at(path).and_then(Value::as_array).into_iter().flatten().collect()
}

/// A scalar as text; empty when there is none.
pub fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub fn plain_at(value: &Value, path: &[&str]) -> String {
    plain(value.at(path))
}

pub fn number(value: &Value, path: &[&str]) -> i64 {
    value.at(path).and_then(Value::as_i64).unwrap_or_default()
}

pub fn or<'a>(text: &'a str, fallback: &'a str) -> &'a str {
    if text.is_empty() { fallback } else { text }
}

pub fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}
