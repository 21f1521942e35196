//! `describe`: pods, nodes, deployments and services in kubectl's words, any other kind field by field; then the events.

mod generic;
mod pod;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use coracle_api_meta::{Gvr, Value, object::ObjectExt as _};
use coracle_client::{DynamicApi, ListParams};
use jiff::Timestamp;

use super::connection::{Connection, worded};
use super::discovery::{Discovery, Resource};
use super::output::columns_of;
use super::selection::select;

#[derive(Debug, Args)]
pub struct Options {
    /// `pod NAME`, `deploy/web`.
    what: Vec<String>,
    /// Label selector.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let mut first = true;
    for one in select(&discovery, &options.what)? {
        let api = one.resource.api(&connection.client, &connection.namespace);
        let objects = if one.names.is_empty() {
            api.list(&ListParams::default().labels(&options.selector)).await.map_err(worded)?
        } else {
            let mut objects = Vec::new();
            for name in &one.names {
                objects.push(serde_json::from_slice(&api.get(name).await.map_err(worded)?)?);
            }
            objects
        };
        for object in objects {
            if !std::mem::take(&mut first) {
                println!("\n");
            }
            print!("{}", describe(connection, one.resource, &object).await?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn describe(connection: &Connection, resource: &Resource, object: &Value) -> Result<String> {
    let mut text = Text::default();
    match resource.kind.as_str() {
        "Pod" if resource.gvr.group.is_empty() => pod::describe(&mut text, object),
        _ => generic::describe(&mut text, object),
    }
    events(connection, resource, object, &mut text).await?;
    Ok(text.0)
}

async fn events(connection: &Connection, resource: &Resource, object: &Value, text: &mut Text) -> Result<()> {
    let namespace = if object.namespace().is_empty() { "default" } else { object.namespace() };
    let api = DynamicApi::namespaced(&connection.client, &Gvr::new("", "v1", "events"), namespace);
    let params = ListParams::default().fields(&format!(
        "involvedObject.name={},involvedObject.kind={}",
        object.name(),
        resource.kind
    ));
    let mut events = api.list(&params).await.map_err(worded)?;
    events.retain(
        |event| matches!(event.str_at(&["involvedObject", "uid"]), uid if uid.is_empty() || uid == object.uid()),
    );
    if events.is_empty() {
        text.line(0, "Events:", "<none>");
        return Ok(());
    }
    events.sort_by(|a, b| last_seen(a).cmp(last_seen(b)));
    let mut rows = vec![
        ["  Type", "Reason", "Age", "From", "Message"].map(str::to_owned).to_vec(),
        ["  ----", "------", "----", "----", "-------"].map(str::to_owned).to_vec(),
    ];
    let now = Timestamp::now();
    for event in &events {
        let from = match event.str_at(&["source", "component"]) {
            "" => event.str_at(&["reportingComponent"]),
            component => component,
        };
        rows.push(vec![
            format!("  {}", event.str_at(&["type"])),
            event.str_at(&["reason"]).to_owned(),
            event_age(event, now),
            from.to_owned(),
            event.str_at(&["message"]).trim().to_owned(),
        ]);
    }
    text.0.push_str("Events:\n");
    text.0.push_str(&columns_of(&rows, 0, 2));
    Ok(())
}

fn last_seen(event: &Value) -> &str {
    match event.str_at(&["lastTimestamp"]) {
        "" => event.str_at(&["eventTime"]),
        time => time,
    }
}

/// `4m13s`, or `13s (x4 over 4m13s)`.
fn event_age(event: &Value, now: Timestamp) -> String {
    let count = event.get("count").and_then(Value::as_i64).unwrap_or(1);
    let last = age(last_seen(event), now);
    if count > 1 { format!("{last} (x{count} over {})", age(event.str_at(&["firstTimestamp"]), now)) } else { last }
}

/// How long ago, in kubectl's short form.
pub fn age(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.duration_since(time).as_secs();
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..28_800 if seconds % 3600 >= 60 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Lines of `Key:   value`.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// A key padded to kubectl's column.
    pub fn line(&mut self, indent: usize, key: &str, value: &str) {
        let width = if indent == 0 { 18 } else { 14 };
        let line = format!("{:indent$}{key:<width$}{value}", "");
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// `key=value` pairs under one another.
    pub fn pairs(&mut self, key: &str, pairs: Option<&coracle_api_meta::Map>, sign: &str) {
        let hidden = "kubectl.kubernetes.io/last-applied-configuration";
        let mut all: Vec<String> = pairs
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != hidden)
            .map(|(name, value)| format!("{name}{sign}{}", value.as_str().unwrap_or_default()))
            .collect();
        all.sort();
        let mut lines = all.iter();
        self.line(0, key, lines.next().map_or("<none>", String::as_str));
        for line in lines {
            self.line(0, "", line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        for (time, wanted) in [
            ("2026-01-01T23:59:47Z", "13s"),
            ("2026-01-01T23:55:47Z", "4m13s"),
            ("2026-01-01T23:00:00Z", "60m"),
            ("2026-01-01T20:30:00Z", "3h30m"),
            ("2025-12-25T00:00:00Z", "8d"),
            ("", "<unknown>"),
        ] {
            assert_eq!(age(time, now), wanted, "{time}");
        }
    }
}
