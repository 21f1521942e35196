//! What the user says about the API server, and the files behind it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use coracle_api_meta::UserInfo;
use coracle_apiserver::{
    AccessConfig, AuditConfig, AuditPolicy, Authentication, Authorization, FRONT_PROXY_NAME, OidcFlags, RequestHeader,
    Server, TokenWebhook, WebhookTimes,
};
use coracle_bootstrap::Credentials;
use coracle_client::{ClientConfig, Kubeconfig};
use coracle_encryption::{ClusterKey, Encryption};

use crate::cluster::{Config, Scope};
use crate::files;

const ENCRYPTION: &str = "--encryption-provider-config";
const AUTHENTICATION: &str = "--authentication-config";
const AUTHORIZATION: &str = "--authorization-config";
const TOKENS: &str = "--token-auth-file";
/// Source: `--authentication-token-webhook-cache-ttl`.
const TOKEN_WEBHOOK_TTL: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 3600);
const STATIC_TOKENS_MAX: usize = 10_000;

/// Options of the API server under upstream's names; what is not given is as without the flag.
#[derive(Debug, Clone, Default)]
pub struct ApiOptions {
    pub encryption_provider_config: Option<PathBuf>,
    pub authentication_config: Option<PathBuf>,
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    pub authentication_token_webhook_version: Option<String>,
    pub authentication_token_webhook_cache_ttl: Option<Duration>,
    pub token_auth_file: Option<PathBuf>,
    pub anonymous_auth: Option<bool>,
    pub api_audiences: Vec<String>,
    pub oidc: OidcOptions,
    pub requestheader_client_ca_file: Option<PathBuf>,
    pub requestheader_allowed_names: Vec<String>,
    pub authorization_config: Option<PathBuf>,
    pub authorization_mode: Vec<String>,
    pub authorization_webhook_config_file: Option<PathBuf>,
    pub authorization_webhook_version: Option<String>,
    pub authorization_webhook_cache_authorized_ttl: Option<Duration>,
    pub authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
    pub audit_policy_file: Option<PathBuf>,
    pub audit_log_path: Option<PathBuf>,
    /// Days.
    pub audit_log_maxage: Option<u32>,
    pub audit_log_maxbackup: Option<usize>,
    /// Megabytes.
    pub audit_log_maxsize: Option<u64>,
}

/// The flags of one issuer of tokens.
#[derive(Debug, Clone, Default)]
pub struct OidcOptions {
    pub issuer_url: Option<String>,
    pub client_id: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub username_claim: Option<String>,
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: Option<String>,
    pub signing_algs: Vec<String>,
    /// `key=value`
    pub required_claims: Vec<String>,
}

/// The server that a kubeconfig file leads to.
fn kubeconfig(path: &Path) -> Result<ClientConfig> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    Ok(Kubeconfig::load(path)?.client_config(None, folder)?)
}

impl ApiOptions {
    /// How the store is encrypted. A file with a configuration is followed.
    pub(crate) fn encryption(&self, cluster_key: &str, scope: &Scope) -> Result<Arc<Encryption>> {
        let key = ClusterKey::parse(cluster_key).context("pki/encryption.key")?;
        let Some(path) = &self.encryption_provider_config else {
            return Ok(Arc::new(Encryption::new(&key, None)?));
        };
        let text = files::read(ENCRYPTION, path)?;
        let encryption =
            Encryption::new(&key, Some(&text)).with_context(|| format!("{ENCRYPTION} {}", path.display()))?;
        let encryption = Arc::new(encryption);
        let followed = Arc::clone(&encryption);
        files::watch(ENCRYPTION, path.clone(), text, scope, move |text| {
            followed.reload(text).map_err(|error| error.to_string())
        })?;
        Ok(encryption)
    }

    /// Who is who and who may do what.
    pub(crate) fn access(&self, issuer: &str, credentials: &Credentials) -> Result<AccessConfig> {
        Ok(AccessConfig {
            authentication: self.authentication(issuer)?,
            authorization: self.authorization()?,
            token_webhook: self.token_webhook()?,
            request_header: Some(self.request_header(credentials)?),
            api_audiences: self.api_audiences.clone(),
        })
    }

    fn authentication(&self, issuer: &str) -> Result<Authentication> {
        match (&self.authentication_config, &self.oidc.issuer_url) {
            (Some(_), Some(_)) => bail!("{AUTHENTICATION} and --oidc-issuer-url exclude each other"),
            (Some(path), None) => {
                let text = files::read(AUTHENTICATION, path)?;
                Authentication::parse(&text, issuer).with_context(|| format!("{AUTHENTICATION} {}", path.display()))
            }
            (None, Some(url)) => Ok(Authentication::from_flags(self.oidc.flags(url)?)?),
            (None, None) => Ok(Authentication::default()),
        }
    }

    fn authorization(&self) -> Result<Authorization> {
        if let Some(path) = &self.authorization_config {
            if !self.authorization_mode.is_empty() || self.authorization_webhook_config_file.is_some() {
                bail!("{AUTHORIZATION} excludes --authorization-mode and --authorization-webhook-config-file");
            }
            let text = files::read(AUTHORIZATION, path)?;
            return parse_authorization(&text).with_context(|| format!("{AUTHORIZATION} {}", path.display()));
        }
        if self.authorization_mode.is_empty() {
            return Ok(Authorization::default());
        }
        let webhook = self.authorization_webhook_config_file.as_deref().map(kubeconfig).transpose();
        let default = WebhookTimes::default();
        let times = WebhookTimes {
            authorized_ttl: self.authorization_webhook_cache_authorized_ttl.unwrap_or(default.authorized_ttl),
            unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl.unwrap_or(default.unauthorized_ttl),
            ..default
        };
        let version = self.authorization_webhook_version.as_deref().unwrap_or("v1beta1");
        let webhook = webhook.context("--authorization-webhook-config-file")?;
        Ok(Authorization::from_flags(&self.authorization_mode, webhook, version, times)?)
    }

    fn token_webhook(&self) -> Result<Option<TokenWebhook>> {
        let Some(path) = &self.authentication_token_webhook_config_file else { return Ok(None) };
        Ok(Some(TokenWebhook {
            server: kubeconfig(path).context("--authentication-token-webhook-config-file")?,
            version: self.authentication_token_webhook_version.clone().unwrap_or_else(|| "v1beta1".to_owned()),
            cache_ttl: self.authentication_token_webhook_cache_ttl.unwrap_or(TOKEN_WEBHOOK_TTL),
        }))
    }

    /// The front proxy that is believed: the cluster's own, or the user's.
    fn request_header(&self, credentials: &Credentials) -> Result<RequestHeader> {
        match &self.requestheader_client_ca_file {
            Some(path) => {
                let pem = files::read("--requestheader-client-ca-file", path)?;
                Ok(RequestHeader::new(pem, self.requestheader_allowed_names.clone()))
            }
            None => {
                let names = vec![FRONT_PROXY_NAME.to_owned()];
                Ok(RequestHeader::new(credentials.front_proxy_ca_cert_pem.clone(), names))
            }
        }
    }

    /// Users by token.
    pub(crate) fn static_tokens(&self) -> Result<HashMap<String, UserInfo>> {
        let Some(path) = &self.token_auth_file else { return Ok(HashMap::new()) };
        let text = files::read(TOKENS, path)?;
        parse_tokens(&text).with_context(|| format!("{TOKENS} {}", path.display()))
    }

    pub(crate) fn audit(&self, config: &Config) -> Result<AuditConfig> {
        let path = self.audit_log_path.clone().unwrap_or_else(|| config.folder.audit_log());
        let mut audit = AuditConfig::new(path);
        if let Some(path) = &self.audit_policy_file {
            let text = files::read("--audit-policy-file", path)?;
            let policy = AuditPolicy::parse(&text);
            audit.policy = Some(policy.with_context(|| format!("--audit-policy-file {}", path.display()))?);
        }
        if let Some(megabytes) = self.audit_log_maxsize {
            audit.file_bytes_max = megabytes.saturating_mul(1 << 20);
        }
        if let Some(backups) = self.audit_log_maxbackup {
            audit.files_max = backups.saturating_add(1);
        }
        audit.age_max = self.audit_log_maxage.filter(|days| *days > 0).map(|days| DAY.saturating_mul(days));
        Ok(audit)
    }

    /// Takes changed files over for as long as the cluster runs.
    pub(crate) fn follow(&self, server: &Arc<Server>, issuer: &str, scope: &Scope) -> Result<()> {
        if let Some(path) = &self.authentication_config {
            let (server, issuer) = (Arc::clone(server), issuer.to_owned());
            let seen = files::read(AUTHENTICATION, path)?;
            files::watch(AUTHENTICATION, path.clone(), seen, scope, move |text| {
                let authentication = Authentication::parse(text, &issuer).map_err(|error| error.to_string())?;
                server.configure_authentication(&authentication);
                Ok(())
            })?;
        }
        if let Some(path) = &self.authorization_config {
            let server = Arc::clone(server);
            let seen = files::read(AUTHORIZATION, path)?;
            files::watch(AUTHORIZATION, path.clone(), seen, scope, move |text| {
                let authorization = parse_authorization(text).map_err(|error| format!("{error:#}"))?;
                server.configure_authorization(&authorization).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }
}

fn parse_authorization(text: &str) -> Result<Authorization> {
    let servers = |path: &Path| kubeconfig(path).map_err(|error| format!("{error:#}"));
    Ok(Authorization::parse(text, &servers)?)
}

impl OidcOptions {
    fn flags(&self, url: &str) -> Result<OidcFlags> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut required_claims = BTreeMap::new();
        for pair in &self.required_claims {
            let Some((key, value)) = pair.split_once('=') else {
                bail!("--oidc-required-claim {pair:?} is not key=value");
            };
            required_claims.insert(key.to_owned(), value.to_owned());
        }
        Ok(OidcFlags {
            issuer_url: url.to_owned(),
            client_id: text(&self.client_id),
            ca_pem: self.ca_file.as_deref().map(|path| files::read("--oidc-ca-file", path)).transpose()?,
            username_claim: text(&self.username_claim),
            username_prefix: text(&self.username_prefix),
            groups_claim: text(&self.groups_claim),
            groups_prefix: text(&self.groups_prefix),
            signing_algs: self.signing_algs.clone(),
            required_claims,
        })
    }
}

/// Lines of `token,user,uid` and, in quotes where there are some, groups with commas between them.
/// Source: `k8s.io/apiserver/pkg/authentication/token/tokenfile`.
fn parse_tokens(text: &str) -> Result<HashMap<String, UserInfo>> {
    let mut tokens = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.splitn(4, ',').map(str::trim);
        let (Some(token), Some(user), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("line {}: must have at least token, user and uid", number + 1);
        };
        if token.is_empty() {
            bail!("line {}: the token is empty", number + 1);
        }
        if tokens.len() >= STATIC_TOKENS_MAX {
            bail!("more than {STATIC_TOKENS_MAX} tokens");
        }
        let groups = fields.next().unwrap_or_default().trim_matches('"');
        let groups: Vec<&str> = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
        let info = UserInfo { uid: uid.to_owned(), ..UserInfo::authenticated(user, &groups) };
        tokens.insert(token.to_owned(), info);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_name_users() {
        let tokens = parse_tokens("# comment\nabc,jane,u1,\"ops,dev\"\n\ndef,joe,u2\n").expect("tokens");
        let jane = &tokens["abc"];
        assert_eq!((jane.username.as_str(), jane.uid.as_str()), ("jane", "u1"));
        assert_eq!(jane.groups, ["ops", "dev", "system:authenticated"]);
        assert_eq!(tokens["def"].groups, ["system:authenticated"]);
        assert_eq!(
            parse_tokens("abc,jane").expect_err("short").to_string(),
            "line 1: must have at least token, user and uid"
        );
    }
}
