//! Certificate signing requests (PKCS #10).

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use x509_parser::prelude::*;

use crate::certificate::{names, texts};
use crate::{Error, Result};

/// Organizations of one subject: the certificate library keeps one value of each attribute type, and the second is
/// written under the attribute's number.
pub const ORGANIZATIONS_MAX: usize = 2;

/// The subject of a certificate or request.
pub(crate) fn subject(common_name: &str, organizations: &[&str]) -> Result<DistinguishedName> {
    /// `id-at-organizationName` (RFC 5280 appendix A.1).
    const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
    let mut subject = DistinguishedName::new();
    match organizations {
        [] => {}
        [one] => subject.push(DnType::OrganizationName, *one),
        [one, two] => {
            subject.push(DnType::OrganizationName, *one);
            subject.push(DnType::CustomDnType(ORGANIZATION.to_vec()), *two);
        }
        _ => return Err(Error::Request(format!("a subject has at most {ORGANIZATIONS_MAX} organizations"))),
    }
    subject.push(DnType::CommonName, common_name);
    Ok(subject)
}

/// What a request asks for. Its signature has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<std::net::IpAddr>,
    pub email_addresses: bool,
    pub uris: bool,
}

/// Makes a key and a request. Returns both in PEM.
pub fn new_request(common_name: &str, organizations: &[&str], alt_names: &[String]) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, organizations)?;
    for name in alt_names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    Ok((params.serialize_request(&key)?.pem()?, key.serialize_pem()))
}

/// Reads a request in PEM. A subject with several organizations is refused, as signing would lose all but one.
pub fn request_info(pem: &str) -> Result<RequestInfo> {
    let wrong = |error: &dyn std::fmt::Display| Error::Request(error.to_string());
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| wrong(&error))?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|error| wrong(&error))?;
    let subject = &request.certification_request_info.subject;
    let extensions: Vec<&ParsedExtension<'_>> = request.requested_extensions().into_iter().flatten().collect();
    let alternative = extensions.iter().find_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(names),
        _ => None,
    });
    let (dns_names, ip_addresses) = names(alternative);
    let organizations = texts(subject.iter_organization());
    if organizations.len() > 1 {
        return Err(Error::Request("a request names at most one organization".to_owned()));
    }
    let has =
        |wanted: fn(&GeneralName<'_>) -> bool| alternative.is_some_and(|names| names.general_names.iter().any(wanted));
    // Checks the request's own signature.
    rcgen::CertificateSigningRequestParams::from_pem(pem)?;
    Ok(RequestInfo {
        common_name: texts(subject.iter_common_name()).into_iter().next().unwrap_or_default(),
        organizations,
        dns_names,
        ip_addresses,
        email_addresses: has(|name| matches!(name, GeneralName::RFC822Name(_))),
        uris: has(|name| matches!(name, GeneralName::URI(_))),
    })
}
