//! Whether the expressions of policies and webhook configurations compile, when they are stored.

use coracle_api_cel::{Env, Ty, compile};
use coracle_api_meta::{FieldError, FieldPath, Value};

use crate::{input::environment, mutating};

/// The errors of the expressions of an object of `admissionregistration.k8s.io`, by its kind.
#[must_use]
pub fn expression_errors(kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let env = environment(false);
            for (index, webhook) in items(&object["webhooks"]) {
                let path = FieldPath::new("webhooks").index(index);
                each(
                    &webhook["matchConditions"],
                    "expression",
                    &path.child("matchConditions"),
                    &env,
                    true,
                    &mut errors,
                );
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => policy(object, &mut errors),
        _ => {}
    }
    errors
}

fn policy(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let env = Env { objects: Some(mutating::objects()), ..environment(spec["paramKind"].is_object()) };
    let env = &env;
    each(&spec["matchConditions"], "expression", &path.child("matchConditions"), env, true, errors);
    each(&spec["variables"], "expression", &path.child("variables"), env, false, errors);
    each(&spec["validations"], "expression", &path.child("validations"), env, true, errors);
    each(&spec["validations"], "messageExpression", &path.child("validations"), env, false, errors);
    each(&spec["auditAnnotations"], "valueExpression", &path.child("auditAnnotations"), env, false, errors);
    for (index, mutation) in items(&spec["mutations"]) {
        for key in ["applyConfiguration", "jsonPatch"] {
            let path = path.child("mutations").index(index).child(key);
            one(&mutation[key], "expression", &path, env, false, errors);
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn each(list: &Value, key: &str, path: &FieldPath, env: &Env, boolean: bool, errors: &mut Vec<FieldError>) {
    for (index, item) in items(list) {
        one(item, key, &path.index(index), env, boolean, errors);
    }
}

fn one(item: &Value, key: &str, path: &FieldPath, env: &Env, boolean: bool, errors: &mut Vec<FieldError>) {
    let Some(source) = item[key].as_str().map(str::trim).filter(|source| !source.is_empty()) else { return };
    let path = path.child(key);
    match compile(source, env) {
        Ok(program) if boolean && !matches!(program.ty, Ty::Bool | Ty::Dyn) => {
            errors.push(FieldError::invalid(&path, source, "must evaluate to bool"));
        }
        Ok(_) => {}
        Err(error) => errors.push(FieldError::invalid(&path, source, format!("compilation failed: {error}"))),
    }
}
