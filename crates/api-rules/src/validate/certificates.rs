//! Certificate signing requests. That a request is well signed is for whoever can read certificates.

use std::collections::BTreeSet;

use base64::Engine;
use coracle_api_meta::{FieldError, FieldPath, names};

use crate::at::{At, Errors};
use crate::diff::diff;
use crate::same::same;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const EXPIRATION_SECONDS_MIN: i64 = 600;
const SIGNER_BYTES_MAX: usize = 571;

pub fn signing_request(request: &At<'_>, errors: &mut Errors) {
    let spec = request.get("spec");
    let pem = spec.get("request");
    let text = base64::engine::general_purpose::STANDARD.decode(pem.str()).unwrap_or_default();
    if !String::from_utf8_lossy(&text).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        pem.invalid(errors, "PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.get("usages");
    if usages.is_empty() {
        usages.required(errors, "");
    }
    usages.items().iter().for_each(|usage| usage.one_of(errors, USAGES));
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        if !seen.insert(usage.str()) {
            usage.duplicate(errors);
        }
    }
    let signer = spec.get("signerName");
    if signer.str() == "kubernetes.io/legacy-unknown" {
        signer.invalid(errors, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, errors);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.exists() && seconds.int() < EXPIRATION_SECONDS_MIN {
        seconds.invalid(errors, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    conditions(&request.dig("status.conditions"), errors);
}

/// `example.com/signer`.
pub(crate) fn signer_name(signer: &At<'_>, errors: &mut Errors) {
    let text = signer.str();
    if text.is_empty() {
        return signer.required(errors, "");
    }
    let parts: Vec<&str> = text.split('/').collect();
    let [domain, path] = parts.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return signer.invalid(errors, detail);
    };
    if domain.len() > names::DNS1123_SUBDOMAIN_BYTES_MAX {
        signer.too_long(errors, names::DNS1123_SUBDOMAIN_BYTES_MAX);
    }
    first_bad_part(signer, domain, names::is_dns1123_label, errors);
    if !domain.contains('.') {
        signer.invalid_as(errors, *domain, "should be a domain with at least two segments separated by dots");
    }
    first_bad_part(signer, path, names::is_dns1123_subdomain, errors);
    if text.len() > SIGNER_BYTES_MAX {
        signer.too_long(errors, SIGNER_BYTES_MAX);
    }
}

/// Reports the first part between dots that is bad, and spares the reader the others.
fn first_bad_part(signer: &At<'_>, text: &str, check: fn(&str) -> Vec<String>, errors: &mut Errors) {
    let bad = text.split('.').map(|part| (part, check(part))).find(|(_, details)| !details.is_empty());
    for (part, detail) in bad.into_iter().flat_map(|(part, details)| details.into_iter().map(move |one| (part, one))) {
        signer.invalid_as(errors, text, format!("validating label {part:?}: {detail}"));
    }
}

fn conditions(list: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if kind.is_empty() {
            kind.required(errors, "");
        }
        if status.is_empty() {
            status.required(errors, "");
        } else if matches!(kind.str(), "Approved" | "Denied" | "Failed") {
            status.one_of(errors, &["True"]);
        } else {
            status.one_of(errors, &["False", "True", "Unknown"]);
        }
        let other = match kind.str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if seen.contains(other) {
            list.invalid_as(errors, kind.str(), "Approved and Denied conditions are mutually exclusive");
        }
        if !seen.insert(kind.str()) {
            kind.duplicate(errors);
        }
    }
}

fn of_type<'v>(request: &At<'v>, kind: &str) -> Vec<coracle_api_meta::Value> {
    let list = request.dig("status.conditions").items();
    list.iter().filter(|one| one.text("type") == kind).map(|one| one.value().clone()).collect()
}

/// What a write of the main resource, of `status` and of `approval` may change.
fn changes(new: &At<'_>, old: &At<'_>, approves: bool, issues: bool, errors: &mut Errors) {
    let at = FieldPath::new("status").child("conditions");
    let mut forbid = |text: String| errors.push(FieldError::forbidden(&at, text));
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            forbid(format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| !approves) {
        let (now, before) = (of_type(new, kind), of_type(old, kind));
        if now.len() > before.len() {
            forbid(format!("updates may not add a condition of type {kind:?}"));
        } else if now.len() == before.len() && !same(&now.clone().into(), &before.clone().into()) {
            let changes = diff(&before.into(), &now.into());
            forbid(format!("updates may not modify a condition of type {kind:?}\n{changes}"));
        }
    }
    let (certificate, before) = (new.dig("status.certificate"), old.dig("status.certificate"));
    if certificate.str() != before.str() {
        if !issues {
            certificate.forbidden(errors, "updates may not set certificate content");
        } else if !before.is_empty() {
            certificate.forbidden(errors, "updates may not modify existing certificate content");
        }
    }
}

pub fn signing_request_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    changes(new, old, false, false, errors);
}

pub fn status_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    signing_request(new, errors);
    changes(new, old, false, true, errors);
}

pub fn approval_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    signing_request(new, errors);
    changes(new, old, true, false, errors);
}
