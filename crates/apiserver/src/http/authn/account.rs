//! Tokens of service accounts, and whether what they are bound to still exists. Source: `pkg/serviceaccount/claims.go`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};
use coracle_pki::{Claims, ObjectRef};
use coracle_store::Store;
use sha2::{Digest, Sha256};

use super::{Identity, load};
use crate::config::Config;
use crate::time;

const CACHED_TOKENS_MAX: usize = 4096;
/// How long after its deletion an object still counts, for those that end well. Source: `now - 60s` of the validator.
const GRACE_SECONDS: i64 = 60;

/// Claims of tokens whose signature was checked, by the digest of the token.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<[u8; 32], Claims>>);

impl Accounts {
    /// The account of a token, if it is meant for one of `audiences` and all it is bound to exists.
    pub(super) fn identify(
        &self,
        config: &Config,
        store: &dyn Store,
        token: &str,
        audiences: &[&str],
    ) -> Result<Identity, String> {
        let claims = self.claims(config, token)?;
        let meant: Vec<String> = claims.aud.iter().filter(|own| audiences.contains(&own.as_str())).cloned().collect();
        if meant.is_empty() {
            return Err(format!("token audiences {:?} is invalid for the target audiences {audiences:?}", claims.aud));
        }
        Ok(Identity { user: user(store, &claims, token)?, audiences: meant })
    }

    fn claims(&self, config: &Config, token: &str) -> Result<Claims, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = time::now();
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = checked.get(&digest) {
            if claims.exp > now.as_second() {
                return Ok(claims.clone());
            }
            checked.remove(&digest);
        }
        drop(checked);
        let claims = config
            .token_key
            .verify(token, &config.issuer, &[], now)
            .map_err(|error| format!("invalid bearer token: {error}"))?;
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CACHED_TOKENS_MAX {
            checked.clear();
        }
        checked.insert(digest, claims.clone());
        Ok(claims)
    }
}

/// Deleted for so long that nothing may be done in its name any more.
fn is_over(object: &Value) -> bool {
    let deleted: Result<jiff::Timestamp, _> = object.meta_str("deletionTimestamp").parse();
    deleted.is_ok_and(|at| at.as_second() < time::now().as_second() - GRACE_SECONDS)
}

/// The object that a token is bound to.
fn bound(store: &dyn Store, collection: &str, item: &str, wanted: &ObjectRef) -> Option<Value> {
    load(store, collection, item).filter(|found| found.uid() == wanted.uid && !is_over(found))
}

fn user(store: &dyn Store, claims: &Claims, token: &str) -> Result<UserInfo, String> {
    let own = &claims.kubernetes;
    let namespace = &own.namespace;
    let name = &own.serviceaccount.name;
    let account = load(store, "serviceaccounts", &format!("{namespace}/{name}"))
        .filter(|account| !is_over(account))
        .ok_or_else(|| format!("service account {namespace}/{name} has been deleted"))?;
    if account.uid() != own.serviceaccount.uid {
        return Err(format!(
            "service account UID ({}) does not match claim ({})",
            account.uid(),
            own.serviceaccount.uid
        ));
    }
    let mut user = UserInfo::service_account(namespace, name, account.uid());
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(secret) = &own.secret {
        let found = bound(store, "secrets", &format!("{namespace}/{}", secret.name), secret)
            .ok_or("service account token has been invalidated")?;
        let kept = STANDARD.decode(found.str_at(&["data", "token"])).unwrap_or_default();
        // Other secrets only end the token's life.
        let is_token = found.str_at(&["type"]) == "kubernetes.io/service-account-token";
        if is_token && !kept.is_empty() && kept != token.as_bytes() {
            return Err("service account token has been invalidated".to_owned());
        }
    }
    if let Some(pod) = &own.pod {
        bound(store, "pods", &format!("{namespace}/{}", pod.name), pod)
            .ok_or("service account token has been invalidated")?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &own.node {
        if own.pod.is_none() {
            bound(store, "nodes", &node.name, node).ok_or("service account token has been invalidated")?;
        }
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    Ok(user)
}
