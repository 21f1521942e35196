//! TLS: the server's certificate, and certificates of clients where they show one.
//!
//! Any certificate may be shown; what it is good for is found out once per connection, so that one that is over or unknown
//! is answered by a Status and not by a broken connection. Source: `RequestClientCert` of the secure serving options.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};

use crate::config::{Config, StartError};
use crate::http::authn::{Peer, user_of_certificate};

/// How connections are secured, and what certificates of clients are good for.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

fn failed(error: &dyn std::fmt::Display) -> StartError {
    StartError::Certificate(error.to_string())
}

fn verifier(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| failed(&error))
}

impl Tls {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = verifier(&config.client_ca_pem, &provider)?;
        let proxies = config.access.request_header.as_ref();
        let proxies = proxies.map(|proxy| verifier(&proxy.client_ca_pem, &provider)).transpose()?;
        let mut hints = clients.root_hint_subjects().to_vec();
        hints.extend(proxies.iter().flat_map(|proxies| proxies.root_hint_subjects()).cloned());
        let chain = CertificateDer::pem_slice_iter(config.serving.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::from_pem_slice(config.serving.key_pem.as_bytes()).map_err(|error| failed(&error))?;
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(Arc::new(AnyCertificate { provider, hints }))
            .with_single_cert(chain, key)
            .map_err(|error| failed(&error))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(tls), clients, proxies })
    }

    pub(crate) fn acceptor(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What the certificates that a client showed, its own first, are good for.
    pub(crate) fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let Some((leaf, between)) = chain.split_first() else { return Peer::default() };
        let now = UnixTime::now();
        let good = |verifier: &Arc<dyn ClientCertVerifier>| verifier.verify_client_cert(leaf, between, now).is_ok();
        let is_client = good(&self.clients);
        let is_proxy = self.proxies.as_ref().is_some_and(good);
        let name = || coracle_pki::CertificateInfo::from_der(leaf).ok().map(|info| Arc::from(info.common_name));
        Peer {
            user: if is_client { user_of_certificate(leaf).map(Arc::new) } else { None },
            proxy: if is_proxy { name() } else { None },
            is_unknown: !is_client && !is_proxy,
        }
    }
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    /// Names of the authorities, by which clients choose.
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
