//! `explain`, from the server's OpenAPI v3 documents.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use coracle_api_meta::{Value, object::ObjectExt as _};

use super::connection::{Connection, worded};
use super::discovery::{Discovery, Resource};

const WIDTH: usize = 80;

#[derive(Debug, Args)]
pub struct Options {
    /// `pods`, `deployment.spec.template`.
    what: String,
    /// All fields down the tree, without descriptions.
    #[arg(long)]
    recursive: bool,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let mut words = options.what.split('.');
    let resource = discovery.find(words.next().unwrap_or_default());
    // Here alone kubectl leaves the word out.
    let resource =
        resource.map_err(|error| anyhow::anyhow!(error.to_string().trim_start_matches("error: ").to_owned()))?;
    let path = resource.gvr.root_path();
    let document = connection.client.get_json(&format!("/openapi/v3{path}")).await.map_err(worded)?;
    let schemas = Schemas(document.pointer("/components/schemas").context("the document has no schemas")?);
    let mut schema = schemas.of_kind(&resource.gvr.group, &resource.gvr.version, &resource.kind)?;
    let mut field = None;
    for word in words {
        let (holder, _) = schemas.resolve(schema);
        let Some(next) = holder.get("properties").and_then(|fields| fields.get(word)) else {
            heading(resource);
            bail!("error: field {word:?} does not exist");
        };
        field = Some((word, next));
        schema = next;
    }
    let (target, type_name) = schemas.resolve(schema);
    heading(resource);
    if let Some((name, _)) = field {
        println!("FIELD: {name} <{type_name}>\n");
    }
    println!("DESCRIPTION:");
    let own = field.map(|(_, schema)| schema.str_at(&["description"])).filter(|text| !text.is_empty());
    for text in own.into_iter().chain([target.str_at(&["description"])]).filter(|text| !text.is_empty()) {
        println!("{}", wrapped(text, 4));
    }
    if target.get("properties").is_some() {
        println!("\nFIELDS:");
        print_fields(&schemas, target, 2, options.recursive, 0);
    }
    Ok(ExitCode::SUCCESS)
}

fn heading(resource: &Resource) {
    if !resource.gvr.group.is_empty() {
        println!("GROUP:      {}", resource.gvr.group);
    }
    println!("KIND:       {}\nVERSION:    {}\n", resource.kind, resource.gvr.version);
}

struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    fn of_kind(&self, group: &str, version: &str, kind: &str) -> Result<&'a Value> {
        let is_it = |schema: &&Value| {
            let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
            kinds.into_iter().flatten().any(|gvk| {
                gvk.str_at(&["group"]) == group && gvk.str_at(&["version"]) == version && gvk.str_at(&["kind"]) == kind
            })
        };
        let found = self.0.as_object().and_then(|all| all.values().find(is_it));
        found.with_context(|| format!("error: couldn't find resource for {kind:?}"))
    }

    /// The object behind references, lists and maps, and how its type is written: `[]Container`.
    fn resolve(&self, schema: &'a Value) -> (&'a Value, String) {
        let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        if let Some(name) = reference.and_then(|reference| reference.rsplit('/').next()) {
            let target = self.0.get(name).unwrap_or(&Value::Null);
            if target.get("properties").is_none() {
                let (target, ty) = self.resolve(target);
                return (target, ty);
            }
            return (target, name.rsplit('.').next().unwrap_or(name).to_owned());
        }
        match schema.str_at(&["type"]) {
            "array" => {
                let (target, ty) = self.resolve(schema.get("items").unwrap_or(&Value::Null));
                (target, format!("[]{ty}"))
            }
            "object" if schema.get("additionalProperties").is_some_and(Value::is_object) => {
                let (target, ty) = self.resolve(schema.get("additionalProperties").unwrap_or(&Value::Null));
                (target, format!("map[string]{ty}"))
            }
            "object" => (schema, "Object".to_owned()),
            "" => (schema, if schema.get("oneOf").is_some() { "IntOrString" } else { "Object" }.to_owned()),
            ty => (schema, ty.to_owned()),
        }
    }
}

/// Types that contain themselves end here.
const DEPTH_MAX: usize = 12;

fn print_fields(schemas: &Schemas<'_>, holder: &Value, indent: usize, recursive: bool, depth: usize) {
    let required: Vec<&str> =
        holder.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields: Vec<_> = holder.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
    fields.sort_by(|a, b| a.0.cmp(b.0));
    for (name, schema) in fields {
        let (target, ty) = schemas.resolve(schema);
        let needed = if required.contains(&name.as_str()) { " -required-" } else { "" };
        println!("{:indent$}{name}\t<{ty}>{needed}", "");
        if recursive {
            if depth < DEPTH_MAX && target.get("properties").is_some() {
                print_fields(schemas, target, indent + 2, true, depth + 1);
            }
            continue;
        }
        let text = match schema.str_at(&["description"]) {
            "" => target.str_at(&["description"]),
            own => own,
        };
        println!("{}\n", wrapped(text, indent + 2));
    }
}

fn wrapped(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = pad.clone();
        for word in paragraph.split_whitespace() {
            if line.len() > indent && line.len() + 1 + word.len() > WIDTH {
                lines.push(std::mem::replace(&mut line, pad.clone()));
            }
            if line.len() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}
