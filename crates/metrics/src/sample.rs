//! What a kubelet says about usage. Source: `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.

use serde::Deserialize;

/// The parts of a summary that are looked at.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Summary {
    pub node: Usage,
    pub pods: Vec<Pod>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    pub pod_ref: PodRef,
    pub containers: Vec<Usage>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodRef {
    pub uid: String,
}

/// Of a node or a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Usage {
    pub name: String,
    /// Counters begin anew with a container.
    pub start_time: String,
    pub cpu: Cpu,
    pub memory: Memory,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// RFC 3339.
    pub time: String,
    pub usage_core_nano_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    pub working_set_bytes: Option<u64>,
}
