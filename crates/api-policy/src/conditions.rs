//! `matchConditions` of webhooks and policies.

use coracle_api_cel::{Env, Ty};
use coracle_api_meta::Value;

use crate::{
    CONDITIONS_COST_MAX, PolicyError, Request,
    input::{Expression, Input, environment, request_value},
};

/// Compiled conditions, all of which have to hold.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    conditions: Vec<Expression>,
}

/// What conditions say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Match,
    Skip,
    /// The failure policy decides.
    Failed(String),
}

impl Conditions {
    /// Compiles `matchConditions` of a webhook. The error is that of the condition with the index.
    pub fn compile(conditions: &Value) -> Result<Self, (usize, PolicyError)> {
        Self::with(conditions, &environment(false))
    }

    pub(crate) fn with(conditions: &Value, env: &Env) -> Result<Self, (usize, PolicyError)> {
        let conditions = conditions.as_array().into_iter().flatten().enumerate();
        let compiled = conditions.map(|(index, condition)| {
            let source = condition["expression"].as_str().unwrap_or_default();
            let expression = Expression::compile(source, env).map_err(|error| (index, error))?;
            match expression.ty() {
                Ty::Bool | Ty::Dyn => Ok(expression),
                _ => Err((index, PolicyError::Compile("must evaluate to bool".to_owned()))),
            }
        });
        Ok(Self { conditions: compiled.collect::<Result<_, _>>()? })
    }

    /// One that is false skips, whatever else fails.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Verdict {
        if self.conditions.is_empty() {
            return Verdict::Match;
        }
        let described = request_value(request);
        self.hold(&Input::new(request, &described, None, &[]))
    }

    pub(crate) fn hold(&self, input: &Input<'_>) -> Verdict {
        let mut left = CONDITIONS_COST_MAX;
        let mut errors = Vec::new();
        for condition in &self.conditions {
            match condition.eval(input, &mut left).map(|value| value.as_bool()) {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Verdict::Skip,
                Ok(Err(error)) => errors.push(condition.failed(&error).to_string()),
                Err(error) => errors.push(error.to_string()),
            }
        }
        match errors.as_slice() {
            [] => Verdict::Match,
            [error] => Verdict::Failed(error.clone()),
            errors => Verdict::Failed(format!("[{}]", errors.join(", "))),
        }
    }
}
