//! Evaluation.

use std::{borrow::Cow, sync::Arc};

use crate::{
    ast::{Expr, Fold, FoldKind, Kind, Literal},
    cost,
    error::EvalError,
    functions, names, parse,
    val::{Result, Val},
};

/// What an evaluation may still cost.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    left: u64,
    spent: u64,
}

impl Meter {
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { left: max, spent: 0 }
    }

    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Pays for something; an error when too little is left.
    pub fn charge(&mut self, cost: u64) -> std::result::Result<(), EvalError> {
        self.left = self.left.checked_sub(cost).ok_or(EvalError::Cost)?;
        self.spent += cost;
        Ok(())
    }
}

pub(crate) fn eval<'a>(expr: &Expr, variables: &[(&str, Val<'a>)], meter: &mut Meter) -> Result<Val<'a>> {
    Evaluator { variables, locals: Vec::new(), meter }.expr(expr)
}

struct Evaluator<'v, 'e, 'a> {
    variables: &'v [(&'v str, Val<'a>)],
    locals: Vec<(&'e str, Val<'a>)>,
    meter: &'v mut Meter,
}

impl<'e, 'a> Evaluator<'_, 'e, 'a> {
    fn expr(&mut self, expr: &'e Expr) -> Result<Val<'a>> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, optional } => self.select(expr, operand, field, *optional),
            Kind::Has { operand, field } => {
                self.meter.charge(1)?;
                let operand = self.expr(operand)?;
                self.has(&operand, field)
            }
            Kind::Index { operand, index, optional } => self.index(operand, index, *optional),
            Kind::Call { name, target, args } => self.call(name, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Object { name, fields } => self.object(name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Bind { name, value, body } => {
                let value = self.expr(value)?;
                self.with([(name.as_str(), value)], |evaluator| evaluator.expr(body))
            }
            Kind::OptMap { target, name, body, flat } => match self.expr(target)? {
                Val::Optional(None) => Ok(Val::Optional(None)),
                Val::Optional(Some(inner)) => {
                    let value = self.with([(name.as_str(), *inner)], |evaluator| evaluator.expr(body))?;
                    Ok(if *flat { value } else { Val::some(value) })
                }
                _ => Err(EvalError::Overload),
            },
        }
    }

    fn with<T>(&mut self, locals: impl IntoIterator<Item = (&'e str, Val<'a>)>, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.locals.len();
        self.locals.extend(locals);
        let result = act(self);
        self.locals.truncate(before);
        result
    }

    fn ident(&mut self, name: &str) -> Result<Val<'a>> {
        self.meter.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return Ok(value.clone());
        }
        if let Some((_, value)) = self.variables.iter().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        if names::TYPES.contains(&name) {
            return Ok(Val::Type(name.to_owned()));
        }
        Err(EvalError::NoAttribute(name.to_owned()))
    }

    fn select(&mut self, expr: &'e Expr, operand: &'e Expr, field: &str, optional: bool) -> Result<Val<'a>> {
        if let Some(name) = parse::qualified(expr)
            && names::TYPES.contains(&name.as_str())
        {
            return Ok(Val::Type(name));
        }
        self.meter.charge(1)?;
        match self.expr(operand)? {
            Val::Optional(None) => Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => Ok(Val::Optional(self.optional_field(&inner, field)?.map(Box::new))),
            value if optional => Ok(Val::Optional(self.optional_field(&value, field)?.map(Box::new))),
            value => self.field(&value, field),
        }
    }

    fn field(&mut self, value: &Val<'a>, field: &str) -> Result<Val<'a>> {
        match value {
            Val::Host(host) => host.field(field, self.meter),
            value => value.field(field).ok_or_else(|| EvalError::NoKey(field.to_owned())),
        }
    }

    /// The field, or nothing where there is none.
    fn optional_field(&mut self, value: &Val<'a>, field: &str) -> Result<Option<Val<'a>>> {
        match self.field(value, field) {
            Ok(value) => Ok(Some(value)),
            Err(EvalError::Cost) => Err(EvalError::Cost),
            Err(_) => Ok(None),
        }
    }

    fn has(&mut self, operand: &Val<'a>, field: &str) -> Result<Val<'a>> {
        let operand = match operand {
            Val::Optional(None) => return Ok(Val::Bool(false)),
            Val::Optional(Some(inner)) => inner,
            other => other,
        };
        let container = operand.entries().is_some() || matches!(operand, Val::Host(_));
        if !container {
            return Err(EvalError::Overload);
        }
        Ok(Val::Bool(self.optional_field(operand, field)?.is_some()))
    }

    fn index(&mut self, operand: &'e Expr, index: &'e Expr, optional: bool) -> Result<Val<'a>> {
        self.meter.charge(1)?;
        let operand = self.expr(operand)?;
        let index = self.expr(index)?;
        let (operand, optional) = match operand {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => (*inner, true),
            other => (other, optional),
        };
        let found = element(&operand, &index);
        if !optional {
            return found;
        }
        match found {
            Ok(value) => Ok(Val::some(value)),
            Err(EvalError::Index(_) | EvalError::NoKey(_)) => Ok(Val::Optional(None)),
            Err(error) => Err(error),
        }
    }

    fn call(&mut self, name: &str, target: Option<&'e Expr>, args: &'e [Expr]) -> Result<Val<'a>> {
        match (name, args) {
            ("_&&_", [left, right]) => return self.junction(left, right, false),
            ("_||_", [left, right]) => return self.junction(left, right, true),
            ("_?_:_", [condition, then, otherwise]) => {
                let chosen = if self.expr(condition)?.as_bool()? { then } else { otherwise };
                return self.expr(chosen);
            }
            ("or" | "orValue", [other]) if target.is_some() => {
                if let Some(target) = target {
                    let value = self.expr(target)?;
                    return match value {
                        Val::Optional(None) => self.expr(other),
                        Val::Optional(Some(inner)) if name == "orValue" => Ok(*inner),
                        value => Ok(value),
                    };
                }
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            values.push(self.expr(arg)?);
        }
        let sizes: Vec<u64> = values.iter().map(Val::size).collect();
        self.meter.charge(cost::call(name, &sizes))?;
        if let Some(Val::Host(host)) = values.first() {
            let host = host.clone();
            return host.call(name, &values[1..], self.meter);
        }
        functions::call(name, target.is_some(), &values)
    }

    /// `&&` and `||`: one deciding side is enough, even when the other fails.
    fn junction(&mut self, left: &'e Expr, right: &'e Expr, decides: bool) -> Result<Val<'a>> {
        let side = |evaluator: &mut Self, expr| evaluator.expr(expr).and_then(|value| value.as_bool());
        let left = side(self, left);
        if left == Ok(decides) || left == Err(EvalError::Cost) {
            return left.map(Val::Bool);
        }
        let right = side(self, right);
        if right == Ok(decides) || right == Err(EvalError::Cost) {
            return right.map(Val::Bool);
        }
        left.and(right).map(Val::Bool)
    }

    fn list(&mut self, items: &'e [(Expr, bool)]) -> Result<Val<'a>> {
        self.meter.charge(cost::LIST)?;
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.expr(item)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| *inner)),
                (value, _) => out.push(value),
            }
        }
        Ok(Val::list(out))
    }

    fn map(&mut self, entries: &'e [(Expr, Expr, bool)]) -> Result<Val<'a>> {
        self.meter.charge(cost::MAP)?;
        let mut out: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.expr(key)?;
            if out.iter().any(|(known, _)| known.equals(&key)) {
                return Err(EvalError::other(format!("Failed with repeated key: {}", functions::shown(&key))));
            }
            match (self.expr(value)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| (key, *inner))),
                (value, _) => out.push((key, value)),
            }
        }
        Ok(Val::Map(Arc::new(out)))
    }

    fn object(&mut self, name: &str, fields: &'e [(String, Expr, bool)]) -> Result<Val<'a>> {
        self.meter.charge(cost::MAP)?;
        let mut out = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            let field = names::unescape(field);
            match (self.expr(value)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| (field, *inner))),
                (value, _) => out.push((field, value)),
            }
        }
        Ok(Val::Object(Arc::new((name.to_owned(), out))))
    }

    /// One round of a fold: the condition and the transformation.
    fn round(&mut self, fold: &'e Fold, first: &Val<'a>, second: &Val<'a>) -> Result<Round<'a>> {
        self.meter.charge(cost::ROUND)?;
        let second = fold.second.as_deref().map(|name| (name, second.clone()));
        let locals = std::iter::once((fold.first.as_str(), first.clone())).chain(second);
        self.with(locals, |evaluator| {
            let holds = match &fold.condition {
                Some(condition) => evaluator.expr(condition)?.as_bool()?,
                None => true,
            };
            let transformed = match &fold.transform {
                Some(transform) if holds => Some(evaluator.expr(transform)?),
                _ => None,
            };
            Ok((holds, transformed))
        })
    }

    fn fold(&mut self, fold: &'e Fold) -> Result<Val<'a>> {
        let range = self.expr(&fold.range)?;
        let pairs = pairs(&range, fold.second.is_some()).ok_or(EvalError::Overload)?;
        match fold.kind {
            FoldKind::All => self.quantify(fold, &pairs, false),
            FoldKind::Exists => self.quantify(fold, &pairs, true),
            _ => self.collect(fold, pairs),
        }
    }

    /// `all` and `exists`: one deciding element is enough, even when others fail.
    fn quantify(&mut self, fold: &'e Fold, pairs: &[(Val<'a>, Val<'a>)], decides: bool) -> Result<Val<'a>> {
        let mut failed = None;
        for (first, second) in pairs {
            match self.round(fold, first, second) {
                Ok((holds, _)) if holds == decides => return Ok(Val::Bool(decides)),
                Ok(_) => {}
                Err(EvalError::Cost) => return Err(EvalError::Cost),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn collect(&mut self, fold: &'e Fold, pairs: Vec<(Val<'a>, Val<'a>)>) -> Result<Val<'a>> {
        let mut count = 0;
        let mut items = Vec::new();
        let mut entries = Vec::new();
        for (first, second) in pairs {
            let (holds, transformed) = self.round(fold, &first, &second)?;
            if !holds {
                continue;
            }
            count += 1;
            match (fold.kind, transformed) {
                (FoldKind::Filter, _) => items.push(first),
                (FoldKind::TransformMap | FoldKind::SortBy, Some(value)) => entries.push((first, value)),
                (FoldKind::TransformMapEntry, Some(value)) => entries.extend(value.entries().unwrap_or_default()),
                (_, Some(value)) => items.push(value),
                (_, None) => {}
            }
        }
        Ok(match fold.kind {
            FoldKind::ExistsOne => Val::Bool(count == 1),
            FoldKind::SortBy => {
                entries.sort_by(|(_, a), (_, b)| a.compare(b).unwrap_or(std::cmp::Ordering::Equal));
                Val::list(entries.into_iter().map(|(item, _)| item).collect())
            }
            FoldKind::TransformMap | FoldKind::TransformMapEntry => Val::Map(Arc::new(entries)),
            _ => Val::list(items),
        })
    }
}

type Round<'a> = (bool, Option<Val<'a>>);

/// What a fold goes through: items or keys, and with two variables indices and items, or keys and values.
fn pairs<'a>(range: &Val<'a>, two: bool) -> Option<Vec<(Val<'a>, Val<'a>)>> {
    if let Some(items) = range.items() {
        let pair = |(index, item): (usize, Val<'a>)| {
            if two { (Val::Int(i64::try_from(index).unwrap_or(i64::MAX)), item) } else { (item, Val::Null) }
        };
        return Some(items.into_iter().enumerate().map(pair).collect());
    }
    range.entries()
}

fn element<'a>(operand: &Val<'a>, index: &Val<'a>) -> Result<Val<'a>> {
    let is_list = matches!(operand, Val::List(_) | Val::Json(coracle_api_meta::Value::Array(_), _));
    if is_list {
        let at = match index {
            Val::Int(at) => *at,
            Val::Uint(at) => i64::try_from(*at).map_err(|_| EvalError::Overload)?,
            #[allow(clippy::cast_possible_truncation)]
            Val::Double(at) if at.fract() == 0.0 => *at as i64,
            _ => return Err(EvalError::Overload),
        };
        return usize::try_from(at).ok().and_then(|at| operand.item(at)).ok_or(EvalError::Index(at));
    }
    if let (Val::Json(..), Val::Str(key)) = (operand, index) {
        return operand.field(key).ok_or_else(|| EvalError::NoKey(key.to_string()));
    }
    let entries = operand.entries().ok_or(EvalError::Overload)?;
    let found = entries.into_iter().find(|(key, _)| key.equals(index));
    found.map(|(_, value)| value).ok_or_else(|| EvalError::NoKey(functions::shown(index)))
}

fn literal_value<'a>(literal: &Literal) -> Val<'a> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(set) => Val::Bool(*set),
        Literal::Int(value) => Val::Int(*value),
        Literal::Uint(value) => Val::Uint(*value),
        Literal::Double(value) => Val::Double(*value),
        Literal::String(text) => Val::Str(Cow::Owned(text.clone())),
        Literal::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
    }
}
