//! Lifecycle hooks of containers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::context::Context;
use crate::probes::http::{self, Target};

/// How long one HTTP hook may take. Source: kubelet's hook client.
const HTTP_WAIT_MAX: Duration = Duration::from_secs(30);

/// Runs a hook to its end; the error goes to the pod's status.
pub(crate) async fn run(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let name = &container.name;
    let text = coracle_plan_pods::pod_text(pod);
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let failed = |error: String, output: String| {
            format!(
                "Exec lifecycle hook ([{shown}]) for Container {name:?} in Pod {text:?} failed - error: {error}, message: {output:?}"
            )
        };
        return match ctx.runtime.exec_sync(container_id, &command, None).await {
            Ok(done) if done.exit_code == 0 => Ok(()),
            Ok(done) => {
                let mut output = done.stdout;
                output.extend_from_slice(&done.stderr);
                let output = String::from_utf8_lossy(&output).into_owned();
                Err(failed(format!("command '{shown}' exited with {}: {output}", done.exit_code), output))
            }
            Err(error) => Err(failed(error.to_string(), String::new())),
        };
    }
    if let Some(get) = &handler.http_get {
        let path = get.path.clone().unwrap_or_default();
        let failed = |error: String| {
            format!("HTTP lifecycle hook ({path}) for Container {name:?} in Pod {text:?} failed - error: {error}")
        };
        let target = Target::of(get, container, pod_ip).map_err(failed)?;
        return http::get(&target, HTTP_WAIT_MAX).await.map(drop).map_err(failed);
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
