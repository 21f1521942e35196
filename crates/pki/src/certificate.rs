//! What stands in a certificate.

use jiff::Timestamp;
use x509_parser::prelude::*;

use crate::{Error, Result};

/// The parts of a certificate that authentication and rotation look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<std::net::IpAddr>,
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub client_auth: bool,
    pub server_auth: bool,
}

impl CertificateInfo {
    /// From DER, as TLS hands it out.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| Error::Read(error.to_string()))?;
        let (dns_names, ip_addresses) = alternative_names(&certificate);
        let usage = certificate.extended_key_usage().ok().flatten();
        Ok(Self {
            common_name: texts(certificate.subject().iter_common_name()).into_iter().next().unwrap_or_default(),
            organizations: texts(certificate.subject().iter_organization()),
            dns_names,
            ip_addresses,
            serial: certificate.raw_serial_as_string(),
            not_before: timestamp(certificate.validity().not_before)?,
            not_after: timestamp(certificate.validity().not_after)?,
            client_auth: usage.as_ref().is_none_or(|usage| usage.value.client_auth || usage.value.any),
            server_auth: usage.as_ref().is_none_or(|usage| usage.value.server_auth || usage.value.any),
        })
    }
}

pub(crate) fn texts<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok()).map(str::to_owned).collect()
}

fn timestamp(time: ASN1Time) -> Result<Timestamp> {
    Timestamp::from_second(time.timestamp()).map_err(|error| Error::Read(error.to_string()))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<std::net::IpAddr>) {
    let extension = certificate.subject_alternative_name().ok().flatten();
    names(extension.as_ref().map(|extension| extension.value))
}

pub(crate) fn names(names: Option<&SubjectAlternativeName<'_>>) -> (Vec<String>, Vec<std::net::IpAddr>) {
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    for name in names.into_iter().flat_map(|names| &names.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                    addresses.push(four.into());
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(*bytes) {
                    addresses.push(sixteen.into());
                }
            }
            _ => {}
        }
    }
    (dns, addresses)
}

/// DER of every certificate of a PEM text, in order. Other PEM blocks are passed over.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| Error::Read(error.to_string()))?;
        if block.label == "CERTIFICATE" {
            found.push(block.contents);
        }
    }
    Ok(found)
}

/// Of the first certificate of a PEM text.
pub fn certificate_info(pem: &str) -> Result<CertificateInfo> {
    let certificates = certificates_from_pem(pem)?;
    let first = certificates.first().ok_or_else(|| Error::Read("no certificate in the PEM text".to_owned()))?;
    CertificateInfo::from_der(first)
}

/// Whether the key is the one of the certificate. An error says which of the two cannot be read.
pub fn key_fits(cert_pem: &str, key_pem: &str) -> Result<bool> {
    use rcgen::PublicKeyData as _;
    let key = rcgen::KeyPair::from_pem(key_pem)?;
    let certificates = certificates_from_pem(cert_pem)?;
    let first = certificates.first().ok_or_else(|| Error::Read("no certificate in the PEM text".to_owned()))?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| Error::Read(error.to_string()))?;
    Ok(certificate.public_key().raw == key.subject_public_key_info())
}

/// SHA-256 of the public key, lower-case hex, as `--discovery-token-ca-cert-hash sha256:...` takes it (RFC 7469).
pub fn public_key_sha256(cert_pem: &str) -> Result<String> {
    let certificates = certificates_from_pem(cert_pem)?;
    let first = certificates.first().ok_or_else(|| Error::Read("no certificate in the PEM text".to_owned()))?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| Error::Read(error.to_string()))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
