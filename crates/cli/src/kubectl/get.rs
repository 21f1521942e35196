//! `get`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use coracle_api_meta::{Quantity, Value, object::ObjectExt as _};
use coracle_client::{ListParams, WatchEvent};
use http::{Request, header};
use serde_json::json;

use super::connection::{Connection, worded};
use super::discovery::{Discovery, Resource};
use super::jsonpath::Template;
use super::manifest;
use super::output::{Format, padded, print, without_managed_fields};
use super::selection::{Selected, select};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Debug, Args)]
pub struct Options {
    /// `pods`, `pod NAME`, `deploy/web svc/web`, `pods,services` or `all`.
    what: Vec<String>,
    /// Files that name the objects.
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// wide, yaml, json, name, jsonpath=..., custom-columns=...
    #[arg(long, short)]
    output: Option<String>,
    /// All namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Label selector.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    #[arg(long, default_value = "")]
    field_selector: String,
    /// Shows labels as the last column.
    #[arg(long)]
    show_labels: bool,
    #[arg(long)]
    no_headers: bool,
    /// Labels to show as columns, separated by commas.
    #[arg(long, short = 'L', value_name = "LABELS", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Shows the kind before each name.
    #[arg(long)]
    show_kind: bool,
    /// Orders lists by a field: `.metadata.creationTimestamp`.
    #[arg(long, value_name = "JSONPATH")]
    sort_by: Option<String>,
    /// Keeps managedFields in YAML and JSON.
    #[arg(long)]
    show_managed_fields: bool,
    /// Goes on with changes.
    #[arg(long, short)]
    watch: bool,
    /// A missing object is no error.
    #[arg(long)]
    ignore_not_found: bool,
    /// A URI of the server instead of objects.
    #[arg(long, value_name = "URI")]
    raw: Option<String>,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    if let Some(uri) = &options.raw {
        let answer = connection.client.get(uri).await.map_err(worded)?;
        print!("{}", String::from_utf8_lossy(&answer));
        return Ok(ExitCode::SUCCESS);
    }
    let format = Format::parse(options.output.as_deref())?;
    if options.what.is_empty() && options.files.is_empty() {
        eprintln!(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n"
        );
        anyhow::bail!(
            "error: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples"
        );
    }
    let order = match &options.sort_by {
        Some(path) => Some(Template::parse(&braced(path))?),
        None => None,
    };
    let discovery = Discovery::load(&connection.client).await?;
    let mut getter = Getter { connection, options, format, order, failed: false, printed: false };
    if options.files.is_empty() {
        let selected = select(&discovery, &options.what)?;
        getter.get(&selected).await?;
    } else {
        for document in manifest::read(&options.files, false)? {
            let (resource, namespace) = document.place(&discovery, &connection.namespace)?;
            let names = vec![document.object.name().to_owned()];
            getter.one_resource(&Selected { resource, names }, &namespace, false).await?;
        }
    }
    Ok(if getter.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Getter<'a> {
    connection: &'a Connection,
    options: &'a Options,
    format: Format,
    order: Option<Template>,
    failed: bool,
    printed: bool,
}

impl Getter<'_> {
    async fn get(&mut self, selected: &[Selected<'_>]) -> Result<()> {
        let namespace = if self.options.all_namespaces { "" } else { &self.connection.namespace };
        for one in selected {
            self.one_resource(one, namespace, selected.len() > 1).await?;
        }
        if !self.printed
            && !self.failed
            && !self.options.ignore_not_found
            && self.format.is_table()
            && !self.options.watch
        {
            if namespace.is_empty() || selected.iter().all(|one| !one.resource.namespaced) {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {namespace} namespace.");
            }
        }
        Ok(())
    }

    async fn one_resource(&mut self, one: &Selected<'_>, namespace: &str, several: bool) -> Result<()> {
        if self.options.watch {
            return self.watch(one.resource, namespace, one.names.first()).await;
        }
        if one.names.is_empty() {
            let path = one.resource.api(&self.connection.client, namespace).path("", "");
            let mut answer = self.fetch(&format!("{path}{}", self.query())).await?;
            self.sort(&mut answer);
            return self.show(one.resource, &answer, several);
        }
        for name in &one.names {
            let path = one.resource.api(&self.connection.client, namespace).path(name, "");
            match self.fetch(&path).await {
                Ok(answer) => self.show(one.resource, &answer, several)?,
                Err(error) => {
                    if !(self.options.ignore_not_found && error.to_string().contains("(NotFound)")) {
                        eprintln!("{error:#}");
                        self.failed = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn query(&self) -> String {
        let mut query = String::from("?limit=0");
        if self.order.is_some() && self.format.is_table() {
            query.push_str("&includeObject=Object");
        }
        for (name, value) in
            [("labelSelector", &self.options.selector), ("fieldSelector", &self.options.field_selector)]
        {
            if !value.is_empty() {
                let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
                query.push_str(&format!("&{name}={escaped}"));
            }
        }
        query
    }

    /// Orders rows or items by the field that was named.
    fn sort(&self, answer: &mut Value) {
        let Some(order) = &self.order else { return };
        let rows = if self.format.is_table() { "rows" } else { "items" };
        let key = |item: &Value| order.evaluate(item.get("object").unwrap_or(item));
        if let Some(items) = answer.get_mut(rows).and_then(Value::as_array_mut) {
            items.sort_by(|a, b| compare(&key(a), &key(b)));
        }
    }

    async fn fetch(&self, path: &str) -> Result<Value> {
        let accept = if self.format.is_table() { TABLE } else { "application/json" };
        let request = Request::get(path).header(header::ACCEPT, accept).body(Bytes::new())?;
        let answer = self.connection.client.request(request).await.map_err(worded)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    fn show(&mut self, resource: &Resource, answer: &Value, several: bool) -> Result<()> {
        if !self.format.is_table() {
            // kubectl prints lists of any kind as a plain List.
            let plain = match answer.get("items") {
                Some(items) => {
                    json!({"apiVersion": "v1", "kind": "List", "items": typed(resource, items), "metadata": {"resourceVersion": ""}})
                }
                None => answer.clone(),
            };
            let plain = if self.options.show_managed_fields { plain } else { without_managed_fields(&plain) };
            print!("{}", print(&self.format, &plain, |item| resource.named(item.name()))?);
            self.printed = true;
            return Ok(());
        }
        let rows = self.rows(resource, answer, several);
        if rows.len() > usize::from(!self.options.no_headers) {
            if self.printed && several {
                println!();
            }
            print!("{}", padded(&rows));
            self.printed = true;
        }
        Ok(())
    }

    fn rows(&self, resource: &Resource, table: &Value, several: bool) -> Vec<Vec<String>> {
        let wide = matches!(self.format, Format::Wide);
        let columns: Vec<&Value> =
            table.get("columnDefinitions").and_then(Value::as_array).into_iter().flatten().collect();
        let shown: Vec<usize> = (0..columns.len())
            .filter(|index| {
                wide || columns
                    .get(*index)
                    .and_then(|column| column.get("priority"))
                    .and_then(Value::as_i64)
                    .unwrap_or(0)
                    == 0
            })
            .collect();
        let with_namespace = self.options.all_namespaces && resource.namespaced;
        let mut rows = Vec::new();
        if !self.options.no_headers {
            let mut heading = if with_namespace { vec!["NAMESPACE".to_owned()] } else { Vec::new() };
            heading.extend(
                shown
                    .iter()
                    .filter_map(|index| columns.get(*index))
                    .map(|column| column.str_at(&["name"]).to_uppercase()),
            );
            heading.extend(
                self.options
                    .label_columns
                    .iter()
                    .map(|label| label.rsplit('/').next().unwrap_or_default().to_uppercase()),
            );
            heading.extend(self.options.show_labels.then(|| "LABELS".to_owned()));
            rows.push(heading);
        }
        for row in table.get("rows").and_then(Value::as_array).into_iter().flatten() {
            let object = row.get("object").unwrap_or(&Value::Null);
            let mut cells = if with_namespace { vec![object.namespace().to_owned()] } else { Vec::new() };
            let all = row.get("cells").and_then(Value::as_array);
            cells.extend(shown.iter().map(|index| cell(all.and_then(|all| all.get(*index)))));
            if (several || self.options.show_kind)
                && let Some(name) = cells.get_mut(usize::from(with_namespace))
            {
                *name = resource.named(name);
            }
            let label = |label: &String| object.labels().and_then(|own| own.get(label)).and_then(Value::as_str);
            cells.extend(self.options.label_columns.iter().map(|own| label(own).unwrap_or_default().to_owned()));
            cells.extend(self.options.show_labels.then(|| labels(object)));
            rows.push(cells);
        }
        rows
    }

    async fn watch(&mut self, resource: &Resource, namespace: &str, name: Option<&String>) -> Result<()> {
        let api = resource.api(&self.connection.client, namespace);
        let mut params = ListParams::default().labels(&self.options.selector).fields(&self.options.field_selector);
        if let Some(name) = name {
            params = params.fields(&format!("metadata.name={name}"));
        }
        let mut stream = api.watch(&params).await.map_err(worded)?;
        while let Some(event) = stream.next().await.map_err(worded)? {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) = event else {
                continue;
            };
            let object: Value = serde_json::from_slice(&object)?;
            if self.format.is_table() {
                // The server prints the row; an object that is gone by now has none.
                let path = resource.api(&self.connection.client, object.namespace()).path(object.name(), "");
                if let Ok(table) = self.fetch(&path).await {
                    self.show(resource, &table, false)?;
                }
            } else {
                print!("{}", print(&self.format, &object, |item| resource.named(item.name()))?);
            }
        }
        Ok(())
    }
}

fn braced(path: &str) -> String {
    let path = path.trim_matches(['{', '}']);
    if path.starts_with('.') { format!("{{{path}}}") } else { format!("{{.{path}}}") }
}

/// Numbers and quantities by their size, all else as text.
fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    match (Quantity::parse(a), Quantity::parse(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

fn typed(resource: &Resource, items: &Value) -> Value {
    let items = items.as_array().into_iter().flatten().map(|item| {
        let mut item = item.clone();
        if let Some(fields) = item.as_object_mut() {
            fields.entry("apiVersion").or_insert_with(|| resource.gvr.group_version().to_string().into());
            fields.entry("kind").or_insert_with(|| resource.kind.clone().into());
        }
        item
    });
    Value::Array(items.collect())
}

fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.lines().next().unwrap_or_default().to_owned(),
        Some(Value::Null) | None => "<none>".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn labels(object: &Value) -> String {
    let pairs: Vec<String> = object
        .labels()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}
