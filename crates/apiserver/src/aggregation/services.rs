//! APIServices as routes.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_store::Store;

use super::API_SERVICES;
use crate::http::authz::objects;
use crate::outgoing::{Destination, Place, Trust};

const PORT: u16 = 443;
/// Says when an APIService of our own is put right: `onstart` or `true`.
pub(super) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// One APIService.
#[derive(Debug)]
pub(crate) struct ApiService {
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub available: bool,
    pub uid: String,
    /// Made for a group of custom resources, and gone with it.
    pub of_custom: bool,
    /// `None` for what this server serves itself.
    pub destination: Option<Destination>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Services {
    all: Vec<Arc<ApiService>>,
    remote: HashMap<(String, String), Arc<ApiService>>,
}

impl Services {
    pub(super) fn read(store: &dyn Store) -> Self {
        let all: Vec<Arc<ApiService>> =
            objects(store, API_SERVICES).iter().map(|own| Arc::new(ApiService::read(own))).collect();
        let remote = all.iter().filter(|own| own.destination.is_some());
        let remote = remote.map(|own| ((own.group.clone(), own.version.clone()), Arc::clone(own))).collect();
        Self { all, remote }
    }

    pub(crate) fn all(&self) -> &[Arc<ApiService>] {
        &self.all
    }

    pub(crate) fn is_all_local(&self) -> bool {
        self.remote.is_empty()
    }

    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<Arc<ApiService>> {
        if self.remote.is_empty() {
            return None;
        }
        self.remote.get(&(group.to_owned(), version.to_owned())).cloned()
    }
}

impl ApiService {
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let text = |field: &str| spec.str_at(&[field]).to_owned();
        let number = |field: &str| spec.get(field).and_then(Value::as_i64).unwrap_or_default();
        let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).into_iter().flatten();
        let mut available = conditions.filter(|own| own.str_at(&["type"]) == "Available");
        Self {
            name: object.name().to_owned(),
            group: text("group"),
            version: text("version"),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            uid: object.uid().to_owned(),
            of_custom: object.labels().and_then(|labels| labels.get(MANAGED)).is_some_and(|managed| managed == "true"),
            available: available.any(|own| own.str_at(&["status"]) == "True"),
            destination: spec.get("service").filter(|service| service.is_object()).map(|service| to(spec, service)),
        }
    }

    /// `/apis/wardle.example.com/v1alpha1`.
    pub(crate) fn path(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }
}

fn to(spec: &Value, service: &Value) -> Destination {
    let (namespace, name) = (service.str_at(&["namespace"]), service.str_at(&["name"]));
    let port = service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let bundle = base64::engine::general_purpose::STANDARD.decode(spec.str_at(&["caBundle"])).unwrap_or_default();
    let trust = match spec.get("insecureSkipTLSVerify") {
        Some(Value::Bool(true)) => Trust::Anyone,
        _ if bundle.is_empty() => Trust::System,
        _ => Trust::Bundle(bundle),
    };
    Destination {
        place: Place::Service { namespace: namespace.to_owned(), name: name.to_owned(), port: port.unwrap_or(PORT) },
        server_name: format!("{name}.{namespace}.svc"),
        trust,
        as_front_proxy: true,
    }
}
