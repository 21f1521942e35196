//! What expressions see of a request.

use std::sync::{Arc, OnceLock, Weak};

use coracle_api_cel::{CALL_COST_MAX, Env, EvalError, Host, Meter, Program, Ty, Val, compile};
use coracle_api_meta::{Gvk, Gvr, UserInfo, Value};
use serde_json::json;

use crate::{
    PolicyError,
    authorize::{Ask, authorizer},
};

/// A request as admission sees it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub operation: &'a str,
    pub kind: &'a Gvk,
    pub resource: &'a Gvr,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub object: Option<&'a Value>,
    pub old_object: Option<&'a Value>,
    /// The namespace of a namespaced object.
    pub namespace_object: Option<&'a Value>,
    /// Options of the request (`CreateOptions` and so on).
    pub options: Option<&'a Value>,
    pub dry_run: bool,
    pub user: &'a UserInfo,
    /// Answers what expressions ask of `authorizer`.
    pub ask: Option<Ask<'a>>,
}

/// An expression with its source.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub source: String,
    program: Program,
}

/// Variables that expressions of policies may name; `params` only where there is a `paramKind`.
pub(crate) fn environment(has_params: bool) -> Env {
    let mut names = vec!["object", "oldObject", "request", "namespaceObject", "variables", "authorizer"];
    if has_params {
        names.push("params");
    }
    names
        .into_iter()
        .fold(Env::default(), |env, name| env.with(name, Ty::Dyn))
        .with("authorizer.requestResource", Ty::Dyn)
}

impl Expression {
    pub fn compile(source: &str, env: &Env) -> Result<Self, PolicyError> {
        let program = compile(source, env).map_err(|error| PolicyError::Compile(error.to_string()))?;
        Ok(Self { source: source.to_owned(), program })
    }

    pub fn ty(&self) -> &Ty {
        &self.program.ty
    }

    /// The value, paid for from what is left of the budget.
    pub fn eval<'a>(&self, input: &Input<'a>, left: &mut u64) -> Result<Val<'a>, PolicyError> {
        let mut meter = Meter::new(CALL_COST_MAX.min(*left));
        let result = self.program.eval(&input.variables, &mut meter);
        *left = left.saturating_sub(meter.spent());
        result.map_err(|error| self.failed(&error))
    }

    pub fn failed(&self, error: &EvalError) -> PolicyError {
        let error = match error {
            EvalError::Cost => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            other => other.to_string(),
        };
        PolicyError::Evaluate { expression: self.source.clone(), error }
    }
}

/// The variables of one evaluation.
pub(crate) struct Input<'a> {
    variables: Vec<(&'static str, Val<'a>)>,
}

/// The `request` variable.
pub(crate) fn request_value(request: &Request<'_>) -> Value {
    let kind = json!({ "group": request.kind.group, "version": request.kind.version, "kind": request.kind.kind });
    let resource = json!({ "group": request.resource.group, "version": request.resource.version,
        "resource": request.resource.resource });
    let user = serde_json::to_value(request.user).unwrap_or_default();
    json!({
        "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
        "subResource": request.subresource, "requestSubResource": request.subresource,
        "name": request.name, "namespace": request.namespace, "operation": request.operation,
        "userInfo": user, "dryRun": request.dry_run, "options": request.options,
    })
}

impl<'a> Input<'a> {
    /// `described` is [`request_value`]'s.
    pub fn new(
        request: &Request<'a>,
        described: &'a Value,
        params: Option<&'a Value>,
        composed: &'a [(String, Expression)],
    ) -> Self {
        let json = |value: Option<&'a Value>| value.map_or(Val::Null, |value| Val::of(value, &Ty::Dyn));
        let mut variables = vec![
            ("object", json(request.object)),
            ("oldObject", json(request.old_object)),
            ("request", Val::of(described, &Ty::Dyn)),
            ("namespaceObject", json(request.namespace_object)),
            ("params", json(params)),
        ];
        if let Some(ask) = request.ask {
            variables.push(("authorizer", authorizer(ask, request)));
        }
        let base = variables.clone();
        let host = Arc::new_cyclic(|own: &Weak<Variables<'a>>| Variables {
            composed,
            values: composed.iter().map(|_| OnceLock::new()).collect(),
            base,
            own: own.clone(),
        });
        variables.push(("variables", Val::Host(host)));
        Self { variables }
    }
}

/// `variables`: each is evaluated when it is first asked for.
#[derive(Debug)]
struct Variables<'a> {
    composed: &'a [(String, Expression)],
    values: Vec<OnceLock<Result<Val<'a>, EvalError>>>,
    base: Vec<(&'static str, Val<'a>)>,
    own: Weak<Variables<'a>>,
}

impl<'a> Host<'a> for Variables<'a> {
    fn field(&self, name: &str, meter: &mut Meter) -> Result<Val<'a>, EvalError> {
        let missing = || EvalError::NoKey(name.to_owned());
        let index = self.composed.iter().position(|(known, _)| known == name).ok_or_else(missing)?;
        let slot = self.values.get(index).ok_or_else(missing)?;
        if let Some(known) = slot.get() {
            return known.clone();
        }
        let own = self.own.upgrade().ok_or_else(missing)?;
        // A variable may name those before it.
        let mut variables = self.base.clone();
        variables.push(("variables", Val::Host(Arc::new(Before { all: own, count: index }))));
        let value = self.composed[index].1.program.eval(&variables, meter);
        if !matches!(value, Err(EvalError::Cost)) {
            let _ = slot.set(value.clone());
        }
        value
    }

    fn call(&self, _: &str, _: &[Val<'a>], _: &mut Meter) -> Result<Val<'a>, EvalError> {
        Err(EvalError::Overload)
    }
}

/// The first `count` variables.
#[derive(Debug)]
struct Before<'a> {
    all: Arc<Variables<'a>>,
    count: usize,
}

impl<'a> Host<'a> for Before<'a> {
    fn field(&self, name: &str, meter: &mut Meter) -> Result<Val<'a>, EvalError> {
        let known = self.all.composed.iter().take(self.count).any(|(known, _)| known == name);
        if known { self.all.field(name, meter) } else { Err(EvalError::NoKey(name.to_owned())) }
    }

    fn call(&self, name: &str, args: &[Val<'a>], meter: &mut Meter) -> Result<Val<'a>, EvalError> {
        self.all.call(name, args, meter)
    }
}

/// Compiles `spec.variables`.
pub(crate) fn composed(spec: &Value, env: &Env) -> Result<Vec<(String, Expression)>, PolicyError> {
    let variables = spec["variables"].as_array().into_iter().flatten();
    variables
        .map(|variable| {
            let text = |key: &str| variable[key].as_str().unwrap_or_default();
            Ok((text("name").to_owned(), Expression::compile(text("expression"), env)?))
        })
        .collect()
}
