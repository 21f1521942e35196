//! What the scheduler knows of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use coracle_api_types::k8s_openapi::api::policy::v1::PodDisruptionBudget;
use coracle_api_types::k8s_openapi::api::storage::v1::StorageClass;
use coracle_plan_core::pod::{is_finished, node_name};

use crate::info::{NamespaceLabels, NodeInfo, PodInfo};

/// Nodes with the pods that are on them or about to be, and the other objects that plugins read.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    /// Uid of each counted pod to its node.
    placed: BTreeMap<String, String>,
    /// Counted on a node although the API does not say so yet.
    assumed: BTreeSet<String>,
    /// Pods of nodes that are not known yet.
    homeless: BTreeMap<String, Arc<PodInfo>>,
    /// Pods that wait for room on a node, by uid.
    pub nominated: BTreeMap<String, (String, Arc<PodInfo>)>,
    pub namespaces: NamespaceLabels,
    pub claims: BTreeMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    pub volumes: BTreeMap<String, Arc<PersistentVolume>>,
    pub classes: BTreeMap<String, Arc<StorageClass>>,
    pub budgets: BTreeMap<ObjectKey, Arc<PodDisruptionBudget>>,
}

impl Cluster {
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// In order of name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.name().to_owned();
        if let Some(info) = self.nodes.get_mut(&name) {
            return info.set_node(node);
        }
        let mut info = NodeInfo::new(node);
        let arriving: Vec<String> =
            self.homeless.iter().filter(|(_, pod)| node_name(&pod.pod) == name).map(|(uid, _)| uid.clone()).collect();
        for uid in arriving {
            if let Some(pod) = self.homeless.remove(&uid) {
                self.placed.insert(uid, name.clone());
                info.add_pod(pod);
            }
        }
        self.nodes.insert(name, info);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.nodes.remove(name) else { return };
        for pod in info.pods {
            let uid = pod.pod.uid().to_owned();
            self.placed.remove(&uid);
            if !self.assumed.remove(&uid) {
                self.homeless.insert(uid, pod);
            }
        }
    }

    /// Takes a pod in as the API shows it. Unassigned pods leave an assumption about them as it is.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        let node = node_name(pod);
        if node.is_empty() {
            return;
        }
        let uid = pod.uid().to_owned();
        self.nominated.remove(&uid);
        self.remove_pod(&uid);
        if !is_finished(pod) {
            self.place(node, Arc::new(PodInfo::new(pod.clone())));
        }
    }

    pub fn remove_pod(&mut self, uid: &str) {
        self.assumed.remove(uid);
        self.homeless.remove(uid);
        if let Some(node) = self.placed.remove(uid)
            && let Some(info) = self.nodes.get_mut(&node)
        {
            info.remove_pod(uid);
        }
    }

    fn place(&mut self, node: &str, pod: Arc<PodInfo>) {
        let uid = pod.pod.uid().to_owned();
        match self.nodes.get_mut(node) {
            Some(info) => {
                self.placed.insert(uid, node.to_owned());
                info.add_pod(pod);
            }
            None => drop(self.homeless.insert(uid, pod)),
        }
    }

    /// Counts the pod on the node before the API shows it there.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        let uid = pod.pod.uid().to_owned();
        self.nominated.remove(&uid);
        self.remove_pod(&uid);
        self.place(node, pod);
        self.assumed.insert(uid);
    }

    /// The binding failed.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.contains(uid) {
            self.remove_pod(uid);
        }
    }

    #[must_use]
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.assumed.contains(uid)
    }
}
