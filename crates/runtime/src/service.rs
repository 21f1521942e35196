//! The runtime side of the CRI.

use std::time::Duration;

use async_trait::async_trait;
use coracle_cri::{
    AttachRequest, BoxStream, ContainerConfig, ContainerStats, ContainerStatus, EventReceiver, ExecRequest,
    ExecStreams, ExecSync, LinuxContainerResources, PodSandboxConfig, PodSandboxStats, PodSandboxStatus, Result,
    RuntimeService, RuntimeStatus, RuntimeVersion,
};

use crate::runtime::{Runtime, blocking};
use crate::sandbox::HANDLERS;
use crate::spec::Call;

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self) -> Result<RuntimeVersion> {
        Ok(RuntimeVersion { runtime_name: "coracle".into(), runtime_version: env!("CARGO_PKG_VERSION").into() })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        Ok(RuntimeStatus {
            runtime_ready: Ok(()),
            network_ready: self.network.ready().await,
            handlers: HANDLERS.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        self.me().run_sandbox(config, runtime_handler).await
    }

    async fn stop_pod_sandbox(&self, sandbox_id: &str) -> Result<()> {
        self.me().stop_sandbox(sandbox_id).await
    }

    async fn remove_pod_sandbox(&self, sandbox_id: &str) -> Result<()> {
        self.me().remove_sandbox(sandbox_id).await
    }

    async fn pod_sandbox_status(&self, sandbox_id: &str) -> Result<PodSandboxStatus> {
        Ok(Runtime::sandbox_status(&self.sandbox(sandbox_id)?))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.state().sandboxes.values().map(Runtime::sandbox_status).collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<String> {
        self.me().make_container(sandbox_id, config, sandbox).await
    }

    async fn start_container(&self, container_id: &str) -> Result<()> {
        self.me().run_container(container_id).await
    }

    async fn stop_container(&self, container_id: &str, timeout: Duration) -> Result<()> {
        self.me().end_container(container_id, timeout).await
    }

    async fn remove_container(&self, container_id: &str) -> Result<()> {
        self.me().delete_container(container_id).await
    }

    async fn container_status(&self, container_id: &str) -> Result<ContainerStatus> {
        Ok(self.status_of(&self.container(container_id)?))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        let containers = self.state().containers.values().cloned().collect::<Vec<_>>();
        Ok(containers.iter().map(|container| self.status_of(container)).collect())
    }

    async fn update_container_resources(&self, container_id: &str, resources: &LinuxContainerResources) -> Result<()> {
        self.me().change_limits(container_id, resources).await
    }

    async fn reopen_container_log(&self, container_id: &str) -> Result<()> {
        let container = self.container(container_id)?;
        self.shim_of(&container)?.order(Call::ReopenLog { container: container_id.to_owned() }).await
    }

    async fn exec_sync(&self, container_id: &str, command: &[String], timeout: Option<Duration>) -> Result<ExecSync> {
        self.run_exec(container_id, command, timeout).await
    }

    async fn exec(&self, container_id: &str, request: &ExecRequest) -> Result<ExecStreams> {
        self.start_exec(container_id, request).await
    }

    async fn attach(&self, container_id: &str, request: &AttachRequest) -> Result<ExecStreams> {
        self.me().start_attach(container_id, request).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<BoxStream> {
        self.forward(sandbox_id, port).await
    }

    async fn container_stats(&self, container_id: &str) -> Result<ContainerStats> {
        let container = self.container(container_id)?;
        let runtime = self.me();
        blocking(move || Ok(runtime.stats_of(&container))).await
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>> {
        let runtime = self.me();
        blocking(move || {
            let containers = runtime.state().containers.values().cloned().collect::<Vec<_>>();
            let running = containers.iter().filter(|container| container.is_running());
            Ok(running.map(|container| runtime.stats_of(container)).collect())
        })
        .await
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>> {
        let runtime = self.me();
        blocking(move || {
            let sandboxes = runtime.state().sandboxes.values().cloned().collect::<Vec<_>>();
            Ok(sandboxes.iter().filter_map(|sandbox| runtime.sandbox_stats(sandbox)).collect())
        })
        .await
    }

    fn events(&self) -> EventReceiver {
        EventReceiver::new(self.events.subscribe())
    }

    async fn update_pod_cidr(&self, pod_cidr: &str) -> Result<()> {
        self.network.set_pod_cidr(pod_cidr).await
    }
}
