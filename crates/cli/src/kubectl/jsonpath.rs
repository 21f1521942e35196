//! kubectl's JSONPath templates: `{.items[*].metadata.name}{"\n"}`, `{range .items[*]}...{end}`, filters.
//! Source: `k8s.io/client-go/util/jsonpath`.

use anyhow::{Result, bail};
use coracle_api_meta::Value;

/// Nesting of ranges and filters in one template.
const DEPTH_MAX: usize = 16;

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// `[*]` or `.*`
    All,
    /// `..`
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Filter(Operand, Comparison, Operand),
    Exists(Operand),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self> {
        // Without braces the whole text is one path.
        let text = if text.contains('{') { text.to_owned() } else { format!("{{{text}}}") };
        let mut rest = text.as_str();
        let nodes = nodes(&mut rest, 0)?;
        if !rest.is_empty() {
            bail!("error: error parsing jsonpath {text:?}: unexpected {{end}}");
        }
        Ok(Self(nodes))
    }

    pub fn evaluate(&self, root: &Value) -> String {
        let mut out = String::new();
        write_nodes(&self.0, root, &mut out);
        out
    }
}

fn nodes(rest: &mut &str, depth: usize) -> Result<Vec<Node>> {
    if depth > DEPTH_MAX {
        bail!("error: jsonpath: more than {DEPTH_MAX} ranges inside each other");
    }
    let mut found = Vec::new();
    while let Some(open) = rest.find('{') {
        if open > 0 {
            found.push(Node::Text(rest[..open].to_owned()));
        }
        let Some(close) = closing(&rest[open..]) else { bail!("error: error parsing jsonpath: unclosed action") };
        let inside = rest[open + 1..open + close].trim();
        *rest = &rest[open + close + 1..];
        if inside == "end" {
            if depth == 0 {
                bail!("error: error parsing jsonpath: not in range, nothing to end");
            }
            return Ok(found);
        }
        if let Some(path) = inside.strip_prefix("range").filter(|path| path.starts_with([' ', '.', '[', '@', '$'])) {
            let path = steps(path.trim())?;
            found.push(Node::Range(path, nodes(rest, depth + 1)?));
        } else if inside.starts_with(['"', '\'']) {
            found.push(Node::Text(unquoted(inside)?));
        } else {
            found.push(Node::Path(steps(inside)?));
        }
    }
    if depth > 0 {
        bail!("error: error parsing jsonpath: unclosed range");
    }
    if !rest.is_empty() {
        found.push(Node::Text((*rest).to_owned()));
        *rest = "";
    }
    Ok(found)
}

/// Where the brace closes, passing over quoted text.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Result<String> {
    let quote = text.chars().next().unwrap_or('"');
    let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let Some(inner) = inner else { bail!("error: error parsing jsonpath: unterminated quoted string {text}") };
    Ok(inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\"))
}

fn steps(path: &str) -> Result<Vec<Step>> {
    let mut found = Vec::new();
    let mut rest = path.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            found.push(Step::Descend);
            rest = after;
            if !rest.starts_with(['[', '.']) {
                rest = field(rest, &mut found)?;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = if after.is_empty() { after } else { field(after, &mut found)? };
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(close) = bracket(after) else {
                bail!("error: error parsing jsonpath: unterminated array in {path:?}")
            };
            found.push(inside(after[..close].trim())?);
            rest = &after[close + 1..];
        } else if found.is_empty() {
            rest = field(rest, &mut found)?;
        } else {
            bail!("error: error parsing jsonpath: unexpected {rest:?} in {path:?}");
        }
    }
    Ok(found)
}

fn field<'a>(text: &'a str, found: &mut Vec<Step>) -> Result<&'a str> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = index;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "*" => found.push(Step::All),
        "" if !text.starts_with('[') => bail!("error: error parsing jsonpath: empty field name"),
        "" => {}
        _ => found.push(Step::Field(name)),
    }
    Ok(&text[end..])
}

fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn inside(text: &str) -> Result<Step> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return filter_step(filter);
    }
    if text.starts_with(['"', '\'']) {
        return Ok(Step::Field(unquoted(text)?));
    }
    let number =
        |part: &str| -> Result<Option<i64>> { if part.is_empty() { Ok(None) } else { Ok(Some(part.parse()?)) } };
    if let Some((from, to)) = text.split_once(':') {
        return Ok(Step::Slice(number(from)?, number(to)?));
    }
    match text.parse() {
        Ok(index) => Ok(Step::Index(index)),
        Err(_) => bail!("error: error parsing jsonpath: invalid array index {text}"),
    }
}

fn filter_step(text: &str) -> Result<Step> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    for (sign, comparison) in OPERATORS {
        if let Some((left, right)) = text.split_once(sign) {
            return Ok(Step::Filter(operand(left.trim())?, comparison, operand(right.trim())?));
        }
    }
    Ok(Step::Exists(operand(text.trim())?))
}

fn operand(text: &str) -> Result<Operand> {
    if text.starts_with(['@', '$', '.']) {
        return Ok(Operand::Path(steps(text)?));
    }
    if text.starts_with(['"', '\'']) {
        return Ok(Operand::Value(unquoted(text)?.into()));
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(Operand::Value(value)),
        Err(_) => bail!("error: error parsing jsonpath: unrecognized operand {text:?}"),
    }
}

fn write_nodes(nodes: &[Node], current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let texts: Vec<String> = walk(path, current).into_iter().map(shown).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(path, body) => walk(path, current).into_iter().for_each(|item| write_nodes(body, item, out)),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn walk<'a>(path: &[Step], from: &'a Value) -> Vec<&'a Value> {
    let mut current = vec![from];
    for step in path {
        current = current.into_iter().flat_map(|value| take(step, value)).collect();
    }
    current
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => children(value),
        Step::Descend => {
            let mut all = vec![value];
            all.extend(children(value).into_iter().flat_map(|child| take(&Step::Descend, child)));
            all
        }
        Step::Index(index) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            position(*index, items.len()).and_then(|index| items.get(index)).into_iter().collect()
        }
        Step::Slice(from, to) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            let from = from.map_or(Some(0), |from| position(from, items.len())).unwrap_or(0);
            let to = to.map_or(Some(items.len()), |to| position(to, items.len())).unwrap_or(0);
            items.get(from..to.min(items.len())).unwrap_or_default().iter().collect()
        }
        Step::Filter(left, comparison, right) => children(value)
            .into_iter()
            .filter(|item| holds(resolve(left, item), *comparison, resolve(right, item)))
            .collect(),
        Step::Exists(operand) => children(value).into_iter().filter(|item| resolve(operand, item).is_some()).collect(),
    }
}

fn position(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { index + len } else { index }).ok()
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn resolve<'a>(operand: &'a Operand, item: &'a Value) -> Option<&'a Value> {
    match operand {
        Operand::Path(path) => walk(path, item).first().copied(),
        Operand::Value(value) => Some(value),
    }
}

fn holds(left: Option<&Value>, comparison: Comparison, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return false };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(shown(left).cmp(&shown(right))),
    };
    order.is_some_and(|order| match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, wanted: &str) {
        let object = serde_json::json!({
            "items": [
                {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "ok": true},
                {"metadata": {"name": "b"}, "n": 2},
            ],
        });
        let found = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
        assert_eq!(found.evaluate(&object), wanted, "{template}");
    }

    #[test]
    fn templates() {
        check("{.items[*].metadata.name}", "a b");
        check(".items[0].n", "1");
        check("{.items[-1].metadata.name}", "b");
        check("{.items[0:1].n}", "1");
        check(r#"{range .items[*]}{.metadata.name}{"\t"}{.n}{"\n"}{end}"#, "a\t1\nb\t2\n");
        check(r#"{.items[?(@.metadata.name=="b")].n}"#, "2");
        check("{.items[?(@.n>1)].metadata.name}", "b");
        check("{.items[?(@.ok)].metadata.name}", "a");
        check(r"{.items[0].metadata.labels.x\.y/z}", "1");
        check("{.items[0].metadata.labels['x.y/z']}", "1");
        check("{..name}", "a b");
        check("name: {.items[0].metadata.name}!", "name: a!");
        check("{.nope}", "");
    }

    #[test]
    fn bad_templates_are_refused() {
        for bad in ["{", "{end}", "{range .a}", "{.a[}", "{.a[x]}", "{\"x}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
