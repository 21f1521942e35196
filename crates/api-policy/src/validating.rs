//! ValidatingAdmissionPolicy.
//!
//! Source: `k8s.io/apiserver/pkg/admission/plugin/policy/validating`.

use coracle_api_cel::{Env, REQUEST_COST_MAX, Ty, Val, compile as compile_cel};
use coracle_api_meta::Value;
use serde_json::json;

use crate::{
    Conditions, PolicyError, Request, Verdict,
    input::{Expression, Input, composed, environment, request_value},
};

/// Longest message that an expression gives.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Longest value of an audit annotation.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// A compiled policy.
#[derive(Debug, Clone)]
pub struct ValidatingPolicy {
    fail: bool,
    /// What compiling found; evaluation then fails with it.
    broken: Option<PolicyError>,
    conditions: Conditions,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

#[derive(Debug, Clone)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

/// What a policy has against a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Index of the validation.
    pub index: usize,
    pub message: String,
    /// `Invalid`, `Forbidden`, ...; empty for errors, which count as `Invalid`.
    pub reason: String,
}

/// What a binding does with decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Deny,
    Warn,
    Audit,
}

/// What a policy says of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub decisions: Vec<Decision>,
    /// Audit annotations by key.
    pub annotations: Vec<(String, String)>,
}

impl Action {
    /// `validationActions` of a binding.
    #[must_use]
    pub fn of(binding: &Value) -> Vec<Self> {
        let actions = binding["spec"]["validationActions"].as_array().into_iter().flatten();
        let action = |action: &Value| match action.as_str() {
            Some("Deny") => Some(Self::Deny),
            Some("Warn") => Some(Self::Warn),
            Some("Audit") => Some(Self::Audit),
            _ => None,
        };
        actions.filter_map(action).collect()
    }
}

/// Message of the Status of a denied request.
#[must_use]
pub fn denial(policy: &str, binding: &str, decision: &Decision) -> String {
    format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}", decision.message)
}

/// Text of the warning for a decision that a binding only warns about.
#[must_use]
pub fn warning_of(policy: &str, binding: &str, decision: &Decision) -> String {
    format!("Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}", decision.message)
}

impl ValidatingPolicy {
    /// Compiles a policy. What does not compile is found when the policy is evaluated; a message expression that does not is
    /// left out.
    #[must_use]
    pub fn compile(policy: &Value) -> Self {
        let spec = &policy["spec"];
        let env = environment(spec["paramKind"].is_object());
        let mut broken = None;
        let mut keep = |error: PolicyError| broken = broken.take().or(Some(error));
        let conditions = Conditions::with(&spec["matchConditions"], &env).map_err(|(_, error)| keep(error));
        let variables = composed(spec, &env).map_err(&mut keep);
        let items = |key: &str| spec[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let validations = items("validations").iter().map(|validation| compiled(validation, &env));
        let validations = validations.collect::<Result<_, _>>().map_err(&mut keep);
        let annotations = items("auditAnnotations").iter().map(|annotation| {
            let text = |key: &str| annotation[key].as_str().unwrap_or_default();
            Ok((text("key").to_owned(), Expression::compile(text("valueExpression"), &env)?))
        });
        let annotations = annotations.collect::<Result<_, _>>().map_err(&mut keep);
        Self {
            fail: spec["failurePolicy"] != "Ignore",
            conditions: conditions.unwrap_or_default(),
            variables: variables.unwrap_or_default(),
            validations: validations.unwrap_or_default(),
            annotations: annotations.unwrap_or_default(),
            broken,
        }
    }

    /// What the policy says of a request that it matches, with one of the parameters of a binding.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>, params: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(error) = &self.broken {
            self.failure(0, error.to_string(), &mut outcome);
            return outcome;
        }
        let described = request_value(request);
        let input = Input::new(request, &described, params, &self.variables);
        match self.conditions.hold(&input) {
            Verdict::Match => {}
            Verdict::Skip => return outcome,
            Verdict::Failed(error) => {
                self.failure(0, error, &mut outcome);
                return outcome;
            }
        }
        let mut left = REQUEST_COST_MAX;
        for (index, validation) in self.validations.iter().enumerate() {
            match validation.expression.eval(&input, &mut left) {
                Ok(Val::Bool(true)) => {}
                Ok(_) => outcome.decisions.push(Decision {
                    index,
                    message: validation.message(&input, &mut left),
                    reason: validation.reason.clone(),
                }),
                Err(error) => self.failure(index, error.to_string(), &mut outcome),
            }
        }
        self.annotate(&input, &mut left, &mut outcome);
        outcome
    }

    /// An error denies unless the policy says to ignore errors.
    fn failure(&self, index: usize, message: String, outcome: &mut Outcome) {
        if self.fail {
            outcome.decisions.push(Decision { index, message, reason: String::new() });
        }
    }

    fn annotate(&self, input: &Input<'_>, left: &mut u64, outcome: &mut Outcome) {
        for (key, expression) in &self.annotations {
            match expression.eval(input, left) {
                Ok(Val::Str(text)) if !text.trim().is_empty() => {
                    let mut end = text.trim().len().min(ANNOTATION_BYTES_MAX);
                    while !text.trim().is_char_boundary(end) {
                        end -= 1;
                    }
                    outcome.annotations.push((key.clone(), text.trim()[..end].to_owned()));
                }
                Ok(_) => {}
                Err(error) => self.failure(0, error.to_string(), outcome),
            }
        }
    }
}

fn compiled(validation: &Value, env: &Env) -> Result<Validation, PolicyError> {
    let text = |key: &str| validation[key].as_str().unwrap_or_default();
    let reason = if text("reason").is_empty() { "Invalid" } else { text("reason") };
    Ok(Validation {
        expression: Expression::compile(text("expression").trim(), env)?,
        message: text("message").trim().to_owned(),
        message_expression: Expression::compile(text("messageExpression"), env).ok(),
        reason: reason.to_owned(),
    })
}

impl Validation {
    fn message(&self, input: &Input<'_>, left: &mut u64) -> String {
        let evaluated = self.message_expression.as_ref().and_then(|expression| expression.eval(input, left).ok());
        if let Some(Val::Str(text)) = evaluated {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                return text.to_owned();
            }
        }
        if self.message.is_empty() {
            format!("failed expression: {}", self.expression.source)
        } else {
            self.message.clone()
        }
    }
}

/// `status.typeChecking.expressionWarnings` of a policy: what the types of the kinds that it matches have against its
/// expressions. `kinds` are their names and types, `params` the type of the parameters, where it is known.
#[must_use]
pub fn type_check(policy: &Value, kinds: &[(String, Ty)], params: Option<&Ty>) -> Vec<Value> {
    let spec = &policy["spec"];
    let mut warnings = Vec::new();
    for (index, validation) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for key in ["expression", "messageExpression"] {
            let Some(source) = validation[key].as_str().filter(|source| !source.is_empty()) else { continue };
            let found: Vec<String> = kinds
                .iter()
                .filter_map(|(name, ty)| {
                    let error = compile_cel(source, &typed(spec, ty, params)).err()?;
                    Some(format!("{name}: compilation failed: {error}\n"))
                })
                .collect();
            if !found.is_empty() {
                let field = format!("spec.validations[{index}].{key}");
                warnings.push(json!({ "fieldRef": field, "warning": found.join("\n") }));
            }
        }
    }
    warnings
}

/// The environment in which the object is of a kind.
fn typed(spec: &Value, ty: &Ty, params: Option<&Ty>) -> Env {
    let mut env = environment(spec["paramKind"].is_object());
    for (name, known) in &mut env.variables {
        match (name.as_ref(), params) {
            ("object" | "oldObject", _) => *known = ty.clone(),
            ("params", Some(params)) => *known = params.clone(),
            _ => {}
        }
    }
    env
}
