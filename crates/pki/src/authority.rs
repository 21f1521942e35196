//! A certificate authority and what it issues.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::{Error, Result};

/// Certificates begin to be valid this long before they are made, for hosts whose clocks are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// A certificate authority with its key.
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

/// What stands in a leaf certificate.
#[derive(Debug, Clone)]
pub struct LeafParams<'a> {
    /// The user name of clients.
    pub common_name: &'a str,
    /// The groups of clients; at most [`crate::request::ORGANIZATIONS_MAX`].
    pub organizations: &'a [&'a str],
    /// DNS names and IP addresses of servers.
    pub alt_names: &'a [String],
    pub client: bool,
    pub server: bool,
    pub valid_for: SignedDuration,
}

impl Authority {
    /// Makes a new authority and its key (PEM).
    pub fn create(common_name: &str, now: Timestamp, valid_for: SignedDuration) -> Result<(Self, Issued)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, valid_for)?;
        let certificate = params.self_signed(&key)?;
        let issued = Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() };
        Ok((Self { cert_pem: certificate.pem(), issuer: Issuer::new(params, key) }, issued))
    }

    /// Takes up an authority that was made before, here or elsewhere.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), issuer: Issuer::from_ca_cert_pem(cert_pem, key)? })
    }

    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, leaf: &LeafParams<'_>, now: Timestamp) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let certificate = leaf_params(leaf, now)?.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs what a request asks for: its subject and names, with the usages given here. Returns PEM.
    /// Who may ask for what is the caller's decision.
    pub fn sign_request(
        &self,
        request_pem: &str,
        client: bool,
        server: bool,
        now: Timestamp,
        valid_for: SignedDuration,
    ) -> Result<String> {
        crate::request_info(request_pem)?;
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(request_pem)?;
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        request.params.extended_key_usages = usages(client, server);
        set_validity(&mut request.params, now, valid_for)?;
        let certificate: Certificate = request.signed_by(&self.issuer)?;
        Ok(certificate.pem())
    }
}

fn usages(client: bool, server: bool) -> Vec<ExtendedKeyUsagePurpose> {
    let mut usages = Vec::new();
    if client {
        usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    if server {
        usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    usages
}

fn leaf_params(leaf: &LeafParams<'_>, now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = crate::request::subject(leaf.common_name, leaf.organizations)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages(leaf.client, leaf.server);
    for name in leaf.alt_names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    set_validity(&mut params, now, leaf.valid_for)?;
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, valid_for: SignedDuration) -> Result<()> {
    let convert =
        |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Time(at));
    params.not_before = convert(now.checked_sub(BACKDATE).map_err(|_| Error::Time(now))?)?;
    params.not_after = convert(now.checked_add(valid_for).map_err(|_| Error::Time(now))?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{certificate_info, new_request, request_info};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().expect("time")
    }

    #[test]
    fn leaves_carry_user_and_groups() {
        let (authority, kept) = Authority::create("kubernetes", now(), DAY).expect("authority");
        let again = Authority::load(&kept.cert_pem, &kept.key_pem).expect("the same authority");
        let names = ["localhost".to_owned(), "10.96.0.1".to_owned(), "::1".to_owned()];
        let leaf = LeafParams {
            common_name: "admin",
            organizations: &["system:masters", "ops"],
            alt_names: &names,
            client: true,
            server: true,
            valid_for: DAY,
        };
        for issuer in [&authority, &again] {
            let issued = issuer.issue(&leaf, now()).expect("certificate");
            let info = certificate_info(&issued.cert_pem).expect("certificate");
            assert_eq!(info.common_name, "admin");
            assert_eq!(info.organizations, ["system:masters", "ops"]);
            assert_eq!(info.not_after, now() + DAY);
            assert_eq!(info.dns_names, ["localhost"]);
        }
    }

    #[test]
    fn requests_are_signed_with_their_subject() {
        let (authority, _) = Authority::create("kubernetes", now(), DAY).expect("authority");
        let (request, _) = new_request("system:node:n1", &["system:nodes"], &["n1".to_owned()]).expect("request");
        let asked = request_info(&request).expect("request");
        assert_eq!(
            (asked.common_name.as_str(), asked.organizations.as_slice()),
            ("system:node:n1", &["system:nodes".to_owned()][..])
        );
        let signed = authority.sign_request(&request, true, false, now(), DAY).expect("signed");
        let info = certificate_info(&signed).expect("certificate");
        assert_eq!(info.common_name, "system:node:n1");
        assert!(
            request_info("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n").is_err()
        );
    }
}
