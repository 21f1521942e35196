//! Aggregation: groups that other API servers serve, behind this one's door.
//!
//! APIService objects say who serves a group and version. Requests for those of others are passed on by the request-header
//! proxy ([`proxy`]); whether they can be reached is checked from time to time ([`availability`]), and their documents are
//! kept to be merged with our own ([`remote`]). Groups of our own and of custom resources have APIServices too ([`register`]).
//! Source: `k8s.io/kube-aggregator`.

mod availability;
mod groups;
mod priorities;
mod proxy;
mod register;
mod remote;
mod services;
mod swagger;

pub(crate) use groups::{Group, Source, groups};
pub(crate) use proxy::proxy;
pub(crate) use register::at_start;
pub(crate) use remote::Documents as RemoteDocuments;
pub(crate) use services::{ApiService, Services};
pub(crate) use swagger::merge as merge_swagger;

use std::sync::Arc;

use coracle_api_meta::UserInfo;
use coracle_store::Store;

use crate::derived::Derived;
use crate::server::Server;

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
pub(crate) const API_SERVICES: &str = "apiregistration.k8s.io/apiservices";

/// As whom the server itself asks aggregated servers.
fn itself() -> UserInfo {
    let groups = vec!["system:masters".to_owned()];
    UserInfo { username: "system:kube-aggregator".to_owned(), groups, ..UserInfo::default() }
}

/// What the server knows of aggregated servers.
pub(crate) struct Aggregation {
    services: Derived<Services>,
    pub(crate) remote: RemoteDocuments,
}

impl Aggregation {
    pub(crate) fn new() -> Self {
        Self { services: Derived::new(&[API_SERVICES], Services::read), remote: RemoteDocuments::default() }
    }

    pub(crate) fn services(&self, store: &dyn Store) -> Arc<Services> {
        self.services.get(store)
    }

    /// The aggregated server that a path is for.
    pub(crate) fn route(&self, store: &dyn Store, path: &str) -> Option<Arc<ApiService>> {
        let services = self.services(store);
        if services.is_all_local() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.split('/').skip(1);
        let (group, version) = match parts.next()? {
            "apis" => (parts.next()?, parts.next()?),
            "api" => ("", parts.next()?),
            _ => return None,
        };
        services.remote(group, version)
    }
}

/// Starts what keeps APIServices and what is known of their servers up to date, until the server stops.
pub(crate) fn start(server: &Arc<Server>) {
    tokio::spawn(register::run(Arc::downgrade(server), server.stopping().clone()));
    tokio::spawn(availability::run(Arc::downgrade(server), server.stopping().clone()));
}
