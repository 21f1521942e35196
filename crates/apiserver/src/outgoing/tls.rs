//! Whom to trust, and how it is said when one cannot.

use std::sync::{Arc, OnceLock};

use coracle_pki::CertificateInfo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Destination, Trust, Ways};

/// Places where distributions keep the root certificates.
const CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// The authorities of the machine, read once.
fn system_roots() -> Vec<CertificateDer<'static>> {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    let read = || {
        let pem = CA_FILES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        CertificateDer::pem_slice_iter(&pem).flatten().collect()
    };
    ROOTS.get_or_init(read).clone()
}

/// How to secure connections to a destination; `h2` offers HTTP/2.
pub(super) fn client_config(to: &Destination, ways: &Ways, h2: bool) -> Result<Arc<ClientConfig>, String> {
    let roots = match &to.trust {
        Trust::Bundle(pem) => {
            let found: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
            if found.is_empty() {
                return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
            }
            Some(found)
        }
        Trust::System => Some(system_roots()),
        Trust::Anyone => None,
    };
    let verifier = Arc::new(Verifier::new(roots)?);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match ways.front_proxy.as_ref().filter(|_| to.as_front_proxy) {
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).flatten().collect();
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|error| error.to_string())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    if h2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

/// As Go verifies: a certificate is good when it leads to a root, or when it is one of the roots itself.
#[derive(Debug)]
struct Verifier {
    /// `None` trusts everyone.
    roots: Option<Vec<CertificateDer<'static>>>,
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(roots: Option<Vec<CertificateDer<'static>>>) -> Result<Self, String> {
        let Some(roots) = roots else { return Ok(Self { roots: None, chains: None }) };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        // A store without roots has no verifier; then nobody is trusted.
        let chains = if store.is_empty() {
            None
        } else {
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
            Some(built.map_err(|error| error.to_string())?)
        };
        Ok(Self { roots: Some(roots), chains })
    }

    /// A certificate that is trusted by itself still has its name and its time.
    fn verify_pinned(
        leaf: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let info = CertificateInfo::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < info.not_before.as_second() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > info.not_after.as_second() {
            return Err(CertificateError::Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        if roots.contains(leaf) {
            return Self::verify_pinned(leaf, name, now);
        }
        match &self.chains {
            Some(chains) => chains.verify_server_cert(leaf, between, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A failed handshake in the words that users know. Source: Go's `crypto/tls` and `crypto/x509`.
pub(super) fn failed(error: &std::io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(error)) = inner else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => inner.map_or_else(|| error.to_string(), |inner| format!("remote error: tls: {inner}")),
        };
    };
    let why = match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => not_for(presented, name),
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// Source: `x509.HostnameError`. Names are presented as `DnsName("a.b")` or `IpAddress(10.0.0.1)`.
fn not_for(presented: &[String], name: &str) -> String {
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let of_kind = |own: &&String| own.starts_with("IpAddress(") == is_address;
    let bare = |own: &String| {
        let bare = own.trim_start_matches("IpAddress(").trim_start_matches("DnsName(").trim_end_matches(')');
        bare.trim_matches('"').to_owned()
    };
    let names: Vec<String> = presented.iter().filter(of_kind).map(bare).collect();
    if names.is_empty() {
        return format!("certificate is not valid for any names, but wanted to match {name}");
    }
    format!("certificate is valid for {}, not {name}", names.join(", "))
}
