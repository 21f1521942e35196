//! Admission reviews. Source: `admission.k8s.io`, `webhook/request/admissionreview.go`, `webhook/errors/statuserror.go`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Gvr, Status, Value};
use serde_json::json;

use super::super::Request;

/// What a hook is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of this review.
    pub uid: &'a str,
    /// `v1` or `v1beta1`.
    pub version: &'a str,
    /// What the rule matched.
    pub gvr: &'a Gvr,
    pub gvk: &'a Gvk,
    /// What the client asked for.
    pub request_kind: &'a Gvk,
    pub object: &'a Value,
    pub old: &'a Value,
    pub options: &'a Value,
    pub dry_run: bool,
}

#[must_use]
pub fn review(request: &Request<'_>, asked: &Asked<'_>) -> Value {
    let kind = |gvk: &Gvk| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let resource = |gvr: &Gvr| json!({"group": gvr.group, "version": gvr.version, "resource": gvr.resource});
    let mut fields = json!({
        "uid": asked.uid,
        "kind": kind(asked.gvk),
        "resource": resource(asked.gvr),
        "requestKind": kind(asked.request_kind),
        "requestResource": resource(request.gvr),
        "operation": request.operation.as_str(),
        "userInfo": request.user,
        "object": asked.object,
        "oldObject": asked.old,
        "dryRun": asked.dry_run,
        "options": asked.options,
    });
    let texts = [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", request.namespace),
    ];
    for (field, text) in texts {
        if !text.is_empty() {
            fields[field] = text.into();
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{}", asked.version), "request": fields})
}

/// What a hook says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    pub warnings: Vec<String>,
    /// Base64 of a JSON patch; only of hooks that mutate.
    pub patch: Option<String>,
    pub status: Value,
    /// For the audit log, by keys of the hook's own.
    pub annotations: Vec<(String, String)>,
}

/// Reads the answer to the review `uid` of `version`, or says what is wrong with it.
pub fn read(review: &Value, uid: &str, version: &str, mutating: bool) -> Result<Answer, String> {
    let response = review.get("response").filter(|response| response.is_object());
    let response = response.ok_or("webhook response was absent")?;
    let patch = response.str_at(&["patch"]);
    let patch_type = response.get("patchType").and_then(Value::as_str);
    if version == "v1" {
        let own = response.str_at(&["uid"]);
        if own != uid {
            return Err(format!("expected response.uid={uid:?}, got {own:?}"));
        }
        if (review.api_version(), review.kind()) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
                review.api_version(),
                review.kind()
            ));
        }
        match (mutating, patch.is_empty(), patch_type) {
            (true, false, None) => return Err("webhook returned response.patch but not response.patchType".to_owned()),
            (true, true, Some(_)) => {
                return Err("webhook returned response.patchType but not response.patch".to_owned());
            }
            (true, false, Some("")) => {
                return Err("webhook returned invalid response.patchType of \"\"".to_owned());
            }
            (true, false, Some(kind)) if kind != "JSONPatch" => return Err(format!("unsupported patch type {kind:?}")),
            (false, false, _) => return Err("validating webhook may not return response.patch".to_owned()),
            (false, _, Some(_)) => return Err("validating webhook may not return response.patchType".to_owned()),
            _ => {}
        }
    }
    let warnings = super::list(response, &["warnings"]).filter_map(Value::as_str).map(str::to_owned).collect();
    let annotations = response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten();
    let annotations = annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    Ok(Answer {
        annotations,
        allowed: response.get("allowed") == Some(&Value::Bool(true)),
        warnings,
        patch: (mutating && !patch.is_empty()).then(|| patch.to_owned()),
        status: response.get("status").cloned().unwrap_or(Value::Null),
    })
}

/// The refusal of a hook, with its own status in it.
#[must_use]
pub fn denied(hook: &str, status: &Value) -> Status {
    const BAD_REQUEST: u16 = 400;
    let mut refusal: Status = serde_json::from_value(status.clone()).unwrap_or_default();
    refusal.code = refusal.code.max(BAD_REQUEST);
    "Failure".clone_into(&mut refusal.status);
    let start = format!("admission webhook {hook:?} denied the request");
    refusal.message = match (refusal.message.as_str(), refusal.reason.as_str()) {
        ("", "") => format!("{start} without explanation"),
        ("", reason) => format!("{start}: {reason}"),
        (message, _) => format!("{start}: {message}"),
    };
    refusal
}

/// The hook may do something beside its answer, and nothing is to be done.
#[must_use]
pub fn no_dry_run(hook: &str) -> Status {
    Status::bad_request(format!("admission webhook {hook:?} does not support dry run"))
}
