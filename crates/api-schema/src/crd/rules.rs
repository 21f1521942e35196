//! Validation rules in CEL (`x-kubernetes-validations`): compiled with the schema, held against objects.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel`.

use std::{collections::BTreeMap, sync::Arc};

use coracle_api_cel::{
    CALL_COST_MAX, DEFINITION_COST_MAX, Env, EvalError, Meter, ObjectType, Program, REQUEST_BYTES_MAX,
    REQUEST_COST_MAX, RULE_COST_MAX, Size, Ty, Val, compile as compile_cel,
};
use coracle_api_meta::{FieldError, FieldErrorKind, FieldPath, Value};

use super::node::{Additional, Node};

/// Longest message that an expression gives.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                         complete validation";

/// The rules of one part of a schema.
#[derive(Debug)]
pub(crate) struct Rules {
    ty: Ty,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Or why the rule does not compile, of definitions that were stored all the same.
    program: Result<Program, String>,
    source: String,
    message: String,
    message_expression: Option<Program>,
    reason: String,
    field_path: String,
    optional_old_self: bool,
    uses_old_self: bool,
}

#[derive(Debug)]
struct Shape {
    fields: BTreeMap<String, Ty>,
}

impl ObjectType for Shape {
    fn name(&self) -> &str {
        "object"
    }

    fn field(&self, name: &str) -> Option<Ty> {
        self.fields.get(name).cloned()
    }
}

/// Compiles the rules of a schema into it.
pub(super) fn compile(node: &mut Node, path: &FieldPath) -> Vec<FieldError> {
    if !has_rules(node) {
        return Vec::new();
    }
    let mut compiler = Compiler { errors: Vec::new(), total: 0 };
    compiler.node(node, path, Place { root: true, times: 1, uncorrelatable: None });
    if compiler.total > DEFINITION_COST_MAX {
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        compiler.errors.push(FieldError::forbidden(path, too_costly(name, compiler.total, DEFINITION_COST_MAX)));
    }
    compiler.errors
}

fn has_rules(node: &Node) -> bool {
    let additional = match &node.additional {
        Some(Additional::Schema(schema)) => Some(schema.as_ref()),
        _ => None,
    };
    !node.rules.is_empty() || node.properties.values().chain(node.items.as_deref()).chain(additional).any(has_rules)
}

/// Where a part of a schema stands.
#[derive(Clone)]
struct Place {
    root: bool,
    /// How often the part may occur in an object.
    times: u64,
    /// The list or map within which old and new values cannot be matched.
    uncorrelatable: Option<FieldPath>,
}

struct Compiler {
    errors: Vec<FieldError>,
    total: u64,
}

impl Compiler {
    fn node(&mut self, node: &mut Node, path: &FieldPath, place: Place) {
        if !node.rules.is_empty()
            && let Some(ty) = type_of(node, place.root || node.embedded)
        {
            let rules = node.rules.iter().enumerate();
            let rules = rules.map(|(index, rule)| {
                self.rule(rule, &ty, &path.child("x-kubernetes-validations").index(index), &place)
            });
            let rules = rules.collect();
            node.compiled = Some(Arc::new(Rules { ty, rules }));
        }
        let mut inner = Place { root: false, ..place.clone() };
        if node.map_type == "atomic" {
            inner.uncorrelatable.get_or_insert_with(|| path.clone());
        }
        for (name, property) in &mut node.properties {
            if has_rules(property) {
                self.node(property, &path.child("properties").key(name), inner.clone());
            }
        }
        let fields_max = map_max(node);
        if let Some(Additional::Schema(schema)) = &mut node.additional
            && has_rules(schema)
        {
            let times = place.times.saturating_mul(fields_max);
            self.node(schema, &path.child("additionalProperties"), Place { times, ..inner.clone() });
        }
        let items_max = list_max(node);
        let by_key = node.list_type == "map";
        if let Some(items) = &mut node.items
            && has_rules(items)
        {
            if !by_key {
                inner.uncorrelatable.get_or_insert_with(|| path.clone());
            }
            let times = place.times.saturating_mul(items_max);
            self.node(items, &path.child("items"), Place { times, ..inner });
        }
    }

    fn rule(&mut self, rule: &Value, ty: &Ty, path: &FieldPath, place: &Place) -> Rule {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        let optional_old_self = rule["optionalOldSelf"] == true;
        let old = if optional_old_self { Ty::Optional(Arc::new(ty.clone())) } else { ty.clone() };
        let env = Env::default().with("self", ty.clone()).with("oldSelf", old);
        let source = text("rule").trim().to_owned();
        let program = compile_cel(&source, &env).map_err(|error| format!("compilation failed: {error}"));
        let program = program.and_then(|program| match program.ty {
            Ty::Bool | Ty::Dyn => Ok(program),
            _ => Err("cel expression must evaluate to a bool".to_owned()),
        });
        let uses_old_self = program.as_ref().is_ok_and(|program| program.used.iter().any(|name| name == "oldSelf"));
        match &program {
            Ok(program) => self.observe("estimated rule cost", program, &path.child("rule"), place),
            Err(detail) => self.errors.push(FieldError::invalid(&path.child("rule"), rule.clone(), detail.clone())),
        }
        if let Some(within) = place.uncorrelatable.as_ref().filter(|_| uses_old_self) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            self.errors.push(FieldError::invalid(&path.child("rule"), source.clone(), detail));
        }
        if rule["optionalOldSelf"].is_boolean() && !uses_old_self && program.is_ok() {
            let path = path.child("optionalOldSelf");
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(&path, rule["optionalOldSelf"].clone(), detail));
        }
        let message_expression = self.message_expression(rule, &env, &path.child("messageExpression"), place);
        Rule {
            program,
            source,
            message: text("message").trim().to_owned(),
            message_expression,
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self,
            uses_old_self,
        }
    }

    fn message_expression(&mut self, rule: &Value, env: &Env, path: &FieldPath, place: &Place) -> Option<Program> {
        let source = rule["messageExpression"].as_str().filter(|source| !source.trim().is_empty())?;
        let program =
            compile_cel(source, env).map_err(|error| format!("messageExpression compilation failed: {error}"));
        let program = program.and_then(|program| match program.ty {
            Ty::String(_) | Ty::Dyn => Ok(program),
            _ => Err("messageExpression must evaluate to a string".to_owned()),
        });
        match program {
            Ok(program) => {
                self.observe("estimated messageExpression cost", &program, path, place);
                Some(program)
            }
            Err(detail) => {
                self.errors.push(FieldError::invalid(path, rule.clone(), detail));
                None
            }
        }
    }

    fn observe(&mut self, name: &str, program: &Program, path: &FieldPath, place: &Place) {
        let cost = program.cost_max.saturating_mul(place.times);
        self.total = self.total.saturating_add(cost);
        if cost > RULE_COST_MAX {
            self.errors.push(FieldError::forbidden(path, too_costly(name, cost, RULE_COST_MAX)));
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn too_costly(name: &str, cost: u64, max: u64) -> String {
    let times = cost as f64 / max as f64;
    let factor = if times > 100.0 {
        "more than 100x".to_owned()
    } else if times < 1.5 {
        format!("{times:.6}x")
    } else {
        format!("{times:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

/// The CEL type of a part of a schema; `whole` objects have kind and name. `None` where the shape is unknown.
fn type_of(node: &Node, whole: bool) -> Option<Ty> {
    if node.int_or_string {
        return Some(Ty::Dyn);
    }
    Some(match (node.ty.as_str(), node.format.as_str()) {
        ("array", _) => {
            let items = node.items.as_deref()?;
            Ty::list(type_of(items, items.embedded)?, list_max(node))
        }
        ("object", _) => match &node.additional {
            Some(Additional::Schema(schema)) => Ty::map(Ty::text(), type_of(schema, schema.embedded)?, map_max(node)),
            _ => object_type(node, whole),
        },
        ("string", "byte") => Ty::Bytes(text_max(node)),
        ("string", "duration") => Ty::Duration,
        ("string", "date" | "date-time") => Ty::Timestamp,
        ("string", _) => Ty::String(text_max(node)),
        ("boolean", _) => Ty::Bool,
        ("number", _) => Ty::Double,
        ("integer", _) => Ty::Int,
        _ => return None,
    })
}

fn object_type(node: &Node, whole: bool) -> Ty {
    let known = |(name, property): (&String, &Node)| Some((name.clone(), type_of(property, property.embedded)?));
    let mut fields: BTreeMap<String, Ty> = node.properties.iter().filter_map(known).collect();
    if whole {
        let names = ["name", "generateName"].map(|name| (name.to_owned(), Ty::text()));
        fields.insert("metadata".to_owned(), Ty::Object(Arc::new(Shape { fields: names.into() })));
        for name in ["apiVersion", "kind"] {
            fields.insert(name.to_owned(), Ty::text());
        }
    }
    Ty::Object(Arc::new(Shape { fields }))
}

fn size_of(limit: Option<usize>) -> Option<Size> {
    limit.and_then(|limit| Size::try_from(limit).ok())
}

fn text_max(node: &Node) -> Size {
    /// Bytes of the longest character.
    const CHARACTER_BYTES_MAX: Size = 4;
    let checks = node.checks.as_deref();
    let longest = checks.and_then(|checks| checks.allowed.iter().filter_map(Value::as_str).map(str::len).max());
    let limit = checks.and_then(|checks| size_of(checks.max_length)).map(|max| max.saturating_mul(CHARACTER_BYTES_MAX));
    limit.or(size_of(longest)).unwrap_or(REQUEST_BYTES_MAX - 2)
}

fn list_max(node: &Node) -> Size {
    let limit = node.checks.as_deref().and_then(|checks| size_of(checks.max_items));
    let smallest = node.items.as_deref().map_or(1, bytes_min);
    limit.unwrap_or((REQUEST_BYTES_MAX - 2) / (smallest + 1))
}

fn map_max(node: &Node) -> Size {
    let limit = node.checks.as_deref().and_then(|checks| size_of(checks.max_properties));
    let smallest = match &node.additional {
        Some(Additional::Schema(schema)) => bytes_min(schema),
        _ => 1,
    };
    limit.unwrap_or((REQUEST_BYTES_MAX - 2) / (smallest + 6))
}

/// Bytes of the smallest JSON of a part.
fn bytes_min(node: &Node) -> Size {
    if node.int_or_string {
        return 1;
    }
    match (node.ty.as_str(), node.format.as_str()) {
        ("string", "duration") => 3,
        ("string", "date") => 12,
        ("string", "date-time") => 21,
        ("string" | "array", _) => 2,
        ("boolean", _) => 4,
        ("object", _) => {
            let required = node.checks.as_deref().map(|checks| checks.required.as_slice()).unwrap_or_default();
            let needed =
                node.properties.iter().filter(|(name, node)| required.contains(name) && node.default.is_none());
            2 + needed.map(|(name, node)| name.len() as Size + bytes_min(node) + 4).sum::<Size>()
        }
        _ => 1,
    }
}

/// Holds an object against the rules of its schema, unless what was found before makes that pointless.
pub(super) fn hold(node: &Node, object: &Value, old: Option<&Value>, found: &[FieldError]) -> Vec<FieldError> {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    if !has_rules(node) {
        return Vec::new();
    }
    if found.iter().any(|error| matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)) {
        return vec![FieldError::invalid(&FieldPath::default(), Value::Null, UNCHECKED)];
    }
    let mut holder = Holder { errors: Vec::new(), left: REQUEST_COST_MAX };
    // Running out of budget ends it; what was found stands.
    let _ = holder.node(node, object, old, &FieldPath::default());
    holder.errors
}

/// No further rules are run.
struct Stop;

struct Holder {
    errors: Vec<FieldError>,
    left: u64,
}

impl Holder {
    fn node(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        if let Some(rules) = &node.compiled {
            for rule in &rules.rules {
                self.rule(node, rules, rule, value, old, path)?;
            }
        }
        match value {
            Value::Array(items) => {
                let Some(inner) = node.items.as_deref().filter(|inner| has_rules(inner)) else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let old =
                        old.and_then(Value::as_array).and_then(|old| super::validate::counterpart(node, item, old));
                    self.node(inner, item, old, &path.index(index))?;
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let old = old.and_then(|old| old.get(name));
                    if let Some(property) = node.properties.get(name) {
                        self.node(property, field, old, &path.child(name))?;
                    } else if let Some(inner) = node.field(name) {
                        self.node(inner, field, old, &path.key(name))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(
        &mut self,
        node: &Node,
        rules: &Rules,
        rule: &Rule,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), Stop> {
        let mut refuse = |detail: String| self.errors.push(FieldError::invalid(path, node.ty.clone(), detail));
        let program = match &rule.program {
            Ok(program) => program,
            Err(error) => {
                refuse(format!("rule compile error: {error}"));
                return Ok(());
            }
        };
        let old = old.filter(|old| !old.is_null());
        if rule.uses_old_self && old.is_none() && !rule.optional_old_self {
            return Ok(());
        }
        let old_self = match (old, rule.optional_old_self) {
            (old, true) => Val::Optional(old.map(|old| Box::new(Val::of(old, &rules.ty)))),
            (Some(old), false) => Val::of(old, &rules.ty),
            (None, false) => Val::Null,
        };
        let variables = [("self", Val::of(value, &rules.ty)), ("oldSelf", old_self)];
        let mut meter = Meter::new(CALL_COST_MAX);
        let outcome = program.eval(&variables, &mut meter).and_then(|value| value.as_bool());
        let named = if rule.message.is_empty() { &rule.source } else { &rule.message };
        if outcome == Err(EvalError::Cost) {
            let error = EvalError::Cost;
            refuse(format!(
                "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {named}"
            ));
            return Err(Stop);
        }
        let Some(left) = self.left.checked_sub(meter.spent()) else {
            refuse(
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
            return Err(Stop);
        };
        self.left = left;
        match outcome {
            Ok(true) => {}
            Ok(false) if !rule.uses_old_self && old == Some(value) => {}
            Ok(false) => {
                let detail = self.message(rule, &variables);
                self.errors.push(broken(node, rule, value, path, detail));
            }
            Err(error @ EvalError::Overload) => refuse(format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {named}"
            )),
            Err(error) => refuse(format!("{error} evaluating rule: {named}")),
        }
        Ok(())
    }

    /// What is said of a broken rule.
    fn message(&mut self, rule: &Rule, variables: &[(&str, Val<'_>)]) -> String {
        let mut meter = Meter::new(CALL_COST_MAX.min(self.left));
        let expression = rule.message_expression.as_ref();
        let evaluated = expression.and_then(|program| program.eval(variables, &mut meter).ok());
        self.left = self.left.saturating_sub(meter.spent());
        if let Some(Val::Str(text)) = evaluated {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains(['\n', '\r']) {
                return text.to_owned();
            }
        }
        if rule.message.is_empty() { format!("failed rule: {}", rule.source) } else { rule.message.clone() }
    }
}

fn broken(node: &Node, rule: &Rule, value: &Value, path: &FieldPath, detail: String) -> FieldError {
    let field = rule.field_path.trim_start_matches('.');
    let path = if field.is_empty() { path.clone() } else { path.child(field) };
    let whole = matches!(node.ty.as_str(), "object" | "array");
    let kind = match rule.reason.as_str() {
        "FieldValueForbidden" => FieldErrorKind::Forbidden,
        "FieldValueRequired" => FieldErrorKind::Required,
        "FieldValueDuplicate" => FieldErrorKind::Duplicate,
        _ if whole => FieldErrorKind::InvalidUnshown,
        _ => FieldErrorKind::Invalid,
    };
    FieldError { path, kind, value: if whole { Value::Null } else { value.clone() }, detail }
}
