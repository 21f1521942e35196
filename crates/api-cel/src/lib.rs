//! The Common Expression Language as Kubernetes uses it: compile, estimate, evaluate.
//!
//! [`compile`] parses and checks an expression against an [`Env`] of typed variables and gives a [`Program`], which knows what
//! it costs at most and evaluates against values ([`Val`]) under a [`Meter`]. Objects of JSON are looked at in place, by the
//! types that their schema gives them. Texts of errors are cel-go's, which clients compare.
//!
//! The decision: macros are nodes of the tree, not expanded, so one small evaluator does all; costs therefore follow
//! upstream's in outline only. This crate never knows kinds, requests or time of day.

mod ast;
mod check;
mod cost;
mod error;
mod eval;
mod functions;
mod lex;
mod names;
mod net;
mod parse;
mod semver;
mod sig;
mod strings;
mod ty;
mod val;

use std::{fmt, sync::Arc};

pub use error::{CompileError, EvalError, Issue};
pub use eval::Meter;
pub use names::unescape;
pub use ty::{ObjectType, REQUEST_BYTES_MAX, Size, Ty};
pub use val::{Host, Val};

/// Greatest cost of one evaluation (`PerCallLimit`).
pub const CALL_COST_MAX: u64 = 1_000_000;
/// Greatest cost of all rules of one request (`RuntimeCELCostBudget`).
pub const REQUEST_COST_MAX: u64 = 10_000_000;
/// Greatest estimated cost of one rule (`StaticEstimatedCostLimit`).
pub const RULE_COST_MAX: u64 = 10_000_000;
/// Greatest estimated cost of all rules of a definition (`StaticEstimatedCRDCostLimit`).
pub const DEFINITION_COST_MAX: u64 = 100_000_000;

/// Finds the type that `Name{...}` constructs.
pub type Objects = Arc<dyn Fn(&str) -> Option<Arc<dyn ObjectType>> + Send + Sync>;

/// What an expression may name.
#[derive(Clone, Default)]
pub struct Env {
    pub variables: Vec<(String, Ty)>,
    pub objects: Option<Objects>,
}

impl Env {
    #[must_use]
    pub fn with(mut self, name: &str, ty: Ty) -> Self {
        self.variables.push((name.to_owned(), ty));
        self
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("variables", &self.variables).finish_non_exhaustive()
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Program {
    expr: ast::Expr,
    /// The type of its values.
    pub ty: Ty,
    /// What it costs at most, as far as sizes are known.
    pub cost_max: u64,
    /// Variables of the environment that it names.
    pub used: Vec<String>,
}

/// Compiles an expression.
pub fn compile(source: &str, env: &Env) -> Result<Program, CompileError> {
    let fail = |issues| CompileError { source_text: source.to_owned(), issues };
    let expr = parse::parse(source).map_err(|issue| fail(vec![issue]))?;
    let checked = check::check(env, &expr);
    if !checked.issues.is_empty() {
        return Err(fail(checked.issues));
    }
    Ok(Program { expr, ty: checked.ty, cost_max: checked.cost, used: checked.used })
}

/// Whether the source is an expression at all.
pub fn parses(source: &str) -> Result<(), CompileError> {
    let fail = |issue| CompileError { source_text: source.to_owned(), issues: vec![issue] };
    parse::parse(source).map(drop).map_err(fail)
}

impl Program {
    /// The value of the expression with these variables.
    pub fn eval<'a>(&self, variables: &[(&str, Val<'a>)], meter: &mut Meter) -> Result<Val<'a>, EvalError> {
        eval::eval(&self.expr, variables, meter)
    }
}
