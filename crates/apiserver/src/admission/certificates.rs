//! CertificateSigningRequests: who asks is written in, who signs must be allowed to.
//! Source: `plugin/pkg/admission/certificates`, `pkg/registry/certificates/certificates/strategy.go`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use crate::registry::admit::{Attempt, Operation};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    if attempt.operation != Operation::Create
        || !attempt.is(GROUP, "certificatesigningrequests")
        || !object["spec"].is_object()
    {
        return Ok(());
    }
    let user = &attempt.ctx.user;
    object["spec"]["username"] = user.username.as_str().into();
    object["spec"]["groups"] = json!(user.groups);
    if !user.uid.is_empty() {
        object["spec"]["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        object["spec"]["extra"] = json!(user.extra);
    }
    Ok(())
}

pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let resource = &attempt.target.resource;
    if !resource.is(GROUP, "certificatesigningrequests") {
        return Ok(());
    }
    if attempt.operation == Operation::Update && attempt.subresource == "status" {
        let signed = |object: &Value| object.at(&["status", "certificate"]).cloned();
        if attempt.old.and_then(signed) != signed(object) {
            return crate::subresources::may(attempt.ctx, attempt.target, "sign", "sign requests with");
        }
    }
    // CertificateSubjectRestriction.
    if attempt.operation == Operation::Create && object.str_at(&["spec", "signerName"]) == CLIENT_SIGNER {
        let pem = decode_request(object.str_at(&["spec", "request"]));
        let info = pem.and_then(|pem| coracle_pki::request_info(&pem).ok());
        if info.is_some_and(|info| info.organizations.iter().any(|group| group == "system:masters")) {
            return Err(
                attempt.forbidden(&format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed"))
            );
        }
    }
    Ok(())
}

fn decode_request(text: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok()
}
