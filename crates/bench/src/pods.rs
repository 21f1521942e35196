//! The way of a pod from POST to Running, as a watcher sees it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use coracle_api_meta::{Gvr, Value};
use coracle_client::{DeleteParams, DynamicApi, ListParams, WatchEvent, WatchStream, WriteParams};
use serde_json::json;

use crate::figures::{Figures, HEADING};
use crate::{Target, process};

/// A pod that is not Running after this long ends the run.
const RUNNING_WAIT_MAX: Duration = Duration::from_secs(120);

/// How many pods, of which image.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Image that is on the node already.
    #[arg(long)]
    image: String,
    /// Command of the container, split at spaces [default: the image's].
    #[arg(long)]
    command: Option<String>,
    /// Pods, one after another.
    #[arg(long, default_value_t = 50)]
    count: usize,
    /// Pods of the first round, which are not counted.
    #[arg(long, default_value_t = 3)]
    warm_up: usize,
}

/// Measures and prints one line.
pub async fn run(options: Options) -> Result<()> {
    let client = options.target.client()?;
    options.target.make_namespace(&client).await?;
    let pods = DynamicApi::namespaced(&client, &Gvr::new("", "v1", "pods"), &options.target.namespace);
    let page: Value = serde_json::from_slice(&pods.list_page(&ListParams::default()).await?)?;
    let version = page.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    let params = ListParams { resource_version: version.to_owned(), ..ListParams::default() }.labels("app=bench-pods");
    let mut stream = pods.watch(&params).await?;
    let mut figures = Figures::default();
    let (mut cpu, mut begin) = (None, Instant::now());
    for index in 0..options.warm_up + options.count {
        if index == options.warm_up {
            cpu = process::cpu_seconds(&options.target.server_pids)?;
            begin = Instant::now();
        }
        let name = format!("bench-{}-{index}", std::process::id());
        let latency = start_one(&pods, &mut stream, &options, &name).await.with_context(|| format!("pod {name}"))?;
        if index >= options.warm_up {
            figures.add(latency);
        }
        pods.delete(&name, &DeleteParams::default().grace(0)).await?;
    }
    figures.wall = begin.elapsed();
    let after = process::cpu_seconds(&options.target.server_pids)?;
    figures.server_cpu = after.zip(cpu).map(|(after, before)| after - before);
    println!("{HEADING}\n{}", figures.line("pod to Running"));
    Ok(())
}

async fn start_one(pods: &DynamicApi, stream: &mut WatchStream, options: &Options, name: &str) -> Result<Duration> {
    let mut container = json!({"name": "main", "image": options.image, "imagePullPolicy": "IfNotPresent"});
    if let Some(command) = &options.command {
        container["command"] = command.split_whitespace().collect::<Vec<_>>().into();
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench-pods"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    });
    let start = Instant::now();
    pods.create(pod.to_string().into_bytes(), &WriteParams::default()).await?;
    loop {
        match tokio::time::timeout(RUNNING_WAIT_MAX, stream.next()).await.context("not Running in time")?? {
            Some(WatchEvent::Modified(bytes) | WatchEvent::Added(bytes)) => {
                let seen: Value = serde_json::from_slice(&bytes)?;
                let is = |pointer, wanted| seen.pointer(pointer).and_then(Value::as_str) == Some(wanted);
                if is("/metadata/name", name) && is("/status/phase", "Running") {
                    return Ok(start.elapsed());
                }
                if is("/metadata/name", name) && is("/status/phase", "Failed") {
                    bail!("it failed");
                }
            }
            Some(_) => {}
            None => bail!("the watch ended"),
        }
    }
}
