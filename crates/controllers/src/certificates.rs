//! Certificate signing requests and tokens of service accounts that are kept in secrets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::{Api, Change, Patch, PatchParams};
use coracle_driver::{Failure, Hands, Planned, Queue, Reconcile, Request, feed, feed_with};
use coracle_pki::{Authority, TokenKey};
use coracle_plan_controllers::bootstrap_tokens;
use coracle_plan_controllers::certificates::{self, Asked};
use coracle_plan_core::{Action, Plan};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::Context;
use crate::informers::Informers;

const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Tokens in secrets are meant to last: ten years, in seconds.
const TOKEN_SECONDS: i64 = 10 * 365 * 24 * 3600;

pub fn start(context: &Context) {
    start_requests(context);
    start_cleaning(context);
    start_tokens(context);
    start_bootstrap_tokens(context);
}

fn start_requests(context: &Context) {
    let Ok(authority) = Authority::load(&context.config.root_ca_pem, &context.config.ca_key_pem) else {
        // Without the key of the CA another program signs.
        return;
    };
    let queue = Queue::new();
    feed(&context.tasks, &context.stop, &context.informers.requests, &queue);
    let signer =
        Signer { informers: context.informers.clone(), hands: context.hands("certificate-controller"), authority };
    context.spawn(signer, &queue, 1);
}

struct Signer {
    informers: Informers,
    hands: Hands,
    authority: Authority,
}

fn asked(pem: &str) -> Option<Asked> {
    let info = coracle_pki::request_info(pem).ok()?;
    let named = !info.dns_names.is_empty() || !info.ip_addresses.is_empty() || info.email_addresses || info.uris;
    Some(Asked { common_name: info.common_name, organizations: info.organizations, has_alternative_names: named })
}

#[async_trait]
impl Reconcile for Signer {
    type Key = ObjectKey;

    fn name(&self) -> &str {
        "certificate-controller"
    }

    async fn reconcile(&self, request: Request<ObjectKey>) -> Result<Option<Duration>, Failure> {
        let Some(wanted) = self.informers.requests.get_key(&request.key) else { return Ok(None) };
        let pem = String::from_utf8_lossy(&wanted.spec.request.0).into_owned();
        let Some(asked) = asked(&pem) else { return Ok(None) };
        if certificates::is_own_kubelet_client(&wanted, &asked) {
            let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
            return self.condition(&wanted, "approval", ("Approved", "AutoApproved", message), request.now).await;
        }
        match certificates::to_sign(&wanted, &asked) {
            None => Ok(None),
            Some(Err(why)) => {
                self.condition(&wanted, "status", ("Failed", "SignerValidationFailure", &why), request.now).await
            }
            Some(Ok(usage)) => {
                let valid = SignedDuration::from_secs(usage.valid_for_seconds);
                let signed = self.authority.sign_request(&pem, usage.client, usage.server, request.now, valid);
                let certificate = signed.map_err(|error| Failure {
                    verb: "sign",
                    resource: "certificatesigningrequests".to_owned(),
                    message: error.to_string(),
                    reason: String::new(),
                })?;
                self.patch(&wanted, "status", json!({"status": {"certificate": ByteString(certificate.into_bytes())}}))
                    .await
            }
        }
    }
}

impl Signer {
    async fn condition(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        (kind, reason, message): (&str, &str, &str),
        now: Timestamp,
    ) -> Result<Option<Duration>, Failure> {
        let mut conditions = request.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let time = coracle_plan_core::time::seconds(now);
        conditions.push(k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(time.clone()),
            last_transition_time: Some(time),
        });
        let version = request.resource_version();
        let patch = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
        self.patch(request, subresource, patch).await
    }

    async fn patch(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        patch: serde_json::Value,
    ) -> Result<Option<Duration>, Failure> {
        let api = Api::<CertificateSigningRequest>::all(self.hands.client());
        let answer =
            api.dynamic().patch(request.name(), subresource, &Patch::Merge(patch), &PatchParams::default()).await;
        answer.map(|_| None).map_err(|error| Failure::new("patch", "certificatesigningrequests", &error))
    }
}

fn start_cleaning(context: &Context) {
    let queue = Queue::new();
    let requests = context.informers.requests.clone();
    feed(&context.tasks, &context.stop, &requests, &queue);
    let plan = move |request: &Request<ObjectKey>| match requests.get_key(&request.key) {
        Some(own) => certificates::plan_cleaning(&own, request.now),
        None => Plan::nothing(),
    };
    let name = "csrcleaner";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

fn start_tokens(context: &Context) {
    let Ok(key) = TokenKey::load(&context.config.service_account_key_pem) else { return };
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.token_secrets, &queue);
    feed_with(&context.tasks, &context.stop, &informers.service_accounts, &queue, {
        let secrets = informers.token_secrets.clone();
        move |change: &Change<k8s_openapi::api::core::v1::ServiceAccount>| {
            let of_account = |secret: &Arc<Secret>| secret.annotation(ACCOUNT_NAME) == Some(change.key.name.as_str());
            let secrets = secrets.list_namespace(&change.key.namespace).into_iter().filter(of_account);
            secrets.map(|secret| ObjectKey::new(secret.namespace(), secret.name())).collect()
        }
    });
    let issuer = context.config.issuer.clone();
    let ca_pem = context.config.root_ca_pem.clone();
    let plan = move |request: &Request<ObjectKey>| {
        let Some(secret) = informers.token_secrets.get_key(&request.key) else { return Plan::nothing() };
        plan_token(&informers, &secret, (&key, &issuer, &ca_pem), request.now)
    };
    let name = "serviceaccount-token-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

fn start_bootstrap_tokens(context: &Context) {
    let queue = Queue::new();
    let tokens = context.informers.token_secrets.clone();
    feed(&context.tasks, &context.stop, &tokens, &queue);
    let plan = move |request: &Request<ObjectKey>| match tokens.get_key(&request.key) {
        Some(secret) => bootstrap_tokens::plan(&secret, request.now),
        None => Plan::nothing(),
    };
    let name = "token-cleaner";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

/// Fills a token secret, or deletes it when its account is gone.
fn plan_token(
    informers: &Informers,
    secret: &Secret,
    (key, issuer, ca_pem): (&TokenKey, &str, &str),
    now: Timestamp,
) -> Plan {
    if secret.type_.as_deref() != Some(TOKEN_TYPE) || secret.is_deleting() {
        return Plan::nothing();
    }
    let Some(name) = secret.annotation(ACCOUNT_NAME) else { return Plan::nothing() };
    let account = informers.service_accounts.get(secret.namespace(), name);
    let uid = secret.annotation(ACCOUNT_UID);
    let Some(account) = account.filter(|account| uid.is_none_or(|uid| uid == account.uid())) else {
        return Plan::from(vec![Action::delete(secret)]);
    };
    let has =
        |field: &str| secret.data.as_ref().is_some_and(|data| data.get(field).is_some_and(|own| !own.0.is_empty()));
    if has("token") && has("ca.crt") && has("namespace") && uid.is_some() {
        return Plan::nothing();
    }
    let reference = |name: &str, uid: &str| coracle_pki::ObjectRef { name: name.to_owned(), uid: uid.to_owned() };
    let token = key.sign(&coracle_pki::TokenRef {
        issuer,
        audiences: vec![issuer.to_owned()],
        claims: coracle_pki::KubernetesClaims {
            namespace: secret.namespace().to_owned(),
            secret: Some(reference(secret.name(), secret.uid())),
            serviceaccount: reference(account.name(), account.uid()),
            ..coracle_pki::KubernetesClaims::default()
        },
        jti: secret.uid().to_owned(),
        now,
        valid_for_seconds: TOKEN_SECONDS,
    });
    let Ok(token) = token else { return Plan::nothing() };
    let mut updated = secret.clone();
    let data = updated.data.get_or_insert_default();
    data.entry("token".to_owned()).or_insert(ByteString(token.into_bytes()));
    data.insert("ca.crt".to_owned(), ByteString(ca_pem.as_bytes().to_vec()));
    data.insert("namespace".to_owned(), ByteString(secret.namespace().as_bytes().to_vec()));
    let annotations = updated.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), account.uid().to_owned());
    Plan::from(vec![Action::update(&updated)])
}
