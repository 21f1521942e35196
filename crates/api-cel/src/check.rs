//! Types of expressions, and what they cost at most.

use std::sync::Arc;

use crate::{
    Env,
    ast::{Expr, Fold, FoldKind, Kind, Literal},
    cost,
    error::Issue,
    names, parse, sig,
    ty::{Bindings, REQUEST_BYTES_MAX, Size, Ty},
};

/// The type of an expression and its greatest cost.
pub(crate) struct Checked {
    pub ty: Ty,
    pub cost: u64,
    pub issues: Vec<Issue>,
    /// Root variables that are used.
    pub used: Vec<String>,
}

pub(crate) fn check(env: &Env, expr: &Expr) -> Checked {
    let mut checker = Checker { env, locals: Vec::new(), issues: Vec::new(), used: Vec::new() };
    let (ty, cost) = checker.expr(expr);
    Checked { ty, cost, issues: checker.issues, used: checker.used }
}

struct Checker<'e> {
    env: &'e Env,
    locals: Vec<(String, Ty)>,
    issues: Vec<Issue>,
    used: Vec<String>,
}

type Typed = (Ty, u64);

impl Checker<'_> {
    fn issue(&mut self, at: usize, text: String) -> Ty {
        self.issues.push(Issue { at, text });
        Ty::Dyn
    }

    fn expr(&mut self, expr: &Expr) -> Typed {
        match &expr.kind {
            Kind::Literal(literal) => (literal_type(literal), 0),
            Kind::Ident(name) => (self.ident(expr.at, name), 1),
            Kind::Select { operand, field, optional } => self.select(expr, operand, field, *optional),
            Kind::Has { operand, field } => {
                let (ty, cost) = self.expr(operand);
                self.field(expr.at, &ty, field);
                (Ty::Bool, cost.saturating_add(1))
            }
            Kind::Index { operand, index, optional } => self.index(expr.at, operand, index, *optional),
            Kind::Call { name, target, args } => self.call(expr.at, name, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Object { name, fields } => self.object(expr.at, name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Bind { name, value, body } => {
                let (ty, value_cost) = self.expr(value);
                let (ty, body_cost) = self.with(vec![(name.clone(), ty)], |checker| checker.expr(body));
                (ty, value_cost.saturating_add(body_cost))
            }
            Kind::OptMap { target, name, body, flat } => {
                let (ty, target_cost) = self.expr(target);
                let inner = match ty {
                    Ty::Optional(inner) => inner.as_ref().clone(),
                    _ => Ty::Dyn,
                };
                let (ty, body_cost) = self.with(vec![(name.clone(), inner)], |checker| checker.expr(body));
                let ty = if *flat { ty } else { Ty::Optional(Arc::new(ty)) };
                (ty, target_cost.saturating_add(body_cost))
            }
        }
    }

    fn with<T>(&mut self, locals: Vec<(String, Ty)>, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.locals.len();
        self.locals.extend(locals);
        let result = act(self);
        self.locals.truncate(before);
        result
    }

    fn ident(&mut self, at: usize, name: &str) -> Ty {
        if let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return ty.clone();
        }
        if let Some((_, ty)) = self.env.variables.iter().find(|(known, _)| known == name) {
            if !self.used.iter().any(|used| used == name) {
                self.used.push(name.to_owned());
            }
            return ty.clone();
        }
        if names::TYPES.contains(&name) {
            return Ty::Type;
        }
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, optional: bool) -> Typed {
        if let Some(name) = parse::qualified(expr)
            && names::TYPES.contains(&name.as_str())
        {
            return (Ty::Type, 1);
        }
        let (ty, cost) = self.expr(operand);
        let (ty, was_optional) = match ty {
            Ty::Optional(inner) => (inner.as_ref().clone(), true),
            other => (other, false),
        };
        let ty = self.field(expr.at, &ty, field);
        let ty = if optional || was_optional { Ty::Optional(Arc::new(ty)) } else { ty };
        (ty, cost.saturating_add(1))
    }

    fn field(&mut self, at: usize, ty: &Ty, field: &str) -> Ty {
        match ty {
            Ty::Dyn | Ty::Param(_) => Ty::Dyn,
            Ty::Map(_, value, _) => value.as_ref().clone(),
            Ty::Object(object) => match object.field(&names::unescape(field)) {
                Some(ty) => ty,
                None => self.issue(at, format!("undefined field '{field}'")),
            },
            other => self.issue(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, operand: &Expr, index: &Expr, optional: bool) -> Typed {
        let (ty, operand_cost) = self.expr(operand);
        let (index_ty, index_cost) = self.expr(index);
        let (inner, was_optional) = match &ty {
            Ty::Optional(inner) => (inner.as_ref().clone(), true),
            other => (other.clone(), false),
        };
        // Objects may be indexed by name where their shape is known at run time only.
        let result = self.overload(at, "_[_]", false, &[inner, index_ty]);
        let result = if optional || was_optional { Ty::Optional(Arc::new(result)) } else { result };
        (result, operand_cost.saturating_add(index_cost).saturating_add(1))
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&Expr>, args: &[Expr]) -> Typed {
        let mut types = Vec::new();
        let mut total = 0_u64;
        for arg in target.into_iter().chain(args) {
            let (ty, cost) = self.expr(arg);
            types.push(ty);
            total = total.saturating_add(cost);
        }
        let result = self.overload(at, name, target.is_some(), &types);
        let sizes: Vec<Size> = types.iter().map(Ty::size_max).collect();
        (sized(name, result, &sizes), total.saturating_add(cost::call(name, &sizes)))
    }

    /// The result of applying a function to types.
    fn overload(&mut self, at: usize, name: &str, member: bool, types: &[Ty]) -> Ty {
        let all = sig::overloads(name);
        if all.is_empty() {
            return self.issue(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        let mut results: Vec<Ty> = Vec::new();
        for overload in all.iter().filter(|o| o.member == member && o.args.len() == types.len()) {
            let mut bindings = Bindings::default();
            if overload.args.iter().zip(types).all(|(wanted, given)| bindings.fits(wanted, given)) {
                results.push(bindings.apply(&overload.result));
            }
        }
        match results.len() {
            0 => {
                let shown: Vec<String> = types.iter().map(ToString::to_string).collect();
                let applied = match (member, shown.split_first()) {
                    (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                    _ => format!("({})", shown.join(", ")),
                };
                self.issue(at, format!("found no matching overload for '{name}' applied to '{applied}'"))
            }
            1 => results.swap_remove(0),
            _ => {
                let first = results[0].to_string();
                if results.iter().all(|ty| ty.to_string() == first) { results.swap_remove(0) } else { Ty::Dyn }
            }
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Typed {
        let mut types = Vec::new();
        let mut total = cost::LIST;
        for (item, optional) in items {
            let (ty, cost) = self.expr(item);
            types.push(if *optional { inner_of(ty) } else { ty });
            total = total.saturating_add(cost);
        }
        (Ty::list(common(types), items.len() as u64), total)
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Typed {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut total = cost::MAP;
        for (key, value, optional) in entries {
            let (key, key_cost) = self.expr(key);
            let (value, value_cost) = self.expr(value);
            keys.push(key);
            values.push(if *optional { inner_of(value) } else { value });
            total = total.saturating_add(key_cost).saturating_add(value_cost);
        }
        (Ty::map(common(keys), common(values), entries.len() as u64), total)
    }

    fn object(&mut self, at: usize, name: &str, fields: &[(String, Expr, bool)]) -> Typed {
        let known = self.env.objects.as_ref().and_then(|objects| objects(name));
        let mut total = cost::MAP;
        for (field, value, optional) in fields {
            let (given, cost) = self.expr(value);
            total = total.saturating_add(cost);
            let given = if *optional { inner_of(given) } else { given };
            let Some(object) = &known else { continue };
            match object.field(&names::unescape(field)) {
                None => {
                    self.issue(value.at, format!("undefined field '{field}'"));
                }
                Some(wanted) => {
                    if !Bindings::default().fits(&wanted, &given) {
                        let text =
                            format!("expected type of field '{field}' is '{wanted}' but provided type is '{given}'");
                        self.issue(value.at, text);
                    }
                }
            }
        }
        match known {
            Some(object) => (Ty::Object(object), total),
            None => (self.issue(at, format!("undeclared reference to '{name}' (in container '')")), total),
        }
    }

    fn fold(&mut self, fold: &Fold) -> Typed {
        let (range, range_cost) = self.expr(&fold.range);
        let (first, second) = match &range {
            Ty::List(item, _) if fold.second.is_some() => (Ty::Int, item.as_ref().clone()),
            Ty::List(item, _) => (item.as_ref().clone(), Ty::Dyn),
            Ty::Map(key, value, _) => (key.as_ref().clone(), value.as_ref().clone()),
            Ty::Dyn | Ty::Param(_) | Ty::Object(_) => (Ty::Dyn, Ty::Dyn),
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.issue(fold.range.at, text), Ty::Dyn)
            }
        };
        let mut locals = vec![(fold.first.clone(), first.clone())];
        locals.extend(fold.second.clone().map(|name| (name, second)));
        let (condition, transform) = self.with(locals, |checker| {
            let condition = fold.condition.as_ref().map(|condition| (condition.at, checker.expr(condition)));
            (condition, fold.transform.as_ref().map(|transform| checker.expr(transform)))
        });
        let mut round = cost::ROUND;
        if let Some((at, (ty, cost))) = condition {
            round = round.saturating_add(cost);
            if !Bindings::default().fits(&Ty::Bool, &ty) {
                self.issue(at, format!("expected type 'bool' but found '{ty}'"));
            }
        }
        let transformed = transform.map_or(Ty::Dyn, |(ty, cost)| {
            round = round.saturating_add(cost);
            ty
        });
        let max = range.size_max();
        let total = range_cost.saturating_add(round.saturating_mul(max));
        let ty = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Ty::Bool,
            FoldKind::Filter => match range {
                Ty::Map(key, _, _) => Ty::List(key, max),
                other => other,
            },
            FoldKind::SortBy => range,
            FoldKind::Map | FoldKind::TransformList => Ty::list(transformed, max),
            FoldKind::TransformMap => Ty::map(first, transformed, max),
            FoldKind::TransformMapEntry => Ty::map(Ty::Dyn, Ty::Dyn, max),
        };
        (ty, total)
    }
}

fn literal_type(literal: &Literal) -> Ty {
    match literal {
        Literal::Null => Ty::Null,
        Literal::Bool(_) => Ty::Bool,
        Literal::Int(_) => Ty::Int,
        Literal::Uint(_) => Ty::Uint,
        Literal::Double(_) => Ty::Double,
        Literal::String(text) => Ty::String(text.len() as u64),
        Literal::Bytes(bytes) => Ty::Bytes(bytes.len() as u64),
    }
}

fn inner_of(ty: Ty) -> Ty {
    match ty {
        Ty::Optional(inner) => inner.as_ref().clone(),
        other => other,
    }
}

/// One type for the elements of a literal.
fn common(types: Vec<Ty>) -> Ty {
    let mut types = types.into_iter();
    let Some(first) = types.next() else { return Ty::Param('?') };
    let mut max = first.size_max();
    for ty in types {
        if ty.to_string() != first.to_string() {
            return Ty::Dyn;
        }
        max = max.max(ty.size_max());
    }
    match first {
        Ty::String(_) => Ty::String(max),
        other => other,
    }
}

/// The result of a call with a bound on its size, as far as the arguments give one.
fn sized(name: &str, result: Ty, sizes: &[Size]) -> Ty {
    let sum = || sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)).min(REQUEST_BYTES_MAX);
    let first = sizes.first().copied().unwrap_or(REQUEST_BYTES_MAX);
    let max = match name {
        "_+_" => sum(),
        "_?_:_" => sizes.iter().skip(1).max().copied().unwrap_or(first),
        "format" | "join" | "replace" => REQUEST_BYTES_MAX,
        "string" => first.max(32),
        _ => first.max(1),
    };
    match result {
        Ty::String(own) => Ty::String(own.min(max)),
        Ty::Bytes(own) => Ty::Bytes(own.min(max)),
        Ty::List(item, own) => Ty::List(item, own.min(max)),
        other => other,
    }
}
