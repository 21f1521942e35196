//! Where the server is and who we are: kubeconfig files and service-account mounts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What it takes to reach one server as one user.
#[derive(Clone, Default)]
pub struct ClientConfig {
    /// `https://127.0.0.1:6443`
    pub server: String,
    /// PEM. `None`: the host's own roots.
    pub ca_pem: Option<Vec<u8>>,
    pub client_cert_pem: Option<Vec<u8>>,
    pub client_key_pem: Option<Vec<u8>>,
    pub token: Option<String>,
    /// Read anew for each request, as projected tokens rotate.
    pub token_file: Option<PathBuf>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
    /// Of the context.
    pub namespace: Option<String>,
}

impl ClientConfig {
    /// The mount that every pod has. Errors when a file is missing.
    pub fn in_cluster() -> Result<Self> {
        let folder = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| Error::Config(format!("{name} is not set: not inside a cluster")))
        };
        let server = format!(
            "https://{}:{}",
            bracketed(&variable("KUBERNETES_SERVICE_HOST")?),
            variable("KUBERNETES_SERVICE_PORT")?
        );
        Ok(Self {
            server,
            ca_pem: Some(read(&folder.join("ca.crt"))?),
            token_file: Some(folder.join("token")),
            namespace: read(&folder.join("namespace")).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
            ..Self::default()
        })
    }

    pub(crate) fn bearer_token(&self) -> Option<String> {
        if let Some(path) = &self.token_file
            && let Ok(token) = std::fs::read_to_string(path)
        {
            return Some(token.trim().to_owned());
        }
        self.token.clone()
    }

    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Config(format!("TLS: {error}")))?;
        let builder = if self.insecure_skip_tls_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAll(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        match (&self.client_cert_pem, &self.client_key_pem) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "client certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| Error::Config(format!("client key: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| Error::Config(format!("client certificate: {error}")))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = match &self.ca_pem {
            Some(pem) => pem.clone(),
            None => std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default(),
        };
        for certificate in certificates(&pem, "certificate authority")? {
            roots.add(certificate).map_err(|error| Error::Config(format!("certificate authority: {error}")))?;
        }
        Ok(roots)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::Config(format!("{what}: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::Config(format!("read {}: {error}", path.display())))
}

/// For `insecure-skip-tls-verify`.
#[derive(Debug)]
struct AcceptAll(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A kubeconfig file. Fields that are not named here are kept in `extra` when the file is written again.
/// Source: `k8s.io/client-go/tools/clientcmd/api/v1 Config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    pub clusters: Vec<Named>,
    pub contexts: Vec<Named>,
    #[serde(rename = "current-context", skip_serializing_if = "String::is_empty")]
    pub current_context: String,
    pub users: Vec<Named>,
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// An entry of `clusters` (with `cluster`), `contexts` (`context`) or `users` (`user`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    #[serde(flatten)]
    pub body: serde_json::Map<String, serde_json::Value>,
}

impl Kubeconfig {
    pub fn load(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let text = String::from_utf8(text)
            .map_err(|_| Error::Config(format!("kubeconfig {}: not UTF-8 text", path.display())))?;
        serde_saphyr::from_str(&text).map_err(|error| Error::Config(format!("kubeconfig {}: {error}", path.display())))
    }

    /// `$KUBECONFIG` (first entry), else `~/.kube/config`.
    #[must_use]
    pub fn default_path() -> PathBuf {
        let from_environment = std::env::var("KUBECONFIG").unwrap_or_default();
        if let Some(first) = from_environment.split(':').find(|part| !part.is_empty()) {
            return PathBuf::from(first);
        }
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
        Path::new(&home).join(".kube/config")
    }

    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(self).map_err(|error| Error::Config(format!("kubeconfig: {error}")))
    }

    /// The configuration of a context; `None`: the current one. Relative file names are taken from `folder`.
    pub fn client_config(&self, context: Option<&str>, folder: &Path) -> Result<ClientConfig> {
        let name = context.unwrap_or(&self.current_context);
        if name.is_empty() {
            return Err(Error::Config("kubeconfig: current-context is not set".to_owned()));
        }
        let context = entry(&self.contexts, name, "context")?;
        let text = |key: &str| context.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let cluster = entry(&self.clusters, text("cluster"), "cluster")?;
        let mut config = ClientConfig {
            namespace: Some(text("namespace").to_owned()).filter(|ns| !ns.is_empty()),
            ..ClientConfig::default()
        };
        let reader = Reader { body: cluster, folder };
        config.server = reader.text("server").unwrap_or_default();
        config.ca_pem = reader.data("certificate-authority")?;
        config.tls_server_name = reader.text("tls-server-name");
        config.insecure_skip_tls_verify =
            cluster.get("insecure-skip-tls-verify").and_then(serde_json::Value::as_bool).unwrap_or(false);
        if !text("user").is_empty() {
            let reader = Reader { body: entry(&self.users, text("user"), "user")?, folder };
            config.client_cert_pem = reader.data("client-certificate")?;
            config.client_key_pem = reader.data("client-key")?;
            config.token = reader.text("token");
            config.token_file = reader.text("tokenFile").map(|file| folder.join(file));
        }
        Ok(config)
    }
}

type Fields = serde_json::Map<String, serde_json::Value>;

fn entry<'a>(list: &'a [Named], name: &str, what: &str) -> Result<&'a Fields> {
    list.iter()
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.body.get(what)?.as_object())
        .ok_or_else(|| Error::Config(format!("kubeconfig: no {what} named {name:?}")))
}

struct Reader<'a> {
    body: &'a Fields,
    folder: &'a Path,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.body.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// `<key>-data` in base64, or the file that `<key>` names.
    fn data(&self, key: &str) -> Result<Option<Vec<u8>>> {
        if let Some(data) = self.text(&format!("{key}-data")) {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data)
                .map_err(|error| Error::Config(format!("kubeconfig: {key}-data: {error}")))?;
            return Ok(Some(bytes));
        }
        self.text(key).map(|file| read(&self.folder.join(file))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfigs_keep_what_they_do_not_know() {
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: c\n  cluster:\n    server: https://h:1\n    proxy-url: x\ncontexts:\n- name: a\n  context:\n    cluster: c\n    user: u\n    namespace: ns\nusers:\n- name: u\n  user:\n    token: t\npreferences: {}\n";
        let config: Kubeconfig = serde_saphyr::from_str(text).expect("kubeconfig");
        let again: Kubeconfig = serde_saphyr::from_str(&config.to_yaml().expect("yaml")).expect("kubeconfig");
        assert_eq!(config, again);
        let client = again.client_config(None, Path::new("/")).expect("context");
        assert_eq!(
            (client.server.as_str(), client.token.as_deref(), client.namespace.as_deref()),
            ("https://h:1", Some("t"), Some("ns"))
        );
        assert!(again.client_config(Some("nope"), Path::new("/")).is_err());
    }
}
