//! MutatingAdmissionPolicy.
//!
//! Source: `k8s.io/apiserver/pkg/admission/plugin/policy/mutating`.

use std::sync::Arc;

use coracle_api_cel::{Env, ObjectType, Objects, REQUEST_COST_MAX, Ty};
use coracle_api_meta::Value;
use coracle_api_schema::{Schemas, TypeId};

use crate::{
    Conditions, PolicyError, Request, Verdict,
    input::{Expression, Input, composed, environment, request_value},
    merge::merge,
};

/// A compiled policy.
#[derive(Debug, Clone)]
pub struct MutatingPolicy {
    /// Whether errors deny.
    pub fail: bool,
    /// Whether the policy wants to see what those after it changed (`reinvocationPolicy: IfNeeded`).
    pub reinvoke: bool,
    broken: Option<PolicyError>,
    conditions: Conditions,
    variables: Vec<(String, Expression)>,
    mutations: Vec<Mutation>,
}

#[derive(Debug, Clone)]
enum Mutation {
    Apply(Expression),
    JsonPatch(Expression),
}

/// `Object...{}` and `JSONPatch{}` with any fields: what they hold is checked when it is merged.
#[derive(Debug)]
struct Loose(String);

impl ObjectType for Loose {
    fn name(&self) -> &str {
        &self.0
    }

    fn field(&self, _: &str) -> Option<Ty> {
        Some(Ty::Dyn)
    }
}

pub(crate) fn objects() -> Objects {
    Arc::new(|name: &str| {
        let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
        known.then(|| Arc::new(Loose(name.to_owned())) as Arc<dyn ObjectType>)
    })
}

impl MutatingPolicy {
    /// Compiles a policy. What does not compile is found when the policy is evaluated.
    #[must_use]
    pub fn compile(policy: &Value) -> Self {
        let spec = &policy["spec"];
        let env = Env { objects: Some(objects()), ..environment(spec["paramKind"].is_object()) };
        let mut broken = None;
        let mut keep = |error: PolicyError| broken = broken.take().or(Some(error));
        let conditions = Conditions::with(&spec["matchConditions"], &env).map_err(|(_, error)| keep(error));
        let variables = composed(spec, &env).map_err(&mut keep);
        let mutations = spec["mutations"].as_array().into_iter().flatten().map(|mutation| {
            let source = |key: &str| mutation[key]["expression"].as_str().unwrap_or_default();
            if mutation["patchType"] == "JSONPatch" {
                Expression::compile(source("jsonPatch"), &env).map(Mutation::JsonPatch)
            } else {
                Expression::compile(source("applyConfiguration"), &env).map(Mutation::Apply)
            }
        });
        let mutations = mutations.collect::<Result<_, _>>().map_err(&mut keep);
        Self {
            fail: spec["failurePolicy"] != "Ignore",
            reinvoke: spec["reinvocationPolicy"] == "IfNeeded",
            conditions: conditions.unwrap_or_default(),
            variables: variables.unwrap_or_default(),
            mutations: mutations.unwrap_or_default(),
            broken,
        }
    }

    /// The object of a request after the policy's mutations, `None` where the policy does not apply. Whether an error denies
    /// is `fail`'s.
    pub fn evaluate(
        &self,
        request: &Request<'_>,
        params: Option<&Value>,
        schemas: &Schemas,
        ty: TypeId,
    ) -> Result<Option<Value>, PolicyError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some(object) = request.object else { return Ok(None) };
        let described = request_value(request);
        match self.conditions.hold(&Input::new(request, &described, params, &self.variables)) {
            Verdict::Match => {}
            Verdict::Skip => return Ok(None),
            Verdict::Failed(error) => return Err(PolicyError::Patch(error)),
        }
        let mut current = object.clone();
        let mut left = REQUEST_COST_MAX;
        for mutation in &self.mutations {
            current = {
                // Each mutation sees what those before it made.
                let request = Request { object: Some(&current), ..*request };
                let input = Input::new(&request, &described, params, &self.variables);
                apply(mutation, &input, &mut left, &current, schemas, ty)?
            };
        }
        Ok(Some(current))
    }
}

fn apply(
    mutation: &Mutation,
    input: &Input<'_>,
    left: &mut u64,
    object: &Value,
    schemas: &Schemas,
    ty: TypeId,
) -> Result<Value, PolicyError> {
    let (Mutation::Apply(expression) | Mutation::JsonPatch(expression)) = mutation;
    let value = expression.eval(input, left)?.to_json();
    let value = value.ok_or_else(|| PolicyError::Patch("unsupported return type from expression".to_owned()))?;
    match mutation {
        Mutation::Apply(_) if !value.is_object() => {
            Err(PolicyError::Patch("unsupported return type from ApplyConfiguration expression".to_owned()))
        }
        Mutation::Apply(_) => {
            let mut merged = object.clone();
            let applied = merge(schemas, ty, &mut merged, &value);
            applied.map_err(|error| PolicyError::Patch(format!("error applying patch: {error}")))?;
            Ok(merged)
        }
        Mutation::JsonPatch(_) => coracle_api_merge::json_patch(object.clone(), &value)
            .map_err(|error| PolicyError::Patch(format!("JSON Patch: {error}"))),
    }
}
