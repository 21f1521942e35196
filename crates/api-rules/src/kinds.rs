//! One row per built-in kind. What a row does not say is as in [`BASE`].

use coracle_api_meta::Value;

use crate::at::{At, Errors};
use crate::defaults::{apps, batch, core, other, pod};
use crate::fields;
use crate::meta::NameRule::{Any, Label, Label1035, PathSegment, Subdomain};
use crate::strategy::{Generation, Revalidates, Rules, Status, StatusMeta};
use crate::{prepare, validate};

fn nothing(_: &mut Value) {}
fn nothing_changed(_: &mut Value, _: &Value) {}
fn valid(_: &At<'_>, _: &mut Errors) {}
fn valid_change(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
fn no_warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}

const BASE: Rules = Rules {
    group: "",
    version: "",
    kind: "",
    namespaced: Some(true),
    names: Subdomain,
    default: nothing,
    status: Status::None,
    status_meta: StatusMeta::Written,
    generation: Generation::None,
    create: nothing,
    update: nothing_changed,
    status_update: nothing_changed,
    validate: valid,
    revalidates: Revalidates::First,
    validate_update: valid_change,
    validate_status: valid_change,
    warnings: no_warnings,
    create_on_update: false,
    unconditional_update: true,
    orphans_dependents: false,
    fields: &[],
};

const CLUSTER: Rules = Rules { namespaced: Some(false), ..BASE };
const APPS: Rules = Rules { group: "apps", ..BASE };
const RBAC: Rules = Rules { group: "rbac.authorization.k8s.io", names: PathSegment, create_on_update: true, ..BASE };
const ADMISSION: Rules = Rules {
    group: "admissionregistration.k8s.io",
    generation: Generation::Of("spec"),
    unconditional_update: false,
    ..CLUSTER
};
const STORAGE: Rules = Rules { group: "storage.k8s.io", ..CLUSTER };
const RESOURCE: Rules = Rules { group: "resource.k8s.io", ..BASE };
const NETWORKING: Rules = Rules { group: "networking.k8s.io", ..BASE };

/// Custom resources, and kinds of aggregated servers that ask.
pub(crate) static CUSTOM: Rules = Rules {
    namespaced: None,
    status: Status::Own,
    status_meta: StatusMeta::Kept,
    generation: Generation::AllButMeta,
    unconditional_update: false,
    ..BASE
};

pub(crate) static KINDS: &[Rules] = &[
    // Core.
    Rules {
        kind: "Pod",
        default: pod::pod,
        status: Status::Own,
        status_meta: StatusMeta::Pod,
        generation: Generation::Of("spec"),
        create: prepare::pod::create,
        status_update: prepare::pod::status_update,
        validate: validate::pod::create,
        revalidates: Revalidates::Not,
        validate_update: validate::pod::update::update,
        validate_status: validate::pod::update::status,
        warnings: validate::pod::warnings::pod,
        fields: fields::POD,
        ..BASE
    },
    Rules {
        kind: "PodTemplate",
        default: core::pod_template,
        generation: Generation::Of("template"),
        validate: validate::workloads::pod_template,
        ..BASE
    },
    Rules {
        kind: "Namespace",
        names: Label,
        default: core::namespace,
        status: Status::Own,
        create: prepare::namespace_create,
        update: prepare::namespace_update,
        validate: validate::core::namespace,
        validate_status: validate::core::namespace_status,
        fields: fields::NAMESPACE,
        ..CLUSTER
    },
    Rules {
        kind: "Node",
        default: core::node,
        status: Status::KeptOnCreate,
        create: prepare::node_create,
        validate: validate::node::node,
        validate_update: validate::node::update,
        validate_status: validate::node::status,
        fields: fields::NODE,
        ..CLUSTER
    },
    Rules {
        kind: "Service",
        names: Label1035,
        default: core::service,
        status: Status::Own,
        create: prepare::service::create,
        update: prepare::service::update,
        validate: validate::service::service,
        validate_update: validate::service::update,
        validate_status: validate::service::status,
        create_on_update: true,
        fields: fields::SERVICE,
        ..BASE
    },
    Rules {
        kind: "ConfigMap",
        validate: validate::core::config_map,
        revalidates: Revalidates::Last,
        validate_update: validate::core::config_map_update,
        ..BASE
    },
    Rules {
        kind: "Secret",
        default: core::secret,
        update: prepare::secret_update,
        validate: validate::core::secret,
        revalidates: Revalidates::Last,
        validate_update: validate::core::secret_update,
        fields: fields::SECRET,
        ..BASE
    },
    Rules { kind: "ServiceAccount", ..BASE },
    Rules {
        kind: "Endpoints",
        default: core::endpoints,
        create_on_update: true,
        validate: validate::endpoints::endpoints,
        validate_update: validate::endpoints::endpoints_update,
        warnings: validate::endpoints::endpoints_warnings,
        ..BASE
    },
    Rules {
        kind: "Event",
        default: core::event,
        names: Subdomain,
        create_on_update: true,
        validate: validate::events::create,
        revalidates: Revalidates::Not,
        validate_update: validate::events::update,
        fields: fields::EVENT,
        ..BASE
    },
    Rules {
        group: "events.k8s.io",
        kind: "Event",
        create_on_update: true,
        validate: validate::events::create_v1,
        revalidates: Revalidates::Not,
        validate_update: validate::events::update_v1,
        fields: fields::EVENT_V1,
        ..BASE
    },
    Rules {
        kind: "ReplicationController",
        default: core::replication_controller,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::workloads::replication_controller,
        validate_status: validate::workloads::replica_status,
        fields: fields::REPLICAS,
        orphans_dependents: true,
        ..BASE
    },
    Rules {
        kind: "PersistentVolume",
        default: core::persistent_volume,
        status: Status::Own,
        validate: validate::volumes::persistent_volume,
        validate_update: validate::volumes::persistent_volume_update,
        ..CLUSTER
    },
    Rules {
        kind: "PersistentVolumeClaim",
        default: core::persistent_volume_claim,
        create: prepare::claim_create,
        status: Status::Own,
        validate: validate::volumes::claim,
        validate_update: validate::volumes::claim_update,
        validate_status: validate::volumes::claim_status,
        ..BASE
    },
    Rules {
        kind: "ResourceQuota",
        default: core::resource_quota,
        status: Status::Own,
        validate: validate::quota::quota,
        validate_update: validate::quota::quota_update,
        validate_status: validate::quota::quota_status,
        ..BASE
    },
    Rules {
        kind: "LimitRange",
        default: core::limit_range,
        create_on_update: true,
        validate: validate::quota::limit_range,
        ..BASE
    },
    // Workloads.
    Rules {
        kind: "Deployment",
        default: apps::deployment,
        status: Status::Own,
        status_meta: StatusMeta::LabelsKept,
        generation: Generation::SpecAndAnnotations,
        validate: validate::workloads::deployment,
        validate_update: validate::workloads::selector_update,
        validate_status: validate::workloads::deployment_status,
        warnings: validate::pod::warnings::workload,
        ..APPS
    },
    Rules {
        kind: "ReplicaSet",
        default: apps::replica_set,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::workloads::replica_set,
        validate_update: validate::workloads::selector_update,
        validate_status: validate::workloads::replica_status,
        warnings: validate::pod::warnings::workload,
        ..APPS
    },
    Rules {
        kind: "DaemonSet",
        default: apps::daemon_set,
        status: Status::Own,
        generation: Generation::Of("spec"),
        create: prepare::daemon_set_create,
        update: prepare::daemon_set_update,
        validate: validate::workloads::daemon_set,
        revalidates: Revalidates::Last,
        validate_update: validate::workloads::selector_update,
        validate_status: validate::workloads::daemon_set_status,
        ..APPS
    },
    Rules {
        kind: "StatefulSet",
        names: Label,
        default: apps::stateful_set,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::workloads::stateful_set,
        validate_update: validate::workloads::stateful_set_update,
        validate_status: validate::workloads::stateful_set_status,
        ..APPS
    },
    Rules {
        kind: "ControllerRevision",
        validate: validate::workloads::controller_revision,
        validate_update: validate::workloads::controller_revision_update,
        ..APPS
    },
    Rules {
        group: "batch",
        kind: "Job",
        default: batch::job,
        status: Status::Own,
        generation: Generation::Of("spec"),
        create: prepare::job_create,
        validate: validate::batch::job,
        revalidates: Revalidates::Not,
        validate_update: validate::batch::job_update,
        validate_status: validate::batch::job_status,
        orphans_dependents: true,
        fields: fields::JOB,
        ..BASE
    },
    Rules {
        group: "batch",
        kind: "CronJob",
        default: batch::cron_job,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::batch::cron_job,
        validate_update: validate::batch::cron_job_update,
        ..BASE
    },
    Rules {
        group: "autoscaling",
        version: "v1",
        kind: "HorizontalPodAutoscaler",
        default: other::autoscaler_v1,
        status: Status::Own,
        validate: validate::autoscaling::autoscaler,
        ..BASE
    },
    Rules {
        group: "autoscaling",
        kind: "HorizontalPodAutoscaler",
        default: other::autoscaler_v2,
        status: Status::Own,
        validate: validate::autoscaling::autoscaler,
        ..BASE
    },
    Rules {
        group: "policy",
        kind: "PodDisruptionBudget",
        default: other::disruption_budget,
        status: Status::Own,
        generation: Generation::Of("spec"),
        unconditional_update: false,
        validate: validate::policy::disruption_budget,
        validate_status: validate::policy::disruption_budget_status,
        ..BASE
    },
    // Access.
    Rules { kind: "Role", default: other::role, validate: validate::rbac::role, ..RBAC },
    Rules {
        kind: "ClusterRole",
        namespaced: Some(false),
        default: other::role,
        validate: validate::rbac::cluster_role,
        ..RBAC
    },
    Rules {
        kind: "RoleBinding",
        default: other::role_binding,
        validate: validate::rbac::role_binding,
        validate_update: validate::rbac::binding_update,
        ..RBAC
    },
    Rules {
        kind: "ClusterRoleBinding",
        namespaced: Some(false),
        default: other::role_binding,
        validate: validate::rbac::cluster_role_binding,
        validate_update: validate::rbac::binding_update,
        ..RBAC
    },
    Rules {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        names: Any,
        default: other::signing_request,
        status: Status::Own,
        create: prepare::signing_request_create,
        update: prepare::signing_request_update,
        status_update: prepare::signing_request_status,
        validate: validate::certificates::signing_request,
        validate_update: validate::certificates::signing_request_update,
        validate_status: validate::certificates::status_update,
        fields: fields::SIGNING_REQUEST,
        ..CLUSTER
    },
    // Coordination and discovery.
    Rules {
        group: "coordination.k8s.io",
        kind: "Lease",
        default: other::with_spec,
        create_on_update: true,
        unconditional_update: false,
        validate: validate::lease::lease,
        ..BASE
    },
    Rules {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        default: other::endpoint_slice,
        generation: Generation::AllAndLabels,
        validate: validate::endpoints::slice,
        validate_update: validate::endpoints::slice_update,
        ..BASE
    },
    // Networking.
    Rules {
        kind: "Ingress",
        default: other::ingress,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::networking::ingress_create,
        validate_update: validate::networking::ingress_update,
        validate_status: validate::networking::ingress_status,
        ..NETWORKING
    },
    Rules {
        kind: "IngressClass",
        namespaced: Some(false),
        default: other::ingress_class,
        generation: Generation::Of("spec"),
        validate: validate::networking::ingress_class,
        revalidates: Revalidates::Last,
        validate_update: validate::networking::ingress_class_update,
        ..NETWORKING
    },
    Rules {
        kind: "NetworkPolicy",
        default: other::network_policy,
        generation: Generation::Of("spec"),
        validate: validate::networking::network_policy,
        ..NETWORKING
    },
    Rules {
        kind: "IPAddress",
        names: Any,
        namespaced: Some(false),
        default: other::with_spec,
        validate: validate::networking::ip_address,
        validate_update: validate::networking::ip_address_update,
        ..NETWORKING
    },
    Rules {
        kind: "ServiceCIDR",
        namespaced: Some(false),
        default: other::with_spec_and_status,
        status: Status::Own,
        status_meta: StatusMeta::Kept,
        validate: validate::networking::service_cidr,
        validate_update: validate::networking::service_cidr_update,
        ..NETWORKING
    },
    // Storage.
    Rules {
        kind: "StorageClass",
        default: other::storage_class,
        validate: validate::storage::storage_class,
        validate_update: validate::storage::storage_class_update,
        ..STORAGE
    },
    Rules {
        kind: "VolumeAttachment",
        default: other::volume_attachment,
        status: Status::Own,
        status_meta: StatusMeta::Kept,
        unconditional_update: false,
        validate: validate::storage::volume_attachment,
        validate_update: validate::storage::spec_immutable,
        ..STORAGE
    },
    Rules {
        kind: "CSIDriver",
        default: other::csi_driver,
        unconditional_update: false,
        generation: Generation::Of("spec"),
        validate: validate::storage::csi_driver,
        validate_update: validate::storage::csi_driver_update,
        ..STORAGE
    },
    Rules {
        kind: "CSINode",
        default: other::csi_node,
        unconditional_update: false,
        validate: validate::storage::csi_node,
        validate_update: validate::storage::csi_node_update,
        ..STORAGE
    },
    Rules {
        kind: "CSIStorageCapacity",
        namespaced: Some(true),
        unconditional_update: false,
        validate: validate::storage::storage_capacity,
        validate_update: validate::storage::storage_capacity_update,
        ..STORAGE
    },
    Rules {
        kind: "VolumeAttributesClass",
        validate: validate::storage::attributes_class,
        validate_update: validate::storage::attributes_class_update,
        ..STORAGE
    },
    // Scheduling and nodes.
    Rules {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        default: other::priority_class,
        generation: Generation::One,
        validate: validate::scheduling::priority_class,
        validate_update: validate::scheduling::priority_class_update,
        ..CLUSTER
    },
    Rules {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        create_on_update: true,
        unconditional_update: false,
        validate: validate::scheduling::runtime_class,
        validate_update: validate::scheduling::runtime_class_update,
        ..CLUSTER
    },
    // Dynamic resources.
    Rules {
        kind: "DeviceClass",
        namespaced: Some(false),
        default: other::device_class,
        generation: Generation::Of("spec"),
        validate: validate::resource::device_class,
        ..RESOURCE
    },
    Rules {
        kind: "ResourceClaim",
        default: other::resource_claim,
        status: Status::Own,
        status_meta: StatusMeta::Kept,
        validate: validate::resource::claim,
        revalidates: Revalidates::Not,
        validate_status: validate::resource::claim_status,
        validate_update: validate::storage::spec_immutable,
        ..RESOURCE
    },
    Rules {
        kind: "ResourceClaimTemplate",
        default: other::resource_claim_template,
        validate: validate::resource::claim_template,
        revalidates: Revalidates::Not,
        validate_update: validate::storage::spec_immutable,
        ..RESOURCE
    },
    Rules {
        kind: "ResourceSlice",
        namespaced: Some(false),
        generation: Generation::Of("spec"),
        validate: validate::resource::slice,
        revalidates: Revalidates::Not,
        validate_update: validate::resource::slice_update,
        fields: fields::RESOURCE_SLICE,
        ..RESOURCE
    },
    // The API itself.
    Rules {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        default: other::custom_resource_definition,
        status: Status::Own,
        status_meta: StatusMeta::Written,
        generation: Generation::Of("spec"),
        create: prepare::crd_create,
        update: prepare::crd_update,
        unconditional_update: false,
        validate: validate::extensions::definition,
        revalidates: Revalidates::Not,
        validate_status: validate::extensions::definition_status,
        validate_update: validate::extensions::definition_update,
        ..CLUSTER
    },
    Rules {
        group: "apiregistration.k8s.io",
        kind: "APIService",
        default: other::api_service,
        names: PathSegment,
        status: Status::Own,
        unconditional_update: false,
        validate: validate::extensions::api_service,
        validate_status: validate::extensions::api_service_status,
        ..CLUSTER
    },
    Rules {
        group: "flowcontrol.apiserver.k8s.io",
        kind: "FlowSchema",
        default: other::flow_schema,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::flowcontrol::flow_schema,
        ..CLUSTER
    },
    Rules {
        group: "flowcontrol.apiserver.k8s.io",
        kind: "PriorityLevelConfiguration",
        default: other::priority_level,
        status: Status::Own,
        generation: Generation::Of("spec"),
        validate: validate::flowcontrol::priority_level,
        ..CLUSTER
    },
    Rules {
        kind: "ValidatingWebhookConfiguration",
        default: other::validating_webhooks,
        generation: Generation::Of("webhooks"),
        validate: validate::admission::webhooks,
        revalidates: Revalidates::Not,
        validate_update: validate::admission::webhooks_update,
        ..ADMISSION
    },
    Rules {
        kind: "MutatingWebhookConfiguration",
        default: other::mutating_webhooks,
        generation: Generation::Of("webhooks"),
        validate: validate::admission::webhooks,
        revalidates: Revalidates::Not,
        validate_update: validate::admission::webhooks_update,
        ..ADMISSION
    },
    Rules {
        kind: "ValidatingAdmissionPolicy",
        default: other::validating_policy,
        status: Status::Own,
        status_meta: StatusMeta::Kept,
        validate: validate::admission::validating_policy,
        validate_status: validate::admission::policy_status,
        ..ADMISSION
    },
    Rules {
        kind: "ValidatingAdmissionPolicyBinding",
        default: other::admission_binding,
        validate: validate::admission::validating_binding,
        ..ADMISSION
    },
    Rules {
        kind: "MutatingAdmissionPolicy",
        default: other::admission_policy,
        validate: validate::admission::mutating_policy,
        ..ADMISSION
    },
    Rules {
        kind: "MutatingAdmissionPolicyBinding",
        default: other::admission_binding,
        validate: validate::admission::mutating_binding,
        ..ADMISSION
    },
];
