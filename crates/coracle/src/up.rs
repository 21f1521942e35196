//! `coracle up`: a whole cluster in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use coracle_bootstrap::{Asked, ClusterFolder, ClusterSettings, FORMAT_VERSION};
use coracle_client::Kubeconfig;
use coracle_supervisor::{Cluster, Config};
use tokio::signal::unix::{SignalKind, signal};

/// Addresses of a cluster that the user said nothing about.
const POD_CIDR: &str = "10.244.0.0/24";
const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Pods are killed for want of memory before what runs them. Source: kubelet `--oom-score-adj`.
const OOM_SCORE: i32 = -999;
/// Longest value of a label.
const LABEL_BYTES_MAX: usize = 63;
const LISTEN: &str = "127.0.0.1:6443";

#[derive(Debug, Args)]
pub struct Options {
    /// Kubeconfig to put the context `coracle` into [default: $KUBECONFIG or ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Folder that holds the cluster [default: /var/lib/coracle].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to serve the API [default: 127.0.0.1:6443].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Name of this node [default: the host's name].
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Addresses of pods [default: 10.244.0.0/24].
    #[arg(long, value_name = "CIDR")]
    pod_cidr: Option<String>,
    /// Addresses of services [default: 10.96.0.0/16].
    #[arg(long, value_name = "CIDR")]
    service_cidr: Option<String>,
    /// Only the control plane: no pods run here, and root is not needed.
    #[arg(long)]
    no_node: bool,
    /// Also deploys a small web application, calls it through its Service and shows the answer.
    #[arg(long, conflicts_with = "no_node")]
    demo: bool,
    #[command(flatten)]
    registries: crate::registries::Options,
    /// What to log to standard error: `warn`, `info`, `debug`, or a filter such as `coracle_kubelet=debug`.
    #[arg(long, value_name = "FILTER", default_value = "warn,nlink=error")]
    log: String,
    #[command(flatten)]
    api: crate::api_flags::ApiFlags,
}

pub async fn run(options: Options) -> Result<ExitCode> {
    let begin = Instant::now();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&options.log).context("--log")?)
        .with_writer(std::io::stderr)
        .init();
    if !options.no_node && !coracle_supervisor::is_root() {
        bail!("running pods needs root: run this as root, or with --no-node for the control plane alone");
    }
    coracle_host::process::avoid_huge_pages();
    // Before anything is started, as pods inherit it.
    let open_files = coracle_host::process::raise_open_files();
    tracing::debug!(open_files, "limit of open files");
    if !options.no_node
        && let Err(error) = coracle_host::process::set_oom_score(OOM_SCORE)
    {
        tracing::debug!(%error, "pods may outlive this process when memory runs out");
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let kubeconfig = absolute(&options.kubeconfig.clone().unwrap_or_else(Kubeconfig::default_path))?;
    coracle_bootstrap::check_kubeconfig(&kubeconfig)?;
    let folder = ClusterFolder::new(&absolute(
        &options.data_dir.clone().unwrap_or_else(|| ClusterFolder::default_path(coracle_supervisor::is_root())),
    )?);
    let lock = folder.lock()?;
    let settings = settle(&options, &folder)?;
    say!(
        "Coracle {} (Kubernetes {}), data in {}",
        env!("CARGO_PKG_VERSION"),
        coracle_supervisor::KUBERNETES_VERSION,
        folder.root().display()
    );
    let config = Config {
        listen: address(&settings.listen)?,
        folder: folder.clone(),
        settings,
        node: !options.no_node,
        api: options.api.options()?,
        shim: std::env::current_exe().context("find this binary")?,
        registries: options.registries.settle(|name| std::env::var(name).ok())?,
    };
    let mut code = ExitCode::SUCCESS;
    let interrupted = async {
        tokio::select! {
            _ = interrupt.recv() => code = ExitCode::from(130),
            _ = terminate.recv() => code = ExitCode::from(143),
        }
    };
    let Some(started) = Cluster::start(config, interrupted).await? else { return Ok(code) };
    for step in started.steps() {
        say!("  {:<12}{:>6} ms  {}", step.name, step.at.saturating_duration_since(begin).as_millis(), step.detail);
    }
    let shown = match started.write_kubeconfigs(&kubeconfig) {
        Ok(()) => kubeconfig,
        // The cluster works all the same, and its own file is there.
        Err(error) => {
            eprintln!("coracle: the context is not in {}: {error:#}", kubeconfig.display());
            folder.admin_kubeconfig()
        }
    };
    say!("Ready after {} ms. The context `coracle` is in {}.", begin.elapsed().as_millis(), shown.display());
    say!();
    say!("  kubectl get nodes                    (or: coracle kubectl get nodes)");
    say!("  kubectl create deployment web --image=registry.example/web --replicas=2");
    say!();
    say!(
        "Ctrl-C stops Coracle and leaves the pods running; `coracle up` takes them up again; `coracle reset` removes it all."
    );
    if options.demo {
        crate::demo::run(&started).await?;
    }
    let code = tokio::select! {
        _ = interrupt.recv() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
        why = started.failed() => {
            eprintln!("coracle: {why}");
            ExitCode::FAILURE
        }
    };
    started.stop().await;
    drop(lock);
    Ok(code)
}

/// Relative paths must not change their meaning when a component changes its folder.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("path {}", path.display()))
}

fn address(text: &str) -> Result<SocketAddr> {
    let text = text.replace("localhost", "127.0.0.1");
    text.parse().with_context(|| format!("--listen {text:?} is not ADDRESS:PORT, such as 127.0.0.1:6443"))
}

fn settle(options: &Options, folder: &ClusterFolder) -> Result<ClusterSettings> {
    for (flag, value) in [("--pod-cidr", &options.pod_cidr), ("--service-cidr", &options.service_cidr)] {
        if let Some(value) = value {
            check_cidr(flag, value)?;
        }
    }
    if let Some(name) = &options.node_name
        && let Some(why) = coracle_api_meta::names::is_dns1123_subdomain(name).first()
    {
        bail!("--node-name {name:?}: {why}");
    }
    if let Some(name) = options.node_name.as_ref().filter(|name| name.len() > LABEL_BYTES_MAX) {
        bail!(
            "--node-name {name:?}: must be no more than {LABEL_BYTES_MAX} characters, as it is a label of the node too"
        );
    }
    if let Some(listen) = &options.listen {
        address(listen)?;
    }
    let text = |value: &Option<String>, fallback: &str| value.clone().unwrap_or_else(|| fallback.to_owned());
    let fresh = ClusterSettings {
        format_version: FORMAT_VERSION,
        node_name: text(&options.node_name, &coracle_supervisor::default_node_name()),
        pod_cidr: text(&options.pod_cidr, POD_CIDR),
        service_cidr: text(&options.service_cidr, SERVICE_CIDR),
        cluster_domain: "cluster.local".to_owned(),
        listen: text(&options.listen, LISTEN),
        instance: coracle_supervisor::instance_name(folder.root()),
        begun: false,
    };
    let asked = Asked {
        node_name: options.node_name.as_deref(),
        pod_cidr: options.pod_cidr.as_deref(),
        service_cidr: options.service_cidr.as_deref(),
        listen: options.listen.as_deref(),
    };
    let settings = coracle_bootstrap::settle(folder, &asked, fresh)?;
    check_apart(&settings.pod_cidr, &settings.service_cidr)?;
    Ok(settings)
}

/// Pods and services must be told apart by their addresses.
fn check_apart(pods: &str, services: &str) -> Result<()> {
    let (Ok(pod_net), Ok(service_net)) = (pods.parse::<ipnet::IpNet>(), services.parse::<ipnet::IpNet>()) else {
        return Ok(());
    };
    if pod_net.addr().is_ipv4() != service_net.addr().is_ipv4() {
        bail!("--pod-cidr {pods} and --service-cidr {services} are not of the same family");
    }
    if pod_net.contains(&service_net) || service_net.contains(&pod_net) {
        bail!("--pod-cidr {pods} and --service-cidr {services} overlap: choose networks that do not");
    }
    Ok(())
}

fn check_cidr(flag: &str, text: &str) -> Result<()> {
    let cidr: ipnet::IpNet =
        text.parse().with_context(|| format!("{flag} {text:?} is not a network such as 10.244.0.0/24"))?;
    if cidr.addr() != cidr.network() {
        bail!("{flag} {text:?} has bits set beyond its prefix: did you mean {}?", cidr.trunc());
    }
    if cidr.max_prefix_len() - cidr.prefix_len() < 4 {
        bail!(
            "{flag} {text:?} holds too few addresses: a prefix of /{} or shorter is needed",
            cidr.max_prefix_len() - 4
        );
    }
    Ok(())
}
