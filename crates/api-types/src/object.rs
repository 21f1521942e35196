//! Typed kinds with codecs of their own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A built-in kind that components read and write as a type. Codecs are not generic, so that their code exists once.
pub trait Object: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    const GROUP: &'static str;
    const VERSION: &'static str;
    /// `apps/v1` or `v1`.
    const API_VERSION: &'static str;
    const KIND: &'static str;
    const PLURAL: &'static str;
    const NAMESPACED: bool;

    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    fn from_slice(bytes: &[u8]) -> serde_json::Result<Self>;
    fn from_value(value: &serde_json::Value) -> serde_json::Result<Self>;
    /// With `apiVersion` and `kind`.
    fn to_vec(&self) -> Vec<u8>;
    /// With `apiVersion` and `kind`.
    fn to_value(&self) -> serde_json::Value;

    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }
    fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

/// A list as the API sends it. Items without `apiVersion` and `kind` are read all the same.
#[derive(Debug, Clone)]
pub struct ObjectList<K> {
    pub resource_version: String,
    /// Where to go on, empty at the end.
    pub continue_token: String,
    pub items: Vec<K>,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

impl<K: Object> ObjectList<K> {
    pub fn from_slice(bytes: &[u8]) -> serde_json::Result<Self> {
        let raw: RawList<'_> = serde_json::from_slice(bytes)?;
        let items = raw.items.unwrap_or_default();
        let items = items.into_iter().map(|item| K::from_slice(item.get().as_bytes())).collect::<Result<_, _>>()?;
        Ok(Self { resource_version: raw.metadata.resource_version, continue_token: raw.metadata.continue_token, items })
    }
}

macro_rules! objects {
    ($($path:path => $namespaced:literal;)*) => {$(
        impl Object for $path {
            const GROUP: &'static str = <$path as k8s_openapi::Resource>::GROUP;
            const VERSION: &'static str = <$path as k8s_openapi::Resource>::VERSION;
            const API_VERSION: &'static str = <$path as k8s_openapi::Resource>::API_VERSION;
            const KIND: &'static str = <$path as k8s_openapi::Resource>::KIND;
            const PLURAL: &'static str = <$path as k8s_openapi::Resource>::URL_PATH_SEGMENT;
            const NAMESPACED: bool = $namespaced;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn from_slice(bytes: &[u8]) -> serde_json::Result<Self> {
                from_slice_lenient(bytes, Self::API_VERSION, Self::KIND)
            }
            fn from_value(value: &serde_json::Value) -> serde_json::Result<Self> {
                <$path as Deserialize>::deserialize(value)
            }
            fn to_vec(&self) -> Vec<u8> {
                serde_json::to_vec(self).expect("objects have string keys only")
            }
            fn to_value(&self) -> serde_json::Value {
                serde_json::to_value(self).expect("objects have string keys only")
            }
        }
    )*};
}

/// Items of lists may come without `apiVersion` and `kind`, which the typed reader insists on.
fn from_slice_lenient<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    api_version: &str,
    kind: &str,
) -> serde_json::Result<T> {
    match serde_json::from_slice(bytes) {
        Ok(object) => Ok(object),
        Err(first) => {
            let mut value: serde_json::Value = serde_json::from_slice(bytes)?;
            let Some(fields) = value.as_object_mut() else { return Err(first) };
            if fields.contains_key("kind") && fields.contains_key("apiVersion") {
                return Err(first);
            }
            fields.insert("apiVersion".to_owned(), api_version.into());
            fields.insert("kind".to_owned(), kind.into());
            serde_json::from_value(value)
        }
    }
}

objects! {
    k8s_openapi::api::apps::v1::ControllerRevision => true;
    k8s_openapi::api::apps::v1::DaemonSet => true;
    k8s_openapi::api::apps::v1::Deployment => true;
    k8s_openapi::api::apps::v1::ReplicaSet => true;
    k8s_openapi::api::apps::v1::StatefulSet => true;
    k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler => true;
    k8s_openapi::api::batch::v1::CronJob => true;
    k8s_openapi::api::batch::v1::Job => true;
    k8s_openapi::api::certificates::v1::CertificateSigningRequest => false;
    k8s_openapi::api::coordination::v1::Lease => true;
    k8s_openapi::api::core::v1::ConfigMap => true;
    k8s_openapi::api::core::v1::Endpoints => true;
    k8s_openapi::api::core::v1::Event => true;
    k8s_openapi::api::core::v1::LimitRange => true;
    k8s_openapi::api::core::v1::Namespace => false;
    k8s_openapi::api::core::v1::Node => false;
    k8s_openapi::api::core::v1::PersistentVolume => false;
    k8s_openapi::api::core::v1::PersistentVolumeClaim => true;
    k8s_openapi::api::core::v1::Pod => true;
    k8s_openapi::api::core::v1::ReplicationController => true;
    k8s_openapi::api::core::v1::ResourceQuota => true;
    k8s_openapi::api::core::v1::Secret => true;
    k8s_openapi::api::core::v1::Service => true;
    k8s_openapi::api::core::v1::ServiceAccount => true;
    k8s_openapi::api::discovery::v1::EndpointSlice => true;
    k8s_openapi::api::networking::v1::Ingress => true;
    k8s_openapi::api::networking::v1::IngressClass => false;
    k8s_openapi::api::networking::v1::NetworkPolicy => true;
    k8s_openapi::api::node::v1::RuntimeClass => false;
    k8s_openapi::api::policy::v1::PodDisruptionBudget => true;
    k8s_openapi::api::rbac::v1::ClusterRole => false;
    k8s_openapi::api::rbac::v1::ClusterRoleBinding => false;
    k8s_openapi::api::rbac::v1::Role => true;
    k8s_openapi::api::rbac::v1::RoleBinding => true;
    k8s_openapi::api::scheduling::v1::PriorityClass => false;
    k8s_openapi::api::storage::v1::CSIDriver => false;
    k8s_openapi::api::storage::v1::CSINode => false;
    k8s_openapi::api::storage::v1::StorageClass => false;
    k8s_openapi::api::storage::v1::VolumeAttributesClass => false;
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn items_of_lists_are_read_without_kind() {
        let bytes = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}}]}"#;
        let list = ObjectList::<Pod>::from_slice(bytes).expect("list");
        assert_eq!((list.resource_version.as_str(), list.items[0].name()), ("7", "a"));
        assert!(Pod::from_slice(br#"{"kind":"Node","apiVersion":"v1","metadata":{}}"#).is_err());
    }
}
