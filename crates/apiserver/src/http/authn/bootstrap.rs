//! Tokens that nodes join with. Source: `plugin/pkg/auth/authenticator/token/bootstrap`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api_meta::UserInfo;
use coracle_api_meta::object::ObjectExt;
use coracle_pki::BootstrapToken;
use coracle_store::Store;

use super::load;
use crate::time;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// The user of a token whose secret allows it to authenticate.
pub(super) fn identify(store: &dyn Store, token: &BootstrapToken) -> Option<UserInfo> {
    let secret = load(store, "secrets", &format!("kube-system/bootstrap-token-{}", token.id))?;
    let data = |field: &str| -> String {
        let bytes = STANDARD.decode(secret.str_at(&["data", field])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let expiration = data("expiration");
    // A time that cannot be read has passed.
    let expired = !expiration.is_empty() && expiration.parse::<jiff::Timestamp>().map_or(true, |at| at <= time::now());
    let same =
        aws_lc_rs::constant_time::verify_slices_are_equal(data("token-secret").as_bytes(), token.secret.as_bytes());
    let good = secret.str_at(&["type"]) == SECRET_TYPE
        && secret.meta_str("deletionTimestamp").is_empty()
        && data("token-id") == token.id
        && same.is_ok()
        && data("usage-bootstrap-authentication") == "true"
        && !expired;
    if !good {
        return None;
    }
    let groups = data("auth-extra-groups");
    let mut all = vec![GROUP];
    for group in groups.split(',').filter(|group| !group.is_empty()) {
        // One group that is not for bootstrapping spoils the token.
        if !is_bootstrap_group(group) {
            return None;
        }
        all.push(group);
    }
    Some(UserInfo::authenticated(&format!("system:bootstrap:{}", token.id), &all))
}

/// Source: `BootstrapGroupPattern`.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '-');
    !rest.is_empty() && rest.len() <= 256 && rest.chars().all(good) && !rest.ends_with([':', '-'])
}
