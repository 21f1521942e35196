//! One request on its way.

use std::sync::{Arc, Mutex, PoisonError};

use coracle_api_access::Selectors;
use coracle_api_meta::{Status, UserInfo};
use http::{HeaderMap, Method};

use super::audit::Trail;
use super::authz;
use super::negotiate::Accept;
use super::query::Query;
use super::request_info::RequestInfo;
use crate::server::Server;

/// Warnings of one answer.
const WARNINGS_MAX: usize = 50;

/// What handlers know about a request besides its body.
pub(crate) struct Ctx {
    pub server: Arc<Server>,
    pub user: UserInfo,
    pub info: RequestInfo,
    pub method: Method,
    pub query: Query,
    /// As it came, for what is passed on.
    pub raw_query: String,
    pub headers: HeaderMap,
    pub audit_id: String,
    pub received: jiff::Timestamp,
    /// Who is connected.
    pub peer_address: Option<std::net::IpAddr>,
    /// What a list, watch or deletion of a collection is limited to, for authorizers.
    pub selectors: Option<Selectors>,
    /// Who acts as the user.
    pub impersonator: Option<UserInfo>,
    /// What the audit log wants to know.
    pub trail: Trail,
    warnings: Mutex<Vec<String>>,
}

impl Ctx {
    pub(crate) fn new(
        server: Arc<Server>,
        user: UserInfo,
        info: RequestInfo,
        method: Method,
        raw_query: &str,
        headers: HeaderMap,
        audit_id: String,
    ) -> Self {
        let query = Query::parse(raw_query);
        Self {
            selectors: authz::selectors(&info, &query),
            trail: Trail::default(),
            received: crate::time::now(),
            peer_address: None,
            impersonator: None,
            server,
            user,
            info,
            method,
            query,
            raw_query: raw_query.to_owned(),
            headers,
            audit_id,
            warnings: Mutex::default(),
        }
    }

    /// A request of the server itself, which is no client's.
    pub(crate) fn internal(server: Arc<Server>) -> Self {
        let user = UserInfo::authenticated("system:apiserver", &["system:masters"]);
        Self::new(server, user, RequestInfo::default(), Method::GET, "", HeaderMap::new(), String::new())
    }

    /// Adds an annotation to the request's audit events.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.trail.annotate(key, value);
    }

    /// Adds a `Warning` header to the answer.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn accept(&self) -> Result<Accept, Status> {
        let pretty = self.query.flag("pretty");
        Accept::read(&self.headers, pretty, crate::registry::objects::PROTOBUF_ANSWERS)
    }

    /// As [`Ctx::accept`], for answers that have no rows to show: tables are not offered.
    pub(crate) fn accept_without_table(&self) -> Result<Accept, Status> {
        Accept::read_without_table(&self.headers, self.query.flag("pretty"))
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        let mut dry = false;
        for value in self.query.all("dryRun") {
            if value != "All" {
                return Err(Status::bad_request(format!("invalid dryRun value {value:?}: supported values: \"All\"")));
            }
            dry = true;
        }
        Ok(dry)
    }
}
