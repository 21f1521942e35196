//! The groups of the Burstable and BestEffort pods: what each class gets of the processors when all want them.
//!
//! Pods without requests get next to nothing, burstable ones together what they asked for. Source: kubelet
//! `qosContainerManagerImpl`.

use std::time::Duration;

use coracle_host::cgroup::{Cgroups, Limits};
use coracle_plan_pods::qos::{QosClass, qos_class};
use coracle_plan_pods::resources::{cpu_shares, pod_requests, quantity};
use k8s_openapi::api::core::v1::Pod;

use crate::context::Ctx;
use crate::source::Snapshot;

/// Changes that come together make one.
const SETTLE: Duration = Duration::from_secs(1);

/// Keeps the weights as the node's pods want them.
pub(crate) async fn keep(ctx: Ctx) {
    let mut in_force = None;
    loop {
        let snapshots = ctx.workers.snapshots();
        let wanted = burstable_shares(snapshots.values());
        if in_force != Some(wanted) {
            let root = ctx.config.cgroup_root.trim_matches('/').to_owned();
            match tokio::task::spawn_blocking(move || set(&root, wanted)).await {
                Ok(Ok(())) => in_force = Some(wanted),
                Ok(Err(error)) => tracing::warn!(%error, "weights of the classes of pods"),
                Err(error) => tracing::warn!(%error, "weights of the classes of pods"),
            }
        }
        ctx.workers.changed().await;
        tokio::time::sleep(SETTLE).await;
    }
}

fn set(root: &str, burstable: u64) -> coracle_host::Result<()> {
    let groups = Cgroups::discover()?;
    for (class, cpu_shares) in [(QosClass::Burstable, burstable), (QosClass::BestEffort, cpu_shares(0))] {
        let Some(name) = class.cgroup() else { continue };
        let group = groups.group(&format!("{root}/{name}"))?;
        group.create()?;
        group.set(&Limits { cpu_shares, ..Limits::default() })?;
    }
    Ok(())
}

/// Shares of all burstable pods that have not ended.
fn burstable_shares<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> u64 {
    let milli = snapshots.filter_map(|snapshot| {
        let phase = snapshot.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let pod = snapshot.pod.as_deref()?;
        (!matches!(phase, "Succeeded" | "Failed")).then(|| milli_of(pod))
    });
    cpu_shares(milli.sum())
}

fn milli_of(pod: &Pod) -> i64 {
    if qos_class(pod) != QosClass::Burstable {
        return 0;
    }
    quantity(Some(&pod_requests(pod)), "cpu").map_or(0, |quantity| quantity.milli_value())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::json;

    use super::*;

    fn snapshot(phase: &str, resources: &serde_json::Value) -> Snapshot {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        let status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        Snapshot {
            pod: Some(Arc::new(serde_json::from_value(pod).expect("a pod"))),
            status: Some(Arc::new(status)),
            runtime: Arc::default(),
        }
    }

    #[test]
    fn burstable_pods_that_run_count() {
        let burstable = json!({"requests": {"cpu": "500m"}});
        let all = [
            snapshot("Running", &burstable),
            snapshot("Pending", &burstable),
            snapshot("Failed", &burstable),
            snapshot("Running", &json!({})),
            snapshot("Running", &json!({"limits": {"cpu": "2", "memory": "1Mi"}})),
        ];
        assert_eq!(burstable_shares(all.iter()), 1024);
        assert_eq!(burstable_shares([].iter()), 2);
    }
}
