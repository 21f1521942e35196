//! Operations on objects, by parallel clients.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use coracle_api_meta::Gvr;
use coracle_client::{Client, DeleteParams, DynamicApi, ListParams, Patch, PatchParams, WatchEvent, WriteParams};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::figures::{Figures, HEADING};
use crate::{Target, process};

/// How much work.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Requests under way at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Objects to create, read, patch and delete.
    #[arg(long, default_value_t = 2000)]
    objects: usize,
    /// Whole lists to read.
    #[arg(long, default_value_t = 20)]
    lists: usize,
    /// Whole lists that are read at once, in JSON and in protobuf, while the server's memory is watched; 0 for none.
    #[arg(long, default_value_t = 0)]
    parallel_lists: usize,
    /// Watchers that each get every event.
    #[arg(long, default_value_t = 200)]
    watchers: usize,
    /// Events that each watcher gets.
    #[arg(long, default_value_t = 300)]
    events: usize,
}

struct Run {
    options: Options,
    pods: DynamicApi,
    config_maps: DynamicApi,
}

/// Measures every operation in turn and prints a line for each.
pub async fn run(options: Options) -> Result<()> {
    let client = options.target.client()?;
    options.target.make_namespace(&client).await?;
    let namespace = options.target.namespace.clone();
    let api = |client: &Client, resource| DynamicApi::namespaced(client, &Gvr::new("", "v1", resource), &namespace);
    let run = Arc::new(Run { pods: api(&client, "pods"), config_maps: api(&client, "configmaps"), options });
    run.sweep().await?;
    println!("{HEADING}");
    run.measure().await?;
    run.sweep().await?;
    if let Some(bytes) = process::resident_bytes(&run.options.target.server_pids).filter(|bytes| *bytes > 0) {
        println!("server resident memory {:.1} MiB", bytes_to_mib(bytes));
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn bytes_to_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench", "shard": name.chars().last().map(String::from)}},
        "spec": {
            // No scheduler of this name exists, so that the pods stay where they are.
            "schedulerName": "coracle-bench-none",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "web", "image": "registry.example/web:1.0", "args": ["--port=8080"],
                "env": [{"name": "MODE", "value": "bench"}],
                "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
            }],
        },
    })
}

/// Most memory that the server was seen to hold during a step.
static PEAK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Reads a list without keeping it.
async fn read_through(api: &DynamicApi, accept: &str) -> coracle_client::Result<()> {
    let request = http::Request::get(api.path("", "")).header("accept", accept).body(Default::default());
    let request = request.map_err(|error| coracle_client::Error::Config(error.to_string()))?;
    let mut body = api.client().send(request).await?.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| coracle_client::Error::Config(error.to_string()))?;
    }
    Ok(())
}

impl Run {
    async fn sweep(&self) -> Result<()> {
        let now = DeleteParams::default().grace(0);
        let mine = ListParams::default().labels("app=bench");
        for api in [&self.pods, &self.config_maps] {
            api.delete_collection(&now, &mine).await.context("remove objects of an earlier run")?;
        }
        Ok(())
    }

    async fn measure(self: &Arc<Self>) -> Result<()> {
        let n = self.options.objects;
        let clients = self.options.clients;
        self.step("create configmap (1)", 1, n.min(1000), |run, i| async move {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("bench-{i}"), "labels": {"app": "bench"}}, "data": {"key": "value"}});
            run.config_maps.create(object.to_string().into_bytes(), &WriteParams::default()).await.map(drop)
        })
        .await?;
        self.step("create pod", clients, n, |run, i| async move {
            run.pods
                .create(pod(&format!("bench-{i}")).to_string().into_bytes(), &WriteParams::default())
                .await
                .map(drop)
        })
        .await?;
        self.step("get pod", clients, n * 5, move |run, i| async move {
            run.pods.get(&format!("bench-{}", i % n)).await.map(drop)
        })
        .await?;
        self.step("list pods, all", 1, self.options.lists, |run, _| async move {
            run.pods.list_page(&ListParams::default()).await.map(drop)
        })
        .await?;
        self.parallel_lists().await?;
        self.step("list pods, by label", clients, self.options.lists * 10, |run, i| async move {
            run.pods.list_page(&ListParams::default().labels(&format!("shard={}", i % 10))).await.map(drop)
        })
        .await?;
        self.step("merge patch pod", clients, n, |run, i| async move {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"bench": i.to_string()}}}));
            run.pods.patch(&format!("bench-{i}"), "", &patch, &PatchParams::default()).await.map(drop)
        })
        .await?;
        self.step("apply pod", clients, n, |run, i| async move {
            let name = format!("bench-{i}");
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {"applied": i.to_string()}}});
            run.pods.patch(&name, "", &Patch::Apply(object), &PatchParams::apply("bench")).await.map(drop)
        })
        .await?;
        self.watch_step().await?;
        self.step("delete pod", clients, n, |run, i| async move {
            run.pods.delete(&format!("bench-{i}"), &DeleteParams::default().grace(0)).await.map(drop)
        })
        .await
    }

    /// `count` operations by `clients` tasks.
    async fn step<F, Fut>(self: &Arc<Self>, name: &str, clients: usize, count: usize, operation: F) -> Result<()>
    where
        F: Fn(Arc<Self>, usize) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = coracle_client::Result<()>> + Send,
    {
        let cpu = process::cpu_seconds(&self.options.target.server_pids)?;
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for first in 0..clients {
            let run = self.clone();
            tasks.spawn(async move {
                let mut figures = Figures::default();
                let mut index = first;
                while index < count {
                    let start = Instant::now();
                    match operation(run.clone(), index).await {
                        Ok(()) => figures.add(start.elapsed()),
                        Err(_) => figures.errors += 1,
                    }
                    index += clients;
                }
                figures
            });
        }
        let mut figures = Figures::default();
        while let Some(part) = tasks.join_next().await {
            figures.merge(part?);
        }
        figures.wall = begin.elapsed();
        self.report(name, figures, cpu)
    }

    fn report(&self, name: &str, mut figures: Figures, cpu_before: Option<f64>) -> Result<()> {
        let after = process::cpu_seconds(&self.options.target.server_pids)?;
        figures.server_cpu = after.zip(cpu_before).map(|(after, before)| after - before);
        println!("{}", figures.line(name));
        Ok(())
    }

    /// All lists at once, each thrown away piece by piece.
    async fn parallel_lists(self: &Arc<Self>) -> Result<()> {
        let count = self.options.parallel_lists;
        if count == 0 {
            return Ok(());
        }
        for (name, accept) in [("json", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")] {
            let pids = self.options.target.server_pids.clone();
            let before = process::resident_bytes(&pids).unwrap_or(0);
            let watching = tokio::spawn(async move {
                let mut peak = 0;
                loop {
                    peak = process::resident_bytes(&pids).unwrap_or(0).max(peak);
                    PEAK.store(peak, std::sync::atomic::Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            let title = format!("{count} lists at once, {name}");
            let step =
                self.step(&title, count, count, move |run, _| async move { read_through(&run.pods, accept).await });
            let result = step.await;
            watching.abort();
            result?;
            let peak = PEAK.load(std::sync::atomic::Ordering::Relaxed);
            println!(
                "  server resident memory {:.1} MiB before, {:.1} MiB at most",
                bytes_to_mib(before),
                bytes_to_mib(peak)
            );
        }
        Ok(())
    }

    /// Every watcher must see every event; latency is from the write's start to the last watcher's sight of it.
    async fn watch_step(self: &Arc<Self>) -> Result<()> {
        let (watchers, events) = (self.options.watchers, self.options.events);
        if watchers == 0 || events == 0 {
            return Ok(());
        }
        let page: Value = serde_json::from_slice(&self.config_maps.list_page(&ListParams::default()).await?)?;
        let version = page.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut tasks = JoinSet::new();
        for _ in 0..watchers {
            let params = ListParams { resource_version: version.clone(), ..ListParams::default() };
            let mut stream = self.config_maps.watch(&params).await?;
            tasks.spawn(async move {
                let mut seen = Vec::with_capacity(events);
                while seen.len() < events {
                    match tokio::time::timeout(Duration::from_secs(60), stream.next()).await {
                        Ok(Ok(Some(WatchEvent::Modified(_)))) => seen.push(Instant::now()),
                        Ok(Ok(Some(_))) => {}
                        _ => break,
                    }
                }
                seen
            });
        }
        let cpu = process::cpu_seconds(&self.options.target.server_pids)?;
        let begin = Instant::now();
        let mut sent = Vec::with_capacity(events);
        for index in 0..events {
            sent.push(Instant::now());
            let patch = Patch::Merge(json!({"data": {"key": index.to_string()}}));
            self.config_maps.patch("bench-0", "", &patch, &PatchParams::default()).await?;
        }
        let mut figures = Figures::default();
        while let Some(seen) = tasks.join_next().await {
            let seen = seen?;
            figures.errors += events - seen.len();
            for (sent, seen) in sent.iter().zip(&seen) {
                figures.add(seen.saturating_duration_since(*sent));
            }
        }
        figures.wall = begin.elapsed();
        self.report(&format!("watch ({watchers})"), figures, cpu)
    }
}
