//! `logs`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use coracle_api_meta::{Gvr, Value, object::ObjectExt as _};
use coracle_client::{DynamicApi, Error, ListParams};
use http::{Request, header};
use http_body_util::BodyExt as _;

use super::connection::{Connection, worded};

#[derive(Debug, Args)]
pub struct Options {
    /// `POD` or `pod/POD`.
    pod: Option<String>,
    /// Container, where the pod has several.
    #[arg(long, short)]
    container: Option<String>,
    /// Goes on with what is written.
    #[arg(long, short)]
    follow: bool,
    /// The container before the last restart.
    #[arg(long, short)]
    previous: bool,
    #[arg(long)]
    timestamps: bool,
    /// Lines from the end.
    #[arg(long)]
    tail: Option<i64>,
    /// Seconds, or a duration such as 5m.
    #[arg(long)]
    since: Option<String>,
    /// Pods by label instead of by name.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let api = DynamicApi::namespaced(&connection.client, &Gvr::new("", "v1", "pods"), &connection.namespace);
    let names = match &options.pod {
        Some(pod) => vec![pod.trim_start_matches("pod/").trim_start_matches("pods/").to_owned()],
        None if !options.selector.is_empty() => {
            let params = ListParams::default().labels(&options.selector);
            api.list(&params).await.map_err(worded)?.iter().map(|pod| pod.name().to_owned()).collect()
        }
        None => bail!(
            "error: expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command\nSee 'kubectl logs -h' for help and examples"
        ),
    };
    for name in names {
        let pod = api.get(&name).await.map_err(|error| in_namespace(error, &connection.namespace))?;
        let pod: Value = serde_json::from_slice(&pod)?;
        let container = container(options, &pod)?;
        one(connection, options, &api.path(&name, "log"), &container).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The named container, the annotated default one, or the first.
fn container(options: &Options, pod: &Value) -> Result<String> {
    if let Some(name) = &options.container {
        return Ok(name.clone());
    }
    let default = pod.annotations().and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container"));
    if let Some(name) = default.and_then(Value::as_str) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = pod
        .at(&["spec", "containers"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|one| one.str_at(&["name"]))
        .collect();
    let Some(first) = names.first() else { bail!("error: pod {} has no containers", pod.name()) };
    if names.len() > 1 {
        eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Ok((*first).to_owned())
}

async fn one(connection: &Connection, options: &Options, path: &str, container: &str) -> Result<()> {
    let mut uri = format!("{path}?container={container}");
    for (name, wanted) in
        [("follow", options.follow), ("previous", options.previous), ("timestamps", options.timestamps)]
    {
        if wanted {
            uri.push_str(&format!("&{name}=true"));
        }
    }
    if let Some(tail) = options.tail.filter(|tail| *tail >= 0) {
        uri.push_str(&format!("&tailLines={tail}"));
    }
    if let Some(since) = &options.since {
        uri.push_str(&format!("&sinceSeconds={}", seconds(since)?));
    }
    let request = Request::get(uri).header(header::ACCEPT, "*/*").body(Bytes::new())?;
    let mut body = connection.client.send(request).await.map_err(worded)?.into_body();
    let mut out = std::io::stdout().lock();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| anyhow::anyhow!(error))?.into_data() {
            out.write_all(&data)?;
            out.flush()?;
        }
    }
    Ok(())
}

/// `90`, `90s`, `5m`, `1h30m`.
fn seconds(text: &str) -> Result<u64> {
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => bail!("error: invalid duration {text:?}"),
        };
        total = total.saturating_add(number.parse::<u64>().unwrap_or_default().saturating_mul(unit));
        number.clear();
    }
    if number.is_empty() { Ok(total) } else { Ok(total.saturating_add(number.parse()?)) }
}

/// kubectl looks pods up for logs in a way of its own, and says so.
fn in_namespace(error: Error, namespace: &str) -> anyhow::Error {
    match error {
        Error::Api(status) if status.code == 404 => {
            anyhow::anyhow!("error: error from server (NotFound): {} in namespace {namespace:?}", status.message)
        }
        other => worded(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, wanted) in [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400)] {
            assert_eq!(seconds(text).expect("duration"), wanted, "{text}");
        }
        assert!(seconds("x").is_err());
    }
}
