//! Joins Go declarations and definitions into the table.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use anyhow::{Context, Result, bail};

use super::{
    definitions::{Definition, Definitions, Property},
    go::{Body, Declaration, Member, Packages},
};

const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
/// Packages whose kinds are wanted although no definition names them.
const EXTRA_KINDS: [&str; 4] = ["core/v1", "apidiscovery/v2", "admission/v1", "imagepolicy/v1alpha1"];
/// kube-aggregator is not packaged: its numbers, omitempty (`e`) and pointers (`p`), in Go order.
const APIREGISTRATION: [(&str, &[(&str, u32, &str)]); 6] = [
    (
        "APIService",
        &[("kind", 0, "e"), ("apiVersion", 0, "e"), ("metadata", 1, "e"), ("spec", 2, "e"), ("status", 3, "e")],
    ),
    ("APIServiceList", &[("kind", 0, "e"), ("apiVersion", 0, "e"), ("metadata", 1, "e"), ("items", 2, "")]),
    (
        "APIServiceSpec",
        &[
            ("service", 1, "pe"),
            ("group", 2, "e"),
            ("version", 3, "e"),
            ("insecureSkipTLSVerify", 4, "e"),
            ("caBundle", 5, "e"),
            ("groupPriorityMinimum", 7, ""),
            ("versionPriority", 8, ""),
        ],
    ),
    ("APIServiceStatus", &[("conditions", 1, "e")]),
    (
        "APIServiceCondition",
        &[("type", 1, ""), ("status", 2, ""), ("lastTransitionTime", 3, "e"), ("reason", 4, "e"), ("message", 5, "e")],
    ),
    ("ServiceReference", &[("namespace", 1, "e"), ("name", 2, "e"), ("port", 3, "pe")]),
];
const AGGREGATOR: &str = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1";

/// Name of the definition of a Go type.
fn definition_name(package: &str, name: &str) -> String {
    format!("io.k8s.{}.{name}", package.trim_start_matches("k8s.io/").replace('/', "."))
}

fn short(name: &str) -> &str {
    name.trim_start_matches("io.k8s.")
}

/// Types with a JSON or protobuf form that their fields do not show.
fn special(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("io.k8s.")? {
        "apimachinery.pkg.runtime.RawExtension" => "RawExtension",
        "apimachinery.pkg.apis.meta.v1.FieldsV1" => "FieldsV1",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => "JSON",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => "JSONSchemaPropsOrArray",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => "JSONSchemaPropsOrBool",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            "JSONSchemaPropsOrStringArray"
        }
        _ => return None,
    })
}

fn scalar(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("io.k8s.")? {
        "apimachinery.pkg.api.resource.Quantity" => "quantity",
        "apimachinery.pkg.util.intstr.IntOrString" => "intorstring",
        "apimachinery.pkg.apis.meta.v1.Time" => "time",
        "apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime",
        "apimachinery.pkg.apis.meta.v1.Duration" => "duration",
        _ => return None,
    })
}

/// A line of a struct.
struct Row {
    name: String,
    ty: String,
    /// Numbers of inlined messages, then the field's own.
    numbers: Vec<u32>,
    flags: String,
    go: String,
    merge: bool,
    retain_keys: bool,
    merge_key: String,
    default: String,
}

struct Writer<'a> {
    packages: &'a Packages,
    definitions: &'a Definitions,
    queue: VecDeque<String>,
    seen: BTreeSet<String>,
    specials: BTreeSet<String>,
    complaints: Vec<String>,
}

pub fn table(packages: &Packages, definitions: &Definitions) -> Result<String> {
    let kinds = kinds(packages, definitions);
    let mut writer = Writer {
        packages,
        definitions,
        queue: VecDeque::new(),
        seen: BTreeSet::new(),
        specials: BTreeSet::new(),
        complaints: Vec::new(),
    };
    for name in definitions.keys().chain(kinds.values()) {
        writer.want(name);
    }
    let mut structs = BTreeMap::new();
    while let Some(name) = writer.queue.pop_front() {
        let text = writer.write_struct(&name).with_context(|| name.clone())?;
        structs.insert(name, text);
    }
    let mut out: String = structs.into_values().collect();
    for name in &writer.specials {
        writeln!(out, "S {} {}", short(name), special(name).unwrap_or_default())?;
    }
    for ((group, version, kind), name) in kinds {
        writeln!(out, "K {} {version} {kind} {}", if group.is_empty() { "-" } else { &group }, short(&name))?;
    }
    for complaint in &writer.complaints {
        eprintln!("{complaint}");
    }
    Ok(out)
}

/// Type by group, version and kind. Options and watch events, which every group has, appear once.
fn kinds(packages: &Packages, definitions: &Definitions) -> BTreeMap<(String, String, String), String> {
    let mut kinds = BTreeMap::new();
    for (name, definition) in definitions {
        for kind in &definition.kinds {
            if definition.kinds.len() < 10 || (kind.0.is_empty() && kind.1 == "v1") {
                kinds.insert(kind.clone(), name.clone());
            }
        }
    }
    for (path, package) in packages {
        let meta = path.ends_with("apis/meta/v1");
        let wanted = EXTRA_KINDS.iter().any(|end| path == &format!("k8s.io/api/{end}"))
            || path.ends_with("apis/apiextensions/v1")
            || meta;
        let version = path.rsplit('/').next().unwrap_or_default();
        for (name, declaration) in package.types.iter().filter(|_| wanted) {
            if !is_kind(declaration) {
                continue;
            }
            let table = matches!(name.as_str(), "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList");
            let group = if meta && !table { "" } else { &package.group };
            let key = (group.to_owned(), version.to_owned(), name.clone());
            kinds.entry(key).or_insert_with(|| definition_name(path, name));
            if table {
                let key = (group.to_owned(), "v1beta1".to_owned(), name.clone());
                kinds.insert(key, definition_name(path, name));
            }
        }
    }
    kinds
}

fn is_kind(declaration: &Declaration) -> bool {
    match &declaration.body {
        Body::Struct(members) => members.iter().any(|m| m.embedded && m.ty.rsplit('.').next() == Some("TypeMeta")),
        Body::Other(_) => false,
    }
}

impl<'a> Writer<'a> {
    fn want(&mut self, name: &str) {
        if scalar(name).is_some() {
            return;
        }
        if special(name).is_some() {
            self.specials.insert(name.to_owned());
            self.want(&format!("{APIEXTENSIONS}.JSONSchemaProps"));
        } else if self.seen.insert(name.to_owned()) {
            self.queue.push_back(name.to_owned());
        }
    }

    fn write_struct(&mut self, name: &str) -> Result<String> {
        let nothing = Definition::default();
        let definitions = self.definitions;
        let definition = definitions.get(name).unwrap_or(&nothing);
        let mut rows = Vec::new();
        let mut atomic = definition.atomic;
        if let Some(aggregated) = name.strip_prefix(AGGREGATOR) {
            rows = self.aggregated(&aggregated[1..], definition)?;
        } else {
            let (path, local) = self.find(name)?;
            let declaration = &self.packages[path].types[local];
            atomic |= declaration.markers.iter().any(|m| m == "structType=atomic" || m == "mapType=atomic");
            self.rows(path, local, &[], &mut rows)?;
        }
        if !definition.properties.is_empty() {
            self.compare(name, definition, &rows);
        }
        let mut out = format!("T {}{}\n", short(name), if atomic { " atomic" } else { "" });
        for row in &rows {
            let property = definition.properties.get(&row.name);
            write_row(row, property, &mut out)?;
        }
        Ok(out)
    }

    fn find(&self, name: &str) -> Result<(&'a str, &'a str)> {
        for (path, package) in self.packages {
            let prefix = definition_name(path, "");
            if let Some(local) = name.strip_prefix(&prefix)
                && let Some((local, _)) = package.types.get_key_value(local)
            {
                return Ok((path, local));
            }
        }
        bail!("no declaration of {name}")
    }

    /// Appends the fields of a struct, those of inlined structs included.
    fn rows(&mut self, path: &str, local: &str, via: &[u32], out: &mut Vec<Row>) -> Result<()> {
        let packages = self.packages;
        let package = &packages[path];
        let declaration = &package.types[local];
        let members = match &declaration.body {
            Body::Struct(members) => members,
            Body::Other(other) => {
                let (path, local) = target(path, declaration, other)?;
                return self.rows(&path, &local, via, out);
            }
        };
        for member in members {
            let Some(json) = member.tag("json") else { continue };
            let mut numbers = via.to_vec();
            numbers.push(number(member)?);
            let mut options = json.split(',');
            let name = options.next().unwrap_or_default();
            let options: Vec<&str> = options.collect();
            if name == "-" {
                continue;
            } else if options.contains(&"inline") || (name.is_empty() && member.embedded) {
                let (path, local) = target(path, declaration, &member.ty)?;
                self.rows(&path, &local, &numbers, out)?;
            } else {
                out.push(
                    self.row(path, declaration, member, name, numbers, &options).with_context(|| name.to_owned())?,
                );
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        path: &str,
        declaration: &Declaration,
        member: &Member,
        name: &str,
        numbers: Vec<u32>,
        options: &[&str],
    ) -> Result<Row> {
        let mut flags = String::new();
        for (option, flag) in [("omitempty", 'e'), ("omitzero", 'z')] {
            if options.contains(&option) {
                flags.push(flag);
            }
        }
        let expression = member.ty.strip_prefix('*').inspect(|_| flags.push('p')).unwrap_or(&member.ty);
        let mut go = String::new();
        let ty = self.ty(path, declaration, expression, &mut go)?;
        let strategy = member.tag("patchStrategy").unwrap_or_default();
        let default = member.markers.iter().find_map(|m| m.strip_prefix("default=")).unwrap_or_default();
        let default = match default.strip_prefix("ref(").and_then(|d| d.strip_suffix(')')) {
            Some(constant) => {
                let constant = constant.rsplit('.').next().unwrap_or(constant);
                let value = self.packages[path].constants.get(constant).context("no such constant")?;
                format!("\"{value}\"")
            }
            None => default.to_owned(),
        };
        Ok(Row {
            name: name.to_owned(),
            ty,
            numbers,
            flags,
            go,
            merge: strategy.contains("merge"),
            retain_keys: strategy.contains("retainKeys"),
            merge_key: member.tag("patchMergeKey").unwrap_or_default().to_owned(),
            default,
        })
    }

    /// The table's word for a Go type expression; `go` becomes the Go name of a named scalar.
    fn ty(&mut self, path: &str, declaration: &Declaration, expression: &str, go: &mut String) -> Result<String> {
        let expression = expression.trim_start_matches('*');
        if expression == "[]byte" {
            return Ok("bytes".to_owned());
        }
        if let Some(item) = expression.strip_prefix("[]") {
            return Ok(format!("[]{}", self.ty(path, declaration, item, go)?));
        }
        if let Some((_, value)) = expression.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return Ok(format!("{{}}{}", self.ty(path, declaration, value, go)?));
        }
        let builtin = match expression {
            "string" => "string",
            "bool" => "boolean",
            "int32" => "int32",
            "int64" => "int64",
            "int" | "uint64" => "integer",
            "float64" => "double",
            "interface{}" | "any" => "any",
            _ => "",
        };
        if builtin.is_empty() { self.named(path, declaration, expression, go) } else { Ok(builtin.to_owned()) }
    }

    fn named(&mut self, path: &str, declaration: &Declaration, expression: &str, go: &mut String) -> Result<String> {
        let (path, local) = target(path, declaration, expression)?;
        let name = definition_name(&path, &local);
        if let Some(scalar) = scalar(&name) {
            return Ok(scalar.to_owned());
        }
        if special(&name).is_some() {
            self.want(&name);
            return Ok(short(&name).to_owned());
        }
        let packages = self.packages;
        let package = packages.get(&path).with_context(|| format!("no package {path}"))?;
        let found = package.types.get(&local).with_context(|| format!("no type {path} {local}"))?;
        match &found.body {
            _ if self.definitions.contains_key(&name) || matches!(found.body, Body::Struct(_)) => {
                self.want(&name);
                Ok(short(&name).to_owned())
            }
            Body::Struct(_) => bail!("a struct"),
            Body::Other(other) => {
                if !other.contains(['[', '{']) && !other.starts_with(char::is_uppercase) {
                    *go = format!("{}.{local}", path.rsplit('/').next().unwrap_or_default());
                }
                let ty = self.ty(&path, found, other, go)?;
                let wrapped = found.markers.iter().any(|m| m == "protobuf.nullable=true");
                Ok(if wrapped { ty.replacen("[]", "<>", 1) } else { ty })
            }
        }
    }

    fn aggregated(&mut self, local: &str, definition: &Definition) -> Result<Vec<Row>> {
        let facts = APIREGISTRATION.iter().find(|(name, _)| *name == local).context("not in the table")?.1;
        let mut rows = Vec::new();
        for (name, number, flags) in facts {
            let property = definition.properties.get(*name).with_context(|| (*name).to_owned())?;
            let element = property.ty.trim_start_matches("[]");
            if element.starts_with("io.k8s.") {
                self.want(element);
            }
            rows.push(Row {
                name: (*name).to_owned(),
                ty: property.ty.replace("io.k8s.", ""),
                numbers: vec![*number],
                flags: (*flags).to_owned(),
                go: String::new(),
                merge: property.merge,
                retain_keys: property.retain_keys,
                merge_key: property.merge_key.clone(),
                default: String::new(),
            });
        }
        Ok(rows)
    }

    fn compare(&mut self, name: &str, definition: &Definition, rows: &[Row]) {
        let known: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let defined: BTreeSet<&str> = definition.properties.keys().map(String::as_str).collect();
        if known != defined {
            let difference: Vec<_> = known.symmetric_difference(&defined).collect();
            self.complaints.push(format!("{name}: only on one side: {difference:?}"));
        }
        for row in rows {
            let Some(property) = definition.properties.get(&row.name) else { continue };
            let ty = property.ty.replace("io.k8s.", "");
            let same_patch = (property.merge, property.retain_keys, &property.merge_key)
                == (row.merge, row.retain_keys, &row.merge_key);
            if ty != row.ty.replace("<>", "[]") || !same_patch {
                self.complaints.push(format!("{name}.{}: {ty} is not {}, or patch differs", row.name, row.ty));
            }
        }
    }
}

/// Package and name of a type that an expression of a declaration names.
fn target(path: &str, declaration: &Declaration, expression: &str) -> Result<(String, String)> {
    match expression.trim_start_matches('*').split_once('.') {
        None => Ok((path.to_owned(), expression.trim_start_matches('*').to_owned())),
        Some((alias, name)) => {
            let path = declaration.imports.get(alias).with_context(|| format!("no import {alias}"))?;
            Ok((path.clone(), name.to_owned()))
        }
    }
}

fn number(member: &Member) -> Result<u32> {
    match member.tag("protobuf").and_then(|tag| tag.split(',').nth(1)) {
        Some(number) => Ok(number.parse()?),
        None => Ok(0),
    }
}

fn write_row(row: &Row, property: Option<&Property>, out: &mut String) -> Result<()> {
    let nothing = Property::default();
    let property = property.unwrap_or(&nothing);
    let on_the_wire = !row.numbers.contains(&0);
    let numbers: Vec<String> = row.numbers.iter().filter(|_| on_the_wire).map(u32::to_string).collect();
    let numbers = if on_the_wire { numbers.join("/") } else { "0".to_owned() };
    let mut flags = row.flags.clone();
    let reference = !row.ty.starts_with("{}");
    for (set, flag) in [
        (property.required, 'r'),
        (row.merge, 'm'),
        (row.retain_keys, 'k'),
        (property.atomic, 'a'),
        (property.granular && reference, 'g'),
    ] {
        if set {
            flags.push(flag);
        }
    }
    write!(out, "{} {} {numbers} {}", row.name, row.ty, if flags.is_empty() { "-" } else { &flags })?;
    let attributes = [("list", &property.list), ("key", &row.merge_key), ("go", &row.go), ("default", &row.default)];
    for (key, value) in attributes {
        if !value.is_empty() {
            write!(out, " {key}={value}")?;
        }
    }
    out.push('\n');
    Ok(())
}
