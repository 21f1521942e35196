//! Expressions of configurations: compiled once, evaluated per token or request.

use coracle_api_cel::{CALL_COST_MAX, Env, Meter, Program, Ty, Val, compile};
use coracle_api_meta::{FieldError, FieldPath, Value};

/// A compiled expression over one variable.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub source: String,
    variable: &'static str,
    program: Program,
}

/// What an expression must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    Bool,
    Text,
    TextOrList,
}

impl Gives {
    fn accepts(self, ty: &Ty) -> bool {
        match ty {
            Ty::Dyn => true,
            Ty::Bool => self == Self::Bool,
            Ty::String(_) => self != Self::Bool,
            Ty::List(item, _) => self == Self::TextOrList && matches!(**item, Ty::Dyn | Ty::String(_)),
            _ => false,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Bool => "must evaluate to bool",
            Self::Text => "must evaluate to string",
            Self::TextOrList => "must evaluate to one of [string list(string)]",
        }
    }
}

impl Expression {
    pub(crate) fn compile(
        source: &str,
        variable: &'static str,
        gives: Gives,
        path: &FieldPath,
    ) -> Result<Self, FieldError> {
        let env = Env::default().with(variable, Ty::Dyn);
        let program = compile(source, &env)
            .map_err(|error| FieldError::invalid(path, source, format!("compilation failed: {error}")))?;
        if !gives.accepts(&program.ty) {
            return Err(FieldError::invalid(path, source, gives.wanted()));
        }
        Ok(Self { source: source.to_owned(), variable, program })
    }

    /// The value of the expression as JSON.
    pub(crate) fn eval(&self, value: &Value) -> Result<Value, String> {
        let mut meter = Meter::new(CALL_COST_MAX);
        let variables = [(self.variable, Val::of(value, &Ty::Dyn))];
        let result = self.program.eval(&variables, &mut meter).map_err(|error| self.failed(&error.to_string()))?;
        result.to_json().ok_or_else(|| self.failed("the value has no JSON"))
    }

    /// Whether it holds; only booleans do.
    pub(crate) fn holds(&self, value: &Value) -> Result<bool, String> {
        self.eval(value)?.as_bool().ok_or_else(|| self.failed("the value is no bool"))
    }

    fn failed(&self, why: &str) -> String {
        format!("expression '{}' resulted in error: {why}", self.source)
    }

    /// Whether the expression names this claim as a field.
    pub(crate) fn names_claim(&self, claim: &str) -> bool {
        ["claims.", "claims.?"].iter().any(|prefix| {
            let wanted = format!("{prefix}{claim}");
            self.source.match_indices(&wanted).any(|(at, _)| {
                let next = self.source.get(at + wanted.len()..).and_then(|rest| rest.chars().next());
                !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
    }
}
