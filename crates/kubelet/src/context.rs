//! What all parts of one kubelet share.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_client::{Client, EventRecorder, Informer};
use coracle_cri::RuntimeService;
use coracle_plan_pods::{NodeFacts, pod_reference};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::images::ImagePuller;
use crate::objects::ObjectCache;
use crate::tokens::TokenCache;
use crate::users::UserRanges;
use crate::{Config, source::Workers};

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) images: ImagePuller,
    pub(crate) events: EventRecorder,
    pub(crate) services: Informer<Service>,
    pub(crate) config_maps: ObjectCache<ConfigMap>,
    pub(crate) secrets: ObjectCache<Secret>,
    pub(crate) tokens: TokenCache,
    pub(crate) runtime_version: String,
    pub(crate) facts: NodeFacts,
    pub(crate) machine: coracle_host::info::Machine,
    pub(crate) workers: Workers,
    pub(crate) admission: Admission,
    pub(crate) users: UserRanges,
    pub(crate) stop: CancellationToken,
}

pub(crate) type Ctx = Arc<Context>;

impl Context {
    /// Folder of everything that belongs to a pod but its logs.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.config.root_dir.join("pods")
    }

    /// Source: kubelet `BuildPodLogsDirectory`.
    pub(crate) fn pod_log_dir(&self, pod: &Pod) -> PathBuf {
        self.config.pod_logs_dir.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }

    pub(crate) fn normal(&self, pod: &Pod, container: Option<&Container>, reason: &str, message: &str) {
        self.events.normal(&pod_reference(pod, container), reason, message);
    }

    pub(crate) fn warning(&self, pod: &Pod, container: Option<&Container>, reason: &str, message: &str) {
        self.events.warning(&pod_reference(pod, container), reason, message);
    }
}
