//! After a restart: what runs is adopted, what was left half made is cleared away. And the reverse: reset.

use std::sync::Arc;

use coracle_cri::Result;
use coracle_host::{fs as host_fs, mount};

use crate::client::ShimClient;
use crate::records::{Phase, SandboxRecord};
use crate::runtime::{Container, Runtime, Sandbox, internal};
use crate::sandbox::network_request;
use crate::spec::{Answer, Call};

impl Runtime {
    /// Reads the records and finds the shims. Nothing that runs is disturbed.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Result<()> {
        let (containers, sandboxes) = (self.folders.load_containers(), self.folders.load_sandboxes());
        let live = sandboxes.iter().filter(|record| record.phase == Phase::Ready).filter_map(network_request);
        self.network.reconcile(&live.collect::<Vec<_>>()).await?;
        for record in containers {
            let mut run = self.folders.run_state(&record.id);
            if run.started_at != 0 && run.finished_at == 0 && run.boot_id != self.boot_id {
                // It ended with the machine.
                run.pid = 0;
            }
            self.state().containers.insert(record.id.clone(), Container::new(record, run));
        }
        for record in sandboxes {
            self.adopt_sandbox(record).await;
        }
        self.drop_orphans().await;
        let (images, in_use) = (self.images.clone(), self.layers_in_use());
        crate::runtime::blocking(move || images.collect(&in_use).map_err(internal).map(drop)).await
    }

    async fn adopt_sandbox(self: &Arc<Self>, record: SandboxRecord) {
        let id = record.id.clone();
        let shim = self.connect_shim(&id).ok();
        if record.phase == Phase::Creating {
            return self.clear_sandbox(&record, shim.as_deref()).await;
        }
        let was_ready = record.phase == Phase::Ready;
        let sandbox = Sandbox { record, shim: shim.clone(), turn: Arc::default() };
        self.state().sandboxes.insert(id.clone(), sandbox);
        match shim {
            Some(shim) if was_ready => self.learn_states(&id, &shim).await,
            _ => {
                if let Err(error) = self.stop_sandbox(&id).await {
                    tracing::warn!(sandbox = id, %error, "a sandbox without a shim cannot be stopped");
                }
                self.lose_containers(&id).await;
            }
        }
    }

    /// Hears from a shim how its containers are.
    pub(crate) async fn learn_states(&self, sandbox: &str, shim: &ShimClient) {
        match shim.call(Call::List).await {
            Ok(Answer::States(states)) => {
                for (container, state) in states {
                    self.adopt_state(&container, state);
                }
            }
            other => tracing::warn!(sandbox, answer = ?other, "a shim does not list its containers"),
        }
    }

    fn adopt_state(&self, container: &str, run: crate::spec::RunState) {
        if run.finished_at != 0 {
            self.container_exited(container, run);
        } else if let Some(container) = self.state().containers.get_mut(container) {
            container.run = run;
        }
    }

    /// Containers whose sandbox is gone.
    async fn drop_orphans(self: &Arc<Self>) {
        let orphans = {
            let state = self.state();
            let lost = |container: &&Container| !state.sandboxes.contains_key(&container.record.sandbox_id);
            state.containers.values().filter(lost).map(|container| container.record.clone()).collect::<Vec<_>>()
        };
        for record in orphans {
            self.remove_container_files(&record.id, &record.cgroup);
            self.state().containers.remove(&record.id);
        }
    }

    /// Stops every pod and removes all that this runtime made on the machine. Returns what could not be removed.
    pub async fn reset(self: &Arc<Self>) -> Vec<String> {
        let mut left = Vec::new();
        let mut parents = std::collections::BTreeSet::new();
        let ids = self.state().sandboxes.keys().cloned().collect::<Vec<_>>();
        for id in ids {
            if let Ok(sandbox) = self.sandbox(&id) {
                parents.insert(sandbox.record.config.linux.cgroup_parent.clone());
            }
            if let Err(error) = self.remove_sandbox(&id).await {
                left.push(format!("sandbox {id}: {error}"));
            }
        }
        let runtime = self.clone();
        let rest = tokio::task::spawn_blocking(move || runtime.remove_rest(parents)).await;
        left.extend(rest.unwrap_or_else(|error| vec![error.to_string()]));
        left
    }

    fn remove_rest(&self, parents: std::collections::BTreeSet<String>) -> Vec<String> {
        let mut left = Vec::new();
        let mut cgroups = parents;
        cgroups.insert(self.config.shim_cgroup.clone());
        for path in cgroups {
            left.extend(self.remove_cgroup(&path));
        }
        for folder in [&self.folders.run, &self.folders.data, &self.config.data_dir] {
            match mount::umount_below(folder) {
                Ok(failed) => {
                    left.extend(failed.into_iter().map(|(path, error)| format!("{}: {error}", path.display())))
                }
                Err(error) => left.push(error.to_string()),
            }
            left.extend(host_fs::remove_all(folder).err().map(|error| error.to_string()));
        }
        left
    }

    /// Removes a cgroup, and its parents as long as nothing else is in them.
    fn remove_cgroup(&self, path: &str) -> Option<String> {
        let group = match self.cgroups.group(path) {
            Ok(group) => group,
            Err(error) => return Some(error.to_string()),
        };
        if let Err(error) = group.remove() {
            return Some(error.to_string());
        }
        let mut path = path.trim_end_matches('/');
        while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            path = parent;
            match self.cgroups.group(parent) {
                Ok(group) if group.remove_empty().is_none() => {}
                _ => break,
            }
        }
        None
    }
}
