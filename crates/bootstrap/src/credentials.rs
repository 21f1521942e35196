//! Keys and certificates of a cluster.

use base64::Engine as _;
use coracle_pki::{Authority, Issued, LeafParams, TokenKey, certificate_info, key_fits};
use jiff::{SignedDuration, Timestamp};

use crate::files::{failed, make_folder, read, write};
use crate::{ClusterFolder, Error, Result};

const CA_VALID: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// Common name of the front proxy's certificate. Source: kubeadm.
const FRONT_PROXY_NAME: &str = "front-proxy-client";
const LEAF_VALID: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Leaves are made anew at a start when they have less than this left.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 120);

/// Everything that components authenticate with, in PEM.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub ca_cert_pem: String,
    pub ca_key_pem: String,
    /// Signs service-account tokens.
    pub service_account_key_pem: String,
    /// Encrypts secrets in the store: 32 bytes in base64.
    pub encryption_key: String,
    pub apiserver: Issued,
    /// `kubernetes-admin` in `system:masters`.
    pub admin: Issued,
    /// The kubelet's serving certificate.
    pub kubelet: Issued,
    /// With which the API server calls kubelets.
    pub kubelet_client: Issued,
    /// Authority of its own: whoever it signs speaks for any user at aggregated API servers.
    pub front_proxy_ca_cert_pem: String,
    /// With which the API server calls aggregated API servers.
    pub front_proxy_client: Issued,
}

/// Reads the credentials of a folder; makes those that are missing, nearly over or lack one of `server_names`.
pub fn prepare(
    folder: &ClusterFolder,
    node_name: &str,
    server_names: &[String],
    node_names: &[String],
    now: Timestamp,
) -> Result<Credentials> {
    make_folder(&folder.pki(""))?;
    let (authority, ca) = authority(folder, now)?;
    let (proxy_authority, proxy_ca) = front_proxy_authority(folder, now)?;
    let maker = Maker { folder, authority: &authority, now };
    let proxy_maker = Maker { folder, authority: &proxy_authority, now };
    let server = |common_name, alt_names| LeafParams {
        common_name,
        organizations: &[],
        alt_names,
        client: false,
        server: true,
        valid_for: LEAF_VALID,
    };
    let client = |common_name, organizations| LeafParams {
        common_name,
        organizations,
        alt_names: &[],
        client: true,
        server: false,
        valid_for: LEAF_VALID,
    };
    let node_user = format!("system:node:{node_name}");
    Ok(Credentials {
        service_account_key_pem: service_account_key(folder)?,
        encryption_key: encryption_key(folder)?,
        apiserver: maker.leaf("apiserver", &server("kube-apiserver", server_names))?,
        admin: maker.leaf("admin", &client("kubernetes-admin", &["system:masters"]))?,
        kubelet: maker.leaf("kubelet", &server(&node_user, node_names))?,
        kubelet_client: maker
            .leaf("apiserver-kubelet-client", &client("kube-apiserver-kubelet-client", &["system:masters"]))?,
        front_proxy_client: proxy_maker.leaf("front-proxy-client", &client(FRONT_PROXY_NAME, &[]))?,
        front_proxy_ca_cert_pem: proxy_ca.cert_pem,
        ca_cert_pem: ca.cert_pem,
        ca_key_pem: ca.key_pem,
    })
}

fn authority(folder: &ClusterFolder, now: Timestamp) -> Result<(Authority, Issued)> {
    if let Some(issued) = pair(folder, "ca")? {
        return Ok((load_authority(folder, &issued)?, issued));
    }
    if folder.store().exists() {
        let path = folder.pki("ca.key");
        let why = "the cluster has data, but its certificate authority is gone: put pki/ca.key and pki/ca.crt back, or remove the cluster with `coracle reset`";
        return Err(Error::Damaged { path, why: why.to_owned() });
    }
    let (authority, issued) = Authority::create("kubernetes", now, CA_VALID)?;
    keep(folder, "ca", &issued)?;
    Ok((authority, issued))
}

/// Nothing that is stored depends on it, so a lost one is made anew.
fn front_proxy_authority(folder: &ClusterFolder, now: Timestamp) -> Result<(Authority, Issued)> {
    if let Some(issued) = pair(folder, "front-proxy-ca")? {
        return Ok((Authority::load(&issued.cert_pem, &issued.key_pem)?, issued));
    }
    // What the lost one signed is good for nothing.
    let leaf = folder.pki("front-proxy-client.crt");
    match std::fs::remove_file(&leaf) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &leaf)(source)),
        _ => {}
    }
    let (authority, issued) = Authority::create("front-proxy-ca", now, CA_VALID)?;
    keep(folder, "front-proxy-ca", &issued)?;
    Ok((authority, issued))
}

const PUT_BACK: &str = "put it back from a copy, or remove the cluster with `coracle reset`";

/// Errors name the file that is at fault.
fn load_authority(folder: &ClusterFolder, issued: &Issued) -> Result<Authority> {
    let damaged =
        |file: &str, why: String| Error::Damaged { path: folder.pki(file), why: format!("{why}: {PUT_BACK}") };
    if let Err(error) = certificate_info(&issued.cert_pem) {
        return Err(damaged("ca.crt", error.to_string()));
    }
    match key_fits(&issued.cert_pem, &issued.key_pem) {
        Err(_) => return Err(damaged("ca.key", "it holds no private key in PEM".to_owned())),
        Ok(false) => return Err(damaged("ca.key", "it is not the key of ca.crt".to_owned())),
        Ok(true) => {}
    }
    Authority::load(&issued.cert_pem, &issued.key_pem).map_err(|_| damaged("ca.crt", "it is no authority".to_owned()))
}

fn service_account_key(folder: &ClusterFolder) -> Result<String> {
    let path = folder.pki("sa.key");
    if let Some(pem) = read(&path)? {
        if TokenKey::load(&pem).is_err() {
            return Err(Error::Damaged { path, why: format!("it holds no private key in PEM: {PUT_BACK}") });
        }
        return Ok(pem);
    }
    if folder.store().exists() {
        let why =
            format!("the cluster has data, but the key that signs its service accounts' tokens is gone: {PUT_BACK}");
        return Err(Error::Damaged { path, why });
    }
    let pem = TokenKey::generate_pem()?;
    write(&path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}

fn encryption_key(folder: &ClusterFolder) -> Result<String> {
    let path = folder.pki("encryption.key");
    if let Some(text) = read(&path)? {
        return Ok(text);
    }
    let mut key = [0; 32];
    let damaged = |_| Error::Damaged { path: path.clone(), why: "no random bytes to make it from".to_owned() };
    aws_lc_rs::rand::fill(&mut key).map_err(damaged)?;
    let text = base64::engine::general_purpose::STANDARD.encode(key) + "\n";
    write(&path, text.as_bytes(), 0o600)?;
    Ok(text)
}

fn pair(folder: &ClusterFolder, name: &str) -> Result<Option<Issued>> {
    let key = read(&folder.pki(&format!("{name}.key")))?;
    let cert = read(&folder.pki(&format!("{name}.crt")))?;
    Ok(key.zip(cert).map(|(key_pem, cert_pem)| Issued { cert_pem, key_pem }))
}

/// The certificate is written last: a pair that was cut off is made again.
fn keep(folder: &ClusterFolder, name: &str, issued: &Issued) -> Result<()> {
    write(&folder.pki(&format!("{name}.key")), issued.key_pem.as_bytes(), 0o600)?;
    write(&folder.pki(&format!("{name}.crt")), issued.cert_pem.as_bytes(), 0o644)
}

struct Maker<'a> {
    folder: &'a ClusterFolder,
    authority: &'a Authority,
    now: Timestamp,
}

impl Maker<'_> {
    fn leaf(&self, name: &str, leaf: &LeafParams<'_>) -> Result<Issued> {
        if let Some(issued) = pair(self.folder, name)?
            && self.still_good(&issued, leaf)
        {
            return Ok(issued);
        }
        let issued = self.authority.issue(leaf, self.now)?;
        keep(self.folder, name, &issued)?;
        Ok(issued)
    }

    fn still_good(&self, issued: &Issued, leaf: &LeafParams<'_>) -> bool {
        let Ok(info) = certificate_info(&issued.cert_pem) else { return false };
        if !key_fits(&issued.cert_pem, &issued.key_pem).unwrap_or(false) {
            return false;
        }
        let covers = |name: &String| match name.parse() {
            Ok(address) => info.ip_addresses.contains(&address),
            Err(_) => info.dns_names.contains(name),
        };
        info.common_name == leaf.common_name
            && info.not_before <= self.now
            && info.not_after.duration_since(self.now) > RENEW_BEFORE
            && leaf.alt_names.iter().all(covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_until_they_must_change() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        let names = ["localhost".to_owned()];
        let more = ["localhost".to_owned(), "10.0.0.1".to_owned()];
        let first = prepare(&folder, "n1", &names, &[], now).expect("credentials");
        let second = prepare(&folder, "n1", &names, &[], now).expect("credentials");
        assert_eq!((&first.apiserver, &first.admin), (&second.apiserver, &second.admin));
        let third = prepare(&folder, "n1", &more, &[], now).expect("credentials");
        assert_ne!(first.apiserver, third.apiserver);
        assert_eq!((&first.ca_cert_pem, &first.admin), (&third.ca_cert_pem, &third.admin));
        let years_later = now + SignedDuration::from_hours(24 * 365 * 3);
        let fourth = prepare(&folder, "n1", &more, &[], years_later).expect("credentials");
        assert_ne!(third.admin, fourth.admin);
        assert_eq!(first.service_account_key_pem, fourth.service_account_key_pem);
        assert_eq!(first.encryption_key, fourth.encryption_key);
        let mode = std::os::unix::fs::MetadataExt::mode(&folder.pki("encryption.key").metadata().expect("a key"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_front_proxy_authority_is_made_anew_with_its_leaf() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        let prepared = || prepare(&folder, "n1", &[], &[], now).expect("credentials");
        let (first, second) = (prepared(), prepared());
        assert_eq!(first.front_proxy_client, second.front_proxy_client);
        assert_ne!(first.front_proxy_ca_cert_pem, first.ca_cert_pem);
        std::fs::remove_file(folder.pki("front-proxy-ca.key")).expect("remove");
        let third = prepared();
        assert_ne!(first.front_proxy_ca_cert_pem, third.front_proxy_ca_cert_pem);
        assert_ne!(first.front_proxy_client, third.front_proxy_client);
    }

    #[test]
    fn a_lost_authority_is_not_replaced() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        prepare(&folder, "n1", &[], &[], now).expect("credentials");
        std::fs::create_dir(folder.store()).expect("store");
        prepare(&folder, "n1", &[], &[], now).expect("credentials");
        for file in ["sa.key", "ca.key"] {
            std::fs::remove_file(folder.pki(file)).expect("remove");
            assert!(
                matches!(prepare(&folder, "n1", &[], &[], now), Err(Error::Damaged { path, .. }) if path == folder.pki(file))
            );
        }
    }

    #[test]
    fn damaged_keys_are_named_and_damaged_leaves_made_anew() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = ClusterFolder::new(temporary.path());
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        let first = prepare(&folder, "n1", &[], &[], now).expect("credentials");
        for leaf in ["admin.key", "admin.crt"] {
            std::fs::write(folder.pki(leaf), "-----BEGIN NONSENSE-----").expect("write");
            let again = prepare(&folder, "n1", &[], &[], now).expect("credentials");
            assert_ne!(again.admin, first.admin);
        }
        for file in ["sa.key", "ca.key", "ca.crt"] {
            let good = std::fs::read(folder.pki(file)).expect("read");
            std::fs::write(folder.pki(file), "-----BEGIN NONSENSE-----").expect("write");
            let error = prepare(&folder, "n1", &[], &[], now).expect_err(file).to_string();
            let path = folder.pki(file).display().to_string();
            assert!(error.starts_with(&format!("{path} is damaged: ")) && error.contains("put it back"), "{error}");
            std::fs::write(folder.pki(file), good).expect("write");
        }
        let other = Authority::create("other", now, CA_VALID).expect("authority").1;
        std::fs::write(folder.pki("ca.key"), other.key_pem).expect("write");
        let error = prepare(&folder, "n1", &[], &[], now).expect_err("another key").to_string();
        assert!(error.contains("it is not the key of ca.crt"), "{error}");
    }
}
