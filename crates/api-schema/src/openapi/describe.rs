//! Descriptions of types and fields, taken at run time from k8s-openapi's schemas.

use coracle_api_meta::{Map, Value};
use coracle_api_types::k8s_openapi as k8s;
use schemars::{Schema, SchemaGenerator};

type Describe = fn(&mut SchemaGenerator) -> Schema;

/// Descriptions by type name: `description` of the type and, under `properties`, of its fields. The types that a kind
/// refers to come along.
pub(super) fn of(kinds: &[&str]) -> Map {
    let mut generator = SchemaGenerator::default();
    for (name, describe) in KINDS {
        if kinds.contains(name) {
            describe(&mut generator);
        }
    }
    generator.take_definitions(false).into_iter().collect()
}

/// Puts the descriptions of a type into its rendered schema.
pub(super) fn apply(described: &Value, schema: &mut Map) {
    if let Some(text) = described.get("description") {
        schema.insert("description".to_owned(), text.clone());
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, property) in properties {
        let text = described.get("properties").and_then(|all| all.get(name)?.get("description"));
        if let (Some(text), Value::Object(property)) = (text, property) {
            property.insert("description".to_owned(), text.clone());
        }
    }
}

/// Describes a list, of which k8s-openapi has no type, after its items.
pub(super) fn list(name: &str, described: &Map, schema: &mut Map) {
    let Some(item) = name.strip_suffix("List") else { return };
    let kind = item.rsplit('.').next().unwrap_or_default();
    let items = format!("The objects of kind {kind}.");
    let own = serde_json::json!({
        "description": format!("{kind}List is a list of objects of kind {kind}."),
        "properties": {
            "apiVersion": described.get(item).and_then(|all| all.pointer("/properties/apiVersion")),
            "kind": described.get(item).and_then(|all| all.pointer("/properties/kind")),
            "metadata": { "description": "Metadata of the list." },
            "items": { "description": items },
        },
    });
    apply(&own, schema);
}

#[rustfmt::skip]
const KINDS: &[(&str, Describe)] = &[
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::MutatingAdmissionPolicy>),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::MutatingAdmissionPolicyBinding>),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::MutatingWebhookConfiguration>),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::ValidatingAdmissionPolicy>),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1::ValidatingWebhookConfiguration>),
    ("io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicy", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1alpha1::MutatingAdmissionPolicy>),
    ("io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicyBinding", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding>),
    ("io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicy", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1beta1::MutatingAdmissionPolicy>),
    ("io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicyBinding", SchemaGenerator::subschema_for::<k8s::api::admissionregistration::v1beta1::MutatingAdmissionPolicyBinding>),
    ("io.k8s.api.apiserverinternal.v1alpha1.StorageVersion", SchemaGenerator::subschema_for::<k8s::api::apiserverinternal::v1alpha1::StorageVersion>),
    ("io.k8s.api.apps.v1.ControllerRevision", SchemaGenerator::subschema_for::<k8s::api::apps::v1::ControllerRevision>),
    ("io.k8s.api.apps.v1.DaemonSet", SchemaGenerator::subschema_for::<k8s::api::apps::v1::DaemonSet>),
    ("io.k8s.api.apps.v1.Deployment", SchemaGenerator::subschema_for::<k8s::api::apps::v1::Deployment>),
    ("io.k8s.api.apps.v1.ReplicaSet", SchemaGenerator::subschema_for::<k8s::api::apps::v1::ReplicaSet>),
    ("io.k8s.api.apps.v1.StatefulSet", SchemaGenerator::subschema_for::<k8s::api::apps::v1::StatefulSet>),
    ("io.k8s.api.authentication.v1.SelfSubjectReview", SchemaGenerator::subschema_for::<k8s::api::authentication::v1::SelfSubjectReview>),
    ("io.k8s.api.authentication.v1.TokenRequest", SchemaGenerator::subschema_for::<k8s::api::authentication::v1::TokenRequest>),
    ("io.k8s.api.authentication.v1.TokenReview", SchemaGenerator::subschema_for::<k8s::api::authentication::v1::TokenReview>),
    ("io.k8s.api.authorization.v1.LocalSubjectAccessReview", SchemaGenerator::subschema_for::<k8s::api::authorization::v1::LocalSubjectAccessReview>),
    ("io.k8s.api.authorization.v1.SelfSubjectAccessReview", SchemaGenerator::subschema_for::<k8s::api::authorization::v1::SelfSubjectAccessReview>),
    ("io.k8s.api.authorization.v1.SelfSubjectRulesReview", SchemaGenerator::subschema_for::<k8s::api::authorization::v1::SelfSubjectRulesReview>),
    ("io.k8s.api.authorization.v1.SubjectAccessReview", SchemaGenerator::subschema_for::<k8s::api::authorization::v1::SubjectAccessReview>),
    ("io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler", SchemaGenerator::subschema_for::<k8s::api::autoscaling::v1::HorizontalPodAutoscaler>),
    ("io.k8s.api.autoscaling.v1.Scale", SchemaGenerator::subschema_for::<k8s::api::autoscaling::v1::Scale>),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler", SchemaGenerator::subschema_for::<k8s::api::autoscaling::v2::HorizontalPodAutoscaler>),
    ("io.k8s.api.batch.v1.CronJob", SchemaGenerator::subschema_for::<k8s::api::batch::v1::CronJob>),
    ("io.k8s.api.batch.v1.Job", SchemaGenerator::subschema_for::<k8s::api::batch::v1::Job>),
    ("io.k8s.api.certificates.v1.CertificateSigningRequest", SchemaGenerator::subschema_for::<k8s::api::certificates::v1::CertificateSigningRequest>),
    ("io.k8s.api.certificates.v1alpha1.ClusterTrustBundle", SchemaGenerator::subschema_for::<k8s::api::certificates::v1alpha1::ClusterTrustBundle>),
    ("io.k8s.api.certificates.v1beta1.ClusterTrustBundle", SchemaGenerator::subschema_for::<k8s::api::certificates::v1beta1::ClusterTrustBundle>),
    ("io.k8s.api.certificates.v1beta1.PodCertificateRequest", SchemaGenerator::subschema_for::<k8s::api::certificates::v1beta1::PodCertificateRequest>),
    ("io.k8s.api.coordination.v1.Lease", SchemaGenerator::subschema_for::<k8s::api::coordination::v1::Lease>),
    ("io.k8s.api.coordination.v1alpha2.LeaseCandidate", SchemaGenerator::subschema_for::<k8s::api::coordination::v1alpha2::LeaseCandidate>),
    ("io.k8s.api.coordination.v1beta1.LeaseCandidate", SchemaGenerator::subschema_for::<k8s::api::coordination::v1beta1::LeaseCandidate>),
    ("io.k8s.api.core.v1.Binding", SchemaGenerator::subschema_for::<k8s::api::core::v1::Binding>),
    ("io.k8s.api.core.v1.ComponentStatus", SchemaGenerator::subschema_for::<k8s::api::core::v1::ComponentStatus>),
    ("io.k8s.api.core.v1.ConfigMap", SchemaGenerator::subschema_for::<k8s::api::core::v1::ConfigMap>),
    ("io.k8s.api.core.v1.Endpoints", SchemaGenerator::subschema_for::<k8s::api::core::v1::Endpoints>),
    ("io.k8s.api.core.v1.Event", SchemaGenerator::subschema_for::<k8s::api::core::v1::Event>),
    ("io.k8s.api.core.v1.LimitRange", SchemaGenerator::subschema_for::<k8s::api::core::v1::LimitRange>),
    ("io.k8s.api.core.v1.Namespace", SchemaGenerator::subschema_for::<k8s::api::core::v1::Namespace>),
    ("io.k8s.api.core.v1.Node", SchemaGenerator::subschema_for::<k8s::api::core::v1::Node>),
    ("io.k8s.api.core.v1.PersistentVolume", SchemaGenerator::subschema_for::<k8s::api::core::v1::PersistentVolume>),
    ("io.k8s.api.core.v1.PersistentVolumeClaim", SchemaGenerator::subschema_for::<k8s::api::core::v1::PersistentVolumeClaim>),
    ("io.k8s.api.core.v1.Pod", SchemaGenerator::subschema_for::<k8s::api::core::v1::Pod>),
    ("io.k8s.api.core.v1.PodTemplate", SchemaGenerator::subschema_for::<k8s::api::core::v1::PodTemplate>),
    ("io.k8s.api.core.v1.ReplicationController", SchemaGenerator::subschema_for::<k8s::api::core::v1::ReplicationController>),
    ("io.k8s.api.core.v1.ResourceQuota", SchemaGenerator::subschema_for::<k8s::api::core::v1::ResourceQuota>),
    ("io.k8s.api.core.v1.Secret", SchemaGenerator::subschema_for::<k8s::api::core::v1::Secret>),
    ("io.k8s.api.core.v1.Service", SchemaGenerator::subschema_for::<k8s::api::core::v1::Service>),
    ("io.k8s.api.core.v1.ServiceAccount", SchemaGenerator::subschema_for::<k8s::api::core::v1::ServiceAccount>),
    ("io.k8s.api.discovery.v1.EndpointSlice", SchemaGenerator::subschema_for::<k8s::api::discovery::v1::EndpointSlice>),
    ("io.k8s.api.events.v1.Event", SchemaGenerator::subschema_for::<k8s::api::events::v1::Event>),
    ("io.k8s.api.flowcontrol.v1.FlowSchema", SchemaGenerator::subschema_for::<k8s::api::flowcontrol::v1::FlowSchema>),
    ("io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration", SchemaGenerator::subschema_for::<k8s::api::flowcontrol::v1::PriorityLevelConfiguration>),
    ("io.k8s.api.networking.v1.Ingress", SchemaGenerator::subschema_for::<k8s::api::networking::v1::Ingress>),
    ("io.k8s.api.networking.v1.IngressClass", SchemaGenerator::subschema_for::<k8s::api::networking::v1::IngressClass>),
    ("io.k8s.api.networking.v1.IPAddress", SchemaGenerator::subschema_for::<k8s::api::networking::v1::IPAddress>),
    ("io.k8s.api.networking.v1.NetworkPolicy", SchemaGenerator::subschema_for::<k8s::api::networking::v1::NetworkPolicy>),
    ("io.k8s.api.networking.v1.ServiceCIDR", SchemaGenerator::subschema_for::<k8s::api::networking::v1::ServiceCIDR>),
    ("io.k8s.api.networking.v1beta1.IPAddress", SchemaGenerator::subschema_for::<k8s::api::networking::v1beta1::IPAddress>),
    ("io.k8s.api.networking.v1beta1.ServiceCIDR", SchemaGenerator::subschema_for::<k8s::api::networking::v1beta1::ServiceCIDR>),
    ("io.k8s.api.node.v1.RuntimeClass", SchemaGenerator::subschema_for::<k8s::api::node::v1::RuntimeClass>),
    ("io.k8s.api.policy.v1.Eviction", SchemaGenerator::subschema_for::<k8s::api::policy::v1::Eviction>),
    ("io.k8s.api.policy.v1.PodDisruptionBudget", SchemaGenerator::subschema_for::<k8s::api::policy::v1::PodDisruptionBudget>),
    ("io.k8s.api.rbac.v1.ClusterRole", SchemaGenerator::subschema_for::<k8s::api::rbac::v1::ClusterRole>),
    ("io.k8s.api.rbac.v1.ClusterRoleBinding", SchemaGenerator::subschema_for::<k8s::api::rbac::v1::ClusterRoleBinding>),
    ("io.k8s.api.rbac.v1.Role", SchemaGenerator::subschema_for::<k8s::api::rbac::v1::Role>),
    ("io.k8s.api.rbac.v1.RoleBinding", SchemaGenerator::subschema_for::<k8s::api::rbac::v1::RoleBinding>),
    ("io.k8s.api.resource.v1.DeviceClass", SchemaGenerator::subschema_for::<k8s::api::resource::v1::DeviceClass>),
    ("io.k8s.api.resource.v1.ResourceClaim", SchemaGenerator::subschema_for::<k8s::api::resource::v1::ResourceClaim>),
    ("io.k8s.api.resource.v1.ResourceClaimTemplate", SchemaGenerator::subschema_for::<k8s::api::resource::v1::ResourceClaimTemplate>),
    ("io.k8s.api.resource.v1.ResourceSlice", SchemaGenerator::subschema_for::<k8s::api::resource::v1::ResourceSlice>),
    ("io.k8s.api.resource.v1alpha3.DeviceTaintRule", SchemaGenerator::subschema_for::<k8s::api::resource::v1alpha3::DeviceTaintRule>),
    ("io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequest", SchemaGenerator::subschema_for::<k8s::api::resource::v1alpha3::ResourcePoolStatusRequest>),
    ("io.k8s.api.resource.v1beta1.DeviceClass", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta1::DeviceClass>),
    ("io.k8s.api.resource.v1beta1.ResourceClaim", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta1::ResourceClaim>),
    ("io.k8s.api.resource.v1beta1.ResourceClaimTemplate", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta1::ResourceClaimTemplate>),
    ("io.k8s.api.resource.v1beta1.ResourceSlice", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta1::ResourceSlice>),
    ("io.k8s.api.resource.v1beta2.DeviceClass", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta2::DeviceClass>),
    ("io.k8s.api.resource.v1beta2.DeviceTaintRule", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta2::DeviceTaintRule>),
    ("io.k8s.api.resource.v1beta2.ResourceClaim", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta2::ResourceClaim>),
    ("io.k8s.api.resource.v1beta2.ResourceClaimTemplate", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta2::ResourceClaimTemplate>),
    ("io.k8s.api.resource.v1beta2.ResourceSlice", SchemaGenerator::subschema_for::<k8s::api::resource::v1beta2::ResourceSlice>),
    ("io.k8s.api.scheduling.v1.PriorityClass", SchemaGenerator::subschema_for::<k8s::api::scheduling::v1::PriorityClass>),
    ("io.k8s.api.scheduling.v1alpha2.PodGroup", SchemaGenerator::subschema_for::<k8s::api::scheduling::v1alpha2::PodGroup>),
    ("io.k8s.api.scheduling.v1alpha2.Workload", SchemaGenerator::subschema_for::<k8s::api::scheduling::v1alpha2::Workload>),
    ("io.k8s.api.storage.v1.CSIDriver", SchemaGenerator::subschema_for::<k8s::api::storage::v1::CSIDriver>),
    ("io.k8s.api.storage.v1.CSINode", SchemaGenerator::subschema_for::<k8s::api::storage::v1::CSINode>),
    ("io.k8s.api.storage.v1.CSIStorageCapacity", SchemaGenerator::subschema_for::<k8s::api::storage::v1::CSIStorageCapacity>),
    ("io.k8s.api.storage.v1.StorageClass", SchemaGenerator::subschema_for::<k8s::api::storage::v1::StorageClass>),
    ("io.k8s.api.storage.v1.VolumeAttachment", SchemaGenerator::subschema_for::<k8s::api::storage::v1::VolumeAttachment>),
    ("io.k8s.api.storage.v1.VolumeAttributesClass", SchemaGenerator::subschema_for::<k8s::api::storage::v1::VolumeAttributesClass>),
    ("io.k8s.api.storage.v1beta1.VolumeAttributesClass", SchemaGenerator::subschema_for::<k8s::api::storage::v1beta1::VolumeAttributesClass>),
    ("io.k8s.api.storagemigration.v1beta1.StorageVersionMigration", SchemaGenerator::subschema_for::<k8s::api::storagemigration::v1beta1::StorageVersionMigration>),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", SchemaGenerator::subschema_for::<k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::APIGroup>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::APIGroupList>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::APIResourceList>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::APIVersions>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Status", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::Status>),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService", SchemaGenerator::subschema_for::<k8s::kube_aggregator::pkg::apis::apiregistration::v1::APIService>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::DeleteOptions>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::ListMeta>),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", SchemaGenerator::subschema_for::<k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta>),
];
