//! Flags of the API server, under upstream's names.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use coracle_supervisor::{ApiOptions, OidcOptions};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API server")]
pub struct ApiFlags {
    /// Which resources are encrypted on disk, and how (EncryptionConfiguration). Read again when it changes. Without
    /// it, secrets are encrypted with a key of the cluster's own.
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// Issuers of tokens and limits of anonymous requests (AuthenticationConfiguration). Read again when it changes.
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// Kubeconfig of a server that knows tokens (TokenReview).
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews that it gets [default: v1beta1].
    #[arg(long, value_name = "VERSION", value_parser = ["v1", "v1beta1"])]
    authentication_token_webhook_version: Option<String>,
    /// How long its answers hold [default: 2m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Option<Duration>,
    /// File of lines `token,user,uid,"group1,group2"`.
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials are let in as system:anonymous [default: true].
    #[arg(long, value_name = "BOOL")]
    anonymous_auth: Option<bool>,
    /// Audiences of tokens for this API [default: the issuer of service account tokens].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    api_audiences: Vec<String>,
    #[command(flatten)]
    oidc: OidcFlags,
    /// Authorities of a proxy that vouches for users [default: the cluster's own front proxy].
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of that proxy's certificate; any when none is given.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Who is asked whether requests are allowed (AuthorizationConfiguration). Read again when it changes.
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    /// The same in short: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny [default: Node,RBAC].
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    /// Kubeconfig of the server that mode Webhook asks (SubjectAccessReview).
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews that it gets [default: v1beta1].
    #[arg(long, value_name = "VERSION", value_parser = ["v1", "v1beta1"])]
    authorization_webhook_version: Option<String>,
    /// How long its permissions hold [default: 5m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Option<Duration>,
    /// How long its refusals hold [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
    /// Which requests are written down, and how much of them (Policy) [default: who did what, without contents].
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where they are written; `-` is standard output [default: audit/audit.log in the data folder].
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// Days that rotated files are kept.
    #[arg(long, value_name = "DAYS")]
    audit_log_maxage: Option<u32>,
    /// Rotated files that are kept [default: 2].
    #[arg(long, value_name = "COUNT")]
    audit_log_maxbackup: Option<usize>,
    /// Megabytes of one file [default: 10].
    #[arg(long, value_name = "MEGABYTES")]
    audit_log_maxsize: Option<u64>,
}

#[derive(Debug, Clone, Args)]
struct OidcFlags {
    /// An issuer of tokens, in short for --authentication-config.
    #[arg(long, value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Audience that its tokens must have.
    #[arg(long, value_name = "ID")]
    oidc_client_id: Option<String>,
    /// Authorities of the issuer's certificate [default: the host's].
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Claim that names the user [default: sub].
    #[arg(long, value_name = "CLAIM")]
    oidc_username_claim: Option<String>,
    /// Put before user names; `-` for none.
    #[arg(long, value_name = "PREFIX")]
    oidc_username_prefix: Option<String>,
    /// Claim that names the groups.
    #[arg(long, value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    /// Put before names of groups.
    #[arg(long, value_name = "PREFIX")]
    oidc_groups_prefix: Option<String>,
    /// Algorithms that tokens may be signed with [default: RS256].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    oidc_signing_algs: Vec<String>,
    /// `key=value` that tokens must claim; may be given again.
    #[arg(long, value_name = "CLAIM")]
    oidc_required_claim: Vec<String>,
}

/// Go's notation: `2m0s`.
fn duration(text: &str) -> Result<Duration, String> {
    coracle_supervisor::parse_duration(text).ok_or_else(|| "not a duration such as 30s or 2m".to_owned())
}

impl ApiFlags {
    pub fn options(&self) -> Result<ApiOptions> {
        let own = self.clone();
        let file = |path: Option<PathBuf>| path.as_deref().map(crate::up::absolute).transpose();
        let audit_log_path = match own.audit_log_path {
            Some(path) if path.as_os_str() == "-" => Some(path),
            other => file(other)?,
        };
        Ok(ApiOptions {
            encryption_provider_config: file(own.encryption_provider_config)?,
            authentication_config: file(own.authentication_config)?,
            authentication_token_webhook_config_file: file(own.authentication_token_webhook_config_file)?,
            authentication_token_webhook_version: own.authentication_token_webhook_version,
            authentication_token_webhook_cache_ttl: own.authentication_token_webhook_cache_ttl,
            token_auth_file: file(own.token_auth_file)?,
            anonymous_auth: own.anonymous_auth,
            api_audiences: own.api_audiences,
            oidc: OidcOptions {
                issuer_url: own.oidc.oidc_issuer_url,
                client_id: own.oidc.oidc_client_id,
                ca_file: file(own.oidc.oidc_ca_file)?,
                username_claim: own.oidc.oidc_username_claim,
                username_prefix: own.oidc.oidc_username_prefix,
                groups_claim: own.oidc.oidc_groups_claim,
                groups_prefix: own.oidc.oidc_groups_prefix,
                signing_algs: own.oidc.oidc_signing_algs,
                required_claims: own.oidc.oidc_required_claim,
            },
            requestheader_client_ca_file: file(own.requestheader_client_ca_file)?,
            requestheader_allowed_names: own.requestheader_allowed_names,
            authorization_config: file(own.authorization_config)?,
            authorization_mode: own.authorization_mode,
            authorization_webhook_config_file: file(own.authorization_webhook_config_file)?,
            authorization_webhook_version: own.authorization_webhook_version,
            authorization_webhook_cache_authorized_ttl: own.authorization_webhook_cache_authorized_ttl,
            authorization_webhook_cache_unauthorized_ttl: own.authorization_webhook_cache_unauthorized_ttl,
            audit_policy_file: file(own.audit_policy_file)?,
            audit_log_path,
            audit_log_maxage: own.audit_log_maxage,
            audit_log_maxbackup: own.audit_log_maxbackup,
            audit_log_maxsize: own.audit_log_maxsize,
        })
    }
}
