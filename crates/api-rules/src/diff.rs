//! Differences between two objects, for people: a unified diff of their indented JSON, as upstream's `diff.Diff` makes it.
//! Upstream prints its internal types there; here the served fields are shown.

use std::fmt::Write;

use coracle_api_meta::Value;

const CONTEXT_LINES: usize = 3;
/// Beyond this many lines (after what is equal at both ends) the middle is shown as replaced.
const TABLE_LINES_MAX: usize = 2000;

/// What must be done to `old` to get `new`; empty when they are equal.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    hunks(&edits(&old, &new))
}

/// The order of keys is no difference.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|key| (key.clone(), sorted(&fields[key]))).collect())
        }
        other => other.clone(),
    }
}

fn pretty(value: &Value) -> String {
    use serde_json::ser::{PrettyFormatter, Serializer};
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b" "));
    if serde::Serialize::serialize(&sorted(value), &mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

type Line<'a> = (Edit, &'a str);

fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let old_middle = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_middle = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let mut lines: Vec<Line<'a>> = old.iter().take(head).map(|line| (Edit::Keep, *line)).collect();
    middle(old_middle, new_middle, &mut lines);
    lines.extend(old_rest.iter().skip(old_middle.len()).map(|line| (Edit::Keep, *line)));
    lines
}

/// The longest common subsequence stays; of what differs, removals come first.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let (rows, columns) = (old.len(), new.len());
    if rows > TABLE_LINES_MAX || columns > TABLE_LINES_MAX {
        lines.extend(old.iter().map(|line| (Edit::Remove, *line)));
        lines.extend(new.iter().map(|line| (Edit::Add, *line)));
        return;
    }
    let width = columns + 1;
    let mut table = vec![0_u16; (rows + 1) * width];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            table[row * width + column] = if old[row] == new[column] {
                table[(row + 1) * width + column + 1] + 1
            } else {
                table[(row + 1) * width + column].max(table[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        if row < rows && column < columns && old[row] == new[column] {
            lines.push((Edit::Keep, old[row]));
            row += 1;
            column += 1;
        } else if row < rows
            && (column == columns || table[(row + 1) * width + column] >= table[row * width + column + 1])
        {
            lines.push((Edit::Remove, old[row]));
            row += 1;
        } else {
            lines.push((Edit::Add, new[column]));
            column += 1;
        }
    }
}

fn hunks(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    let mut start = 0;
    while let Some(first) = lines.iter().skip(start).position(|(edit, _)| *edit != Edit::Keep) {
        let first = start + first;
        let from = first.saturating_sub(CONTEXT_LINES).max(start);
        let mut last = first;
        for (index, (edit, _)) in lines.iter().enumerate().skip(first) {
            if *edit != Edit::Keep {
                last = index;
            } else if index - last > 2 * CONTEXT_LINES {
                break;
            }
        }
        let to = (last + CONTEXT_LINES + 1).min(lines.len());
        hunk(lines, from, to, &mut text);
        start = to;
    }
    text
}

fn hunk(lines: &[Line<'_>], from: usize, to: usize, text: &mut String) {
    let count = |range: &[Line<'_>], skipped: Edit| range.iter().filter(|(edit, _)| *edit != skipped).count();
    let (before, own) = (lines.get(..from).unwrap_or_default(), lines.get(from..to).unwrap_or_default());
    let range = |skipped: Edit| {
        let (first, length) = (count(before, skipped) + 1, count(own, skipped));
        match length {
            1 => first.to_string(),
            0 => format!("{},0", first - 1),
            _ => format!("{first},{length}"),
        }
    };
    let _ = writeln!(text, "@@ -{} +{} @@", range(Edit::Add), range(Edit::Remove));
    for (edit, line) in own {
        let sign = match edit {
            Edit::Keep => ' ',
            Edit::Remove => '-',
            Edit::Add => '+',
        };
        let _ = writeln!(text, "{sign}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::diff;
    use serde_json::json;

    #[test]
    fn shows_what_changed() {
        let old = json!({"a": 1, "b": {"x": "1", "y": "2"}, "c": 3, "d": 4, "e": 5, "f": 6});
        let new = json!({"a": 1, "b": {"x": "1", "y": "9"}, "c": 3, "d": 4, "e": 5, "f": 6});
        expect_test::expect![[r#"
            @@ -2,7 +2,7 @@
              "a": 1,
              "b": {
               "x": "1",
            -  "y": "2"
            +  "y": "9"
              },
              "c": 3,
              "d": 4,
        "#]]
        .assert_eq(&diff(&old, &new));
        assert_eq!(diff(&old, &old), "");
    }
}
