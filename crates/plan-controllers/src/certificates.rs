//! Who may have which certificate, and when requests go. Source: `pkg/controller/certificates`.

use std::time::Duration;

use coracle_plan_core::time::{from_seconds, left};
use coracle_plan_core::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

/// Validity when the request names none, in seconds: a year.
const VALID_SECONDS: i64 = 365 * 24 * 3600;
/// Shortest validity that may be asked for. Source: `spec.expirationSeconds`.
const VALID_SECONDS_MIN: i64 = 600;
const APPROVED_MAX: Duration = Duration::from_secs(3600);
const DENIED_MAX: Duration = Duration::from_secs(3600);
const PENDING_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a signer puts into the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub client: bool,
    pub server: bool,
    pub valid_for_seconds: i64,
}

/// What a request asks for, read from its PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub has_alternative_names: bool,
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|own| own.type_ == kind && own.status == "True")
}

#[must_use]
pub fn is_signed(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|own| !own.0.is_empty())
}

fn is_node(asked: &Asked) -> bool {
    asked.organizations == ["system:nodes"] && asked.common_name.starts_with("system:node:")
}

/// Whether a kubelet asks for its own client certificate; who is allowed to is another question.
#[must_use]
pub fn is_own_kubelet_client(request: &CertificateSigningRequest, asked: &Asked) -> bool {
    let spec = &request.spec;
    let open = !has(request, "Approved") && !has(request, "Denied") && !is_signed(request);
    open && spec.signer_name == "kubernetes.io/kube-apiserver-client-kubelet"
        && is_node(asked)
        && !asked.has_alternative_names
        && spec.username.as_deref() == Some(asked.common_name.as_str())
}

/// What to sign, or why an approved request cannot be signed. `None` when there is nothing to do for us.
#[must_use]
pub fn to_sign(request: &CertificateSigningRequest, asked: &Asked) -> Option<Result<Usage, String>> {
    let ready = has(request, "Approved") && !has(request, "Denied") && !has(request, "Failed") && !is_signed(request);
    if !ready {
        return None;
    }
    let wanted = request.spec.expiration_seconds.map_or(VALID_SECONDS, i64::from);
    let valid_for_seconds = wanted.clamp(VALID_SECONDS_MIN, VALID_SECONDS);
    let usage = |client: bool, server: bool| Usage { client, server, valid_for_seconds };
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let asks = |name: &str| usages.iter().any(|own| own == name);
    match request.spec.signer_name.as_str() {
        "kubernetes.io/kube-apiserver-client" if asked.organizations.iter().any(|own| own == "system:masters") => None,
        "kubernetes.io/kube-apiserver-client" if asks("client auth") => Some(Ok(usage(true, false))),
        "kubernetes.io/kube-apiserver-client" => Some(Err("usages did not contain client auth".to_owned())),
        "kubernetes.io/kube-apiserver-client-kubelet" if is_node(asked) && !asked.has_alternative_names => {
            Some(Ok(usage(true, false)))
        }
        "kubernetes.io/kubelet-serving" if is_node(asked) && asked.has_alternative_names => {
            Some(Ok(usage(false, true)))
        }
        "kubernetes.io/kube-apiserver-client-kubelet" | "kubernetes.io/kubelet-serving" => {
            Some(Err("subject organization is not system:nodes".to_owned()))
        }
        "kubernetes.io/legacy-unknown" => Some(Ok(usage(asks("client auth"), asks("server auth")))),
        _ => None,
    }
}

/// Requests do not stay for ever.
#[must_use]
pub fn plan_cleaning(request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let Some(made) = &request.metadata.creation_timestamp else { return plan };
    let max = if has(request, "Denied") || has(request, "Failed") {
        DENIED_MAX
    } else if has(request, "Approved") || is_signed(request) {
        APPROVED_MAX
    } else {
        PENDING_MAX
    };
    match left(made.0, max + from_seconds(1), now) {
        Some(left) => plan.requeue(left),
        None => plan.push(Action::delete(request)),
    }
    plan
}
