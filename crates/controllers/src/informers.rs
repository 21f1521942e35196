//! One informer per kind, shared by all controllers.

use coracle_api_types::Object;
use coracle_client::{Api, Client, Informer, ListParams};
use coracle_driver::Caches;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use tokio_util::sync::CancellationToken;

macro_rules! informers {
    ($($name:ident: $kind:ty $(= $fields:expr)?;)*) => {
        #[derive(Clone)]
        pub struct Informers {
            $(pub $name: Informer<$kind>,)*
        }

        impl Informers {
            pub fn new(client: &Client, stop: &CancellationToken) -> Self {
                Self { $($name: follow(client, stop, [$($fields)?].first().copied().unwrap_or("")),)* }
            }

            pub async fn wait_synced(&self) {
                $(self.$name.wait_synced().await;)*
            }

            pub fn caches(&self) -> Caches {
                let mut caches = Caches::default();
                $(caches.add(&self.$name);)*
                caches
            }
        }
    };
}

fn follow<K: Object>(client: &Client, stop: &CancellationToken, fields: &str) -> Informer<K> {
    Informer::start(Api::all(client), ListParams::default().fields(fields), stop.clone())
}

informers! {
    attributes_classes: VolumeAttributesClass;
    autoscalers: HorizontalPodAutoscaler;
    budgets: PodDisruptionBudget;
    claims: PersistentVolumeClaim;
    classes: StorageClass;
    cluster_roles: ClusterRole;
    config_maps: ConfigMap = "metadata.name=kube-root-ca.crt";
    cron_jobs: CronJob;
    daemon_sets: DaemonSet;
    deployments: Deployment;
    endpoints: Endpoints;
    jobs: Job;
    leases: Lease;
    namespaces: Namespace;
    nodes: Node;
    pods: Pod;
    quotas: ResourceQuota;
    replica_sets: ReplicaSet;
    replication_controllers: ReplicationController;
    requests: CertificateSigningRequest;
    revisions: ControllerRevision;
    service_accounts: ServiceAccount;
    services: Service;
    slices: EndpointSlice;
    stateful_sets: StatefulSet;
    token_secrets: Secret = "type!=Opaque,type!=helm.sh/release.v1";
    volumes: PersistentVolume;
}
