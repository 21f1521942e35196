//! Reads type declarations out of gofmt'ed Go sources: as much of the language as API packages use.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};

/// Packages by import path.
pub type Packages = BTreeMap<String, Package>;

#[derive(Debug, Default)]
pub struct Package {
    /// `GroupName` of the package.
    pub group: String,
    pub types: BTreeMap<String, Declaration>,
    pub constants: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct Declaration {
    pub body: Body,
    pub markers: Vec<String>,
    /// Import path by local name.
    pub imports: BTreeMap<String, String>,
}

#[derive(Debug)]
pub enum Body {
    Struct(Vec<Member>),
    /// Any other type expression.
    Other(String),
}

#[derive(Debug)]
pub struct Member {
    /// Type expression.
    pub ty: String,
    pub embedded: bool,
    pub tag: String,
    pub markers: Vec<String>,
}

impl Member {
    /// Value of a key of the struct tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let start = self.tag.find(&format!("{key}:\""))? + key.len() + 2;
        self.tag[start..].split('"').next()
    }
}

const ROOTS: [&str; 8] = [
    "api",
    "apimachinery/pkg/apis/meta",
    "apimachinery/pkg/runtime",
    "apimachinery/pkg/types",
    "apimachinery/pkg/version",
    "apimachinery/pkg/util/intstr",
    "apimachinery/pkg/api/resource",
    "apiextensions-apiserver/pkg/apis/apiextensions/v1",
];

pub fn read_all(root: &Path) -> Result<Packages> {
    let mut packages = Packages::new();
    for folder in ROOTS {
        read_folder(root, folder, &mut packages).with_context(|| format!("read {folder}"))?;
    }
    Ok(packages)
}

fn read_folder(root: &Path, folder: &str, packages: &mut Packages) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(folder))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !matches!(name.as_str(), "testdata" | "testing" | "internalversion") {
                read_folder(root, &format!("{folder}/{name}"), packages)?;
            }
        } else if is_source(&name) {
            let text = fs::read_to_string(entry.path())?;
            read_file(&text, packages.entry(format!("k8s.io/{folder}")).or_default());
        }
    }
    Ok(())
}

fn is_source(name: &str) -> bool {
    name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated")
}

fn read_file(text: &str, package: &mut Package) {
    let mut imports = BTreeMap::new();
    let mut markers = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("//") {
            markers.extend(marker(comment));
        } else if trimmed == "import (" {
            for import in lines.by_ref().map(str::trim).take_while(|l| *l != ")") {
                add_import(import, &mut imports);
            }
        } else if let Some(import) = trimmed.strip_prefix("import ") {
            add_import(import, &mut imports);
        } else if let Some(rest) = line.strip_prefix("type ") {
            declare(rest, &mut lines, std::mem::take(&mut markers), &imports, package);
        } else if !trimmed.is_empty() {
            constant(trimmed, package);
            markers.clear();
        }
    }
}

fn marker(comment: &str) -> Option<String> {
    comment.trim().strip_prefix('+').map(str::to_owned)
}

fn add_import(line: &str, imports: &mut BTreeMap<String, String>) {
    let Some(path) = line.split('"').nth(1) else { return };
    let alias = line.split('"').next().unwrap_or_default().trim();
    let name = if alias.is_empty() { path.rsplit('/').next().unwrap_or(path) } else { alias };
    imports.insert(name.to_owned(), path.to_owned());
}

/// `const GroupName = "apps"`, and the typed constants that defaults refer to.
fn constant(line: &str, package: &mut Package) {
    let Some((left, right)) = line.split_once('=') else { return };
    let Some(name) = left.trim_start_matches("const ").split_whitespace().next() else { return };
    let right = right.trim();
    if let Some(value) = right.strip_prefix('"').and_then(|r| r.split('"').next()) {
        if name == "GroupName" {
            value.clone_into(&mut package.group);
        }
        package.constants.insert(name.to_owned(), value.to_owned());
    }
}

fn declare<'a>(
    rest: &str,
    lines: &mut impl Iterator<Item = &'a str>,
    markers: Vec<String>,
    imports: &BTreeMap<String, String>,
    package: &mut Package,
) {
    let Some((name, expression)) = rest.split_once(' ') else { return };
    let body = match expression {
        "struct {" => Body::Struct(members(lines)),
        "struct{}" | "struct {}" => Body::Struct(Vec::new()),
        "interface {" | "(" => return,
        other => Body::Other(other.trim_start_matches("= ").split(" //").next().unwrap_or(other).trim().to_owned()),
    };
    package.types.insert(name.to_owned(), Declaration { body, markers, imports: imports.clone() });
}

fn members<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Member> {
    let mut out = Vec::new();
    let mut markers = Vec::new();
    for line in lines.take_while(|line| *line != "}") {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            markers.clear();
        } else if let Some(comment) = trimmed.strip_prefix("//") {
            markers.extend(marker(comment));
        } else if let Some(member) = member(trimmed, std::mem::take(&mut markers)) {
            out.push(member);
        }
    }
    out
}

fn member(line: &str, markers: Vec<String>) -> Option<Member> {
    let (declaration, tag) = line.split_once('`').unwrap_or((line.split(" //").next().unwrap_or(line), ""));
    let mut words = declaration.split_whitespace();
    let first = words.next()?;
    let rest: Vec<&str> = words.collect();
    let embedded = rest.is_empty();
    let ty = if embedded { first.to_owned() } else { rest.join(" ") };
    let tag = tag.split('`').next().unwrap_or_default().to_owned();
    Some(Member { ty, embedded, tag, markers })
}
