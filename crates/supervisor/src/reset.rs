//! Undoing everything a cluster did to the host.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use coracle_bootstrap::{ClusterFolder, Remembered, kept_settings, remembered_kubeconfigs, remove_from_kubeconfig};
use coracle_host_net::Kernel;
use coracle_network::Network;
use coracle_runtime::Runtime;

use crate::Names;
use crate::node::{network_config, open_images, proxy_config};

/// Stops the pods of a cluster that is not running, and removes what it made. The caller holds the folder's lock.
/// Returns what could not be removed.
pub async fn reset(folder: &ClusterFolder) -> Result<Vec<String>> {
    let settings = kept_settings(folder)?;
    let names = Names::of(&settings)?;
    let mut left = Vec::new();
    if crate::is_root() {
        // The bridge is made before the node's folder is.
        left.extend(reset_node(folder, &settings, &names).await?);
    }
    for Remembered { path, former_context } in remembered_kubeconfigs(folder)? {
        if let Err(error) = remove_from_kubeconfig(&path, "coracle", &former_context) {
            left.push(format!("the context in {}: {error:#}", path.display()));
        }
    }
    left.extend(remove_folder(&names.run_dir));
    left.extend(remove_folder(folder.root()));
    Ok(left)
}

async fn reset_node(
    folder: &ClusterFolder,
    settings: &coracle_bootstrap::ClusterSettings,
    names: &Names,
) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let host = Arc::new(Kernel::new().context("open netlink")?);
    let network_config = network_config(names);
    let config = crate::cluster::Config {
        api: crate::ApiOptions::default(),
        folder: folder.clone(),
        settings: settings.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        node: true,
        shim: std::env::current_exe().context("find this binary")?,
        registries: Default::default(),
    };
    match Network::start(network_config.clone(), host.clone()).await {
        Ok(_) if !folder.node().exists() => {}
        Ok(network) => {
            let images = open_images(folder, Default::default()).await.context("open the images")?;
            let runtime = Runtime::start(crate::node::runtime_config(&config, names), images, network).await;
            match runtime {
                Ok(runtime) => left.extend(runtime.reset().await),
                Err(error) => left.push(format!("pods: {error}")),
            }
        }
        Err(error) => left.push(format!("pods: {error:#}")),
    }
    // Nobody's processes are left in them: these are the groups of the classes of pods.
    let group = coracle_host::cgroup::Cgroups::discover().and_then(|groups| groups.group(&names.cgroup_root)?.remove());
    if let Err(error) = group {
        left.push(error.to_string());
    }
    if let Err(error) = coracle_proxy::reset(&proxy_config(&settings.node_name, names), &*host).await {
        left.push(format!("service rules: {error:#}"));
    }
    let network = coracle_network::reset(&network_config, &*host).await;
    left.extend(network.into_iter().map(|leftover| format!("{}: {}", leftover.what, leftover.why)));
    let mounts = coracle_host::mount::umount_below(folder.root());
    match mounts {
        Ok(failed) => left.extend(failed.into_iter().map(|(path, error)| format!("{}: {error}", path.display()))),
        Err(error) => left.push(error.to_string()),
    }
    Ok(left)
}

fn remove_folder(path: &std::path::Path) -> Option<String> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}
