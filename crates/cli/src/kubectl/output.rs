//! How objects are printed.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use coracle_api_meta::{Value, object::ObjectExt as _};

use super::jsonpath::Template;
use super::yaml::to_yaml;

/// The value of `-o`.
#[derive(Debug)]
pub enum Format {
    Table,
    Wide,
    Name,
    Json,
    Yaml,
    JsonPath(Template),
    CustomColumns(Vec<(String, Template)>),
}

impl Format {
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::Table) };
        let (kind, rest) = text.split_once('=').unwrap_or((text, ""));
        match kind {
            "" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "name" => Ok(Self::Name),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "jsonpath" => Ok(Self::JsonPath(Template::parse(rest)?)),
            "custom-columns" => columns(rest),
            _ => bail!(
                "error: unable to match a printer suitable for the output format {kind:?}, allowed formats are: custom-columns,json,jsonpath,name,wide,yaml"
            ),
        }
    }

    /// Whether the server prints.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

fn columns(text: &str) -> Result<Format> {
    let mut columns = Vec::new();
    for column in text.split(',') {
        match column.split_once(':') {
            Some((heading, path)) if !heading.is_empty() && !path.is_empty() => {
                let path = path.trim_matches(['{', '}']);
                let path = if path.starts_with('.') { path.to_owned() } else { format!(".{path}") };
                columns.push((heading.to_owned(), Template::parse(&format!("{{{path}}}"))?));
            }
            _ => bail!("error: expected <header>:<json-path-expr> in custom-columns, found {column:?}"),
        }
    }
    Ok(Format::CustomColumns(columns))
}

/// Columns as kubectl's tables have them: at least six wide, three spaces between.
pub fn padded(rows: &[Vec<String>]) -> String {
    columns_of(rows, 6, 3)
}

/// Columns of at least `width_min`, with `padding` spaces between.
pub fn columns_of(rows: &[Vec<String>], width_min: usize, padding: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                text.push_str(cell);
            } else {
                let wanted = (widths.get(column).copied().unwrap_or_default() + padding).max(width_min);
                let _ = write!(text, "{cell:<wanted$}");
            }
        }
        text.push('\n');
    }
    text
}

/// Shows an object without what only machines read.
pub fn without_managed_fields(object: &Value) -> Value {
    let mut shown = object.clone();
    if let Some(meta) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.shift_remove("managedFields");
    }
    for item in shown.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(meta) = item.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.shift_remove("managedFields");
        }
    }
    shown
}

/// Prints an object (or a `List` of them) in any format but tables.
pub fn print(format: &Format, object: &Value, name: impl Fn(&Value) -> String) -> Result<String> {
    match format {
        Format::Json => json(&sorted(object)),
        Format::Yaml => Ok(to_yaml(object)),
        Format::Name => Ok(items(object).iter().map(|item| format!("{}\n", name(item))).collect()),
        Format::JsonPath(template) => Ok(template.evaluate(&sorted(object))),
        Format::CustomColumns(columns) => {
            let mut rows = vec![columns.iter().map(|(heading, _)| heading.clone()).collect()];
            for item in items(object) {
                let cell = |(_, template): &(String, Template)| match template.evaluate(item) {
                    text if text.is_empty() => "<none>".to_owned(),
                    text => text.replace(' ', ","),
                };
                rows.push(columns.iter().map(cell).collect());
            }
            Ok(padded(&rows))
        }
        Format::Table | Format::Wide => bail!("tables come from the server"),
    }
}

/// With four spaces, as kubectl prints it.
fn json(object: &Value) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(object, &mut serializer)?;
    out.push(b'\n');
    Ok(String::from_utf8(out)?)
}

fn items(object: &Value) -> Vec<&Value> {
    match object.get("items").and_then(Value::as_array) {
        Some(items) if object.kind().ends_with("List") => items.iter().collect(),
        _ => vec![object],
    }
}

/// Keys in order, as kubectl prints them.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(pairs.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        let text = padded(&[row(&["NAME", "READY", "AGE"]), row(&["a-long-name", "1/1", "3s"])]);
        expect_test::expect![[r"
            NAME          READY   AGE
            a-long-name   1/1     3s
        "]]
        .assert_eq(&text);
    }

    #[test]
    fn custom_columns() {
        let format = Format::parse(Some("custom-columns=NAME:.metadata.name,NONE:spec.x")).expect("format");
        let object = serde_json::json!({"kind": "Pod", "metadata": {"name": "a"}});
        assert_eq!(print(&format, &object, |_| String::new()).expect("text"), "NAME   NONE\na      <none>\n");
        assert!(Format::parse(Some("custom-columns=x")).is_err());
        assert!(Format::parse(Some("nope")).is_err());
    }
}
