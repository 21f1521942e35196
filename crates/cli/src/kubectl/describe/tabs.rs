//! Text in columns, as Go's `text/tabwriter` lays it out for kubectl: a cell ends with a tab, and cells that stand under
//! one another without a gap have one width.

use std::fmt::Write as _;

/// Spaces between columns. Source: `tabbedString` of kubectl.
const PADDING: usize = 2;

/// Replaces the tabs by spaces.
pub fn tabbed(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::new();
    block(&lines, &mut Vec::new(), &mut out);
    out
}

/// Writes lines whose first `widths.len()` columns are settled.
fn block(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| column + 1 < line.len();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if !has_cell(line) {
            write_line(line, widths, out);
            at += 1;
            continue;
        }
        let count = lines[at..].iter().take_while(|line| has_cell(line)).count();
        let group = &lines[at..at + count];
        let width = group.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        widths.push(width.unwrap_or_default() + PADDING);
        block(group, widths, out);
        widths.pop();
        at += count;
    }
}

fn write_line(line: &[&str], widths: &[usize], out: &mut String) {
    for (column, cell) in line.iter().enumerate() {
        let width = widths.get(column).copied().unwrap_or_default();
        let _ = write!(out, "{cell:<width$}");
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_end_where_a_line_has_none() {
        let text = "Name:\ta\nLong Name:\tb\nplain\n  X:\tc\n  Type\tStatus\n  ReadyToStart \tTrue \n";
        assert_eq!(
            tabbed(text),
            "Name:       a\nLong Name:  b\nplain\n  X:             c\n  Type           Status\n  ReadyToStart   True \n"
        );
    }
}
