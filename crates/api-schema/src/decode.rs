//! Request bodies to objects, in the shape that Go's decoding and encoding of the typed object would leave.
//!
//! One pass over the text: unknown fields are dropped and reported, duplicate fields reported (the last wins), scalars
//! brought to their canonical form, fields put in Go's order, empty ones left out or written as Go does. The texts of
//! errors are upstream's, which clients compare.

use std::collections::HashSet;
use std::fmt::Write as _;

use coracle_api_meta::{Map, Value};

use crate::{
    builtin::go_type,
    model::{Field, ScalarKind, Schemas, Special, StructType, Type, TypeId},
    scalar,
    text::{Scanner, Token, go_quote},
    zero,
};

/// Bounds on what is read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes_max: usize,
    /// Objects and lists inside each other.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 3 << 20, depth_max: 192 }
    }
}

/// An object and what strict decoding has against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.bar"`, in the order of the text; at most 100.
    pub strict: Vec<String>,
}

impl Decoded {
    /// The error of strict field validation.
    #[must_use]
    pub fn strict_error(&self) -> Option<String> {
        strict_error(&self.strict)
    }
}

/// `strict decoding error: unknown field "spec.foo", duplicate field "spec.bar"`.
#[must_use]
pub fn strict_error(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| format!("strict decoding error: {}", problems.join(", ")))
}

/// `unknown field "spec.foo"`.
pub(crate) fn strict_problem(what: &str, path: &str) -> String {
    format!("{what} field {}", go_quote(path))
}

/// Why a body is no object. `Display` is what stands behind upstream's `cannot be handled as a Pod: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("request body too large: {size} bytes, at most {max}")]
    TooLarge { size: usize, max: usize },
    /// No JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Syntax(String),
    /// JSON of another shape than the type.
    #[error("{0}")]
    Type(String),
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
}

const STRICT_MAX: usize = 100;
/// Values of a body. Small ones take much more memory than text.
pub(crate) const VALUES_MAX: usize = 200_000;
pub(crate) const TOO_MANY_VALUES: &str = "request body holds too many values";
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
const NO_OBJECT: &str = "json: cannot unmarshal array into Go value of type struct { APIVersion string \
                         \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

/// Reads a JSON body as a type of the built-in schemas. Without a type (custom resources) the object stays as it is and
/// only duplicates are reported.
pub fn decode_json(
    bytes: &[u8],
    limits: Limits,
    schemas: &Schemas,
    ty: Option<TypeId>,
) -> Result<Decoded, DecodeError> {
    if bytes.len() > limits.body_bytes_max {
        return Err(DecodeError::TooLarge { size: bytes.len(), max: limits.body_bytes_max });
    }
    let mut walker = Walker::new(bytes, limits, schemas, ty.is_none());
    let value = walker.value(ty).and_then(|value| walker.scanner.end().map(|()| value)).map_err(DecodeError::Syntax)?;
    if let Some(error) = walker.fatal.or(walker.saved) {
        return Err(DecodeError::Type(error));
    }
    if value.is_array() {
        return Err(DecodeError::Syntax(NO_OBJECT.to_owned()));
    }
    Ok(Decoded { value, strict: walker.strict })
}

/// Reads a YAML body (one document) as [`decode_json`] reads JSON.
pub fn decode_yaml(
    bytes: &[u8],
    limits: Limits,
    schemas: &Schemas,
    ty: Option<TypeId>,
) -> Result<Decoded, DecodeError> {
    if bytes.len() > limits.body_bytes_max {
        return Err(DecodeError::TooLarge { size: bytes.len(), max: limits.body_bytes_max });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::Yaml(error.to_string()))?;
    let (value, duplicate) = yaml_with_duplicates(text).map_err(DecodeError::Yaml)?;
    let mut decoded = decode_value(&value, limits, schemas, ty)?;
    decoded.strict.splice(..0, duplicate);
    Ok(decoded)
}

/// YAML as JSON: old-style octals and booleans as Kubernetes reads them, aliases bounded, no key twice.
pub fn yaml_value(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(&error))
}

fn yaml_error(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    // The rest shows the place in the source.
    let first = text.lines().next().unwrap_or_default();
    format!("yaml: {}", first.trim_start_matches("error: "))
}

/// As [`yaml_value`], but the last of equal keys wins and the first that is there twice is named.
fn yaml_with_duplicates(text: &str) -> Result<(Value, Option<String>), String> {
    let why = match yaml_value(text) {
        Ok(value) => return Ok((value, None)),
        Err(why) => why,
    };
    let Some((line, key)) = duplicate_key(&why) else { return Err(why) };
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let value = serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(&error))?;
    Ok((value, Some(format!("yaml: unmarshal errors:\n  line {line}: key {} already set in map", go_quote(&key)))))
}

/// Line and key of the parser's complaint about a key that is there twice.
fn duplicate_key(why: &str) -> Option<(u64, String)> {
    let (place, rest) = why.split_once(": duplicate mapping key: ")?;
    let line = place.strip_prefix("yaml: line ")?.split(' ').next()?.parse().ok()?;
    let key = rest.rsplit_once(", set DuplicateKeyPolicy").map_or(rest, |(key, _)| key);
    Some((line, key.to_owned()))
}

/// Reads a tree, such as the outcome of a patch, as [`decode_json`] reads text.
pub fn decode_value(
    value: &Value,
    limits: Limits,
    schemas: &Schemas,
    ty: Option<TypeId>,
) -> Result<Decoded, DecodeError> {
    let bytes = serde_json::to_vec(value).map_err(|error| DecodeError::Syntax(error.to_string()))?;
    let limits = Limits { body_bytes_max: limits.body_bytes_max.max(bytes.len()), ..limits };
    decode_json(&bytes, limits, schemas, ty)
}

/// Brings a built-in object to the form in which it is stored: what [`decode_value`] gives, strict problems aside.
pub fn normalise(value: &Value, schemas: &Schemas, ty: TypeId) -> Result<Value, DecodeError> {
    decode_value(value, Limits::default(), schemas, Some(ty)).map(|decoded| decoded.value)
}

type Syntax<T> = Result<T, String>;

/// The field whose value is being read, for Go's type errors.
#[derive(Clone, Copy)]
struct Owner<'s> {
    ty: &'s StructType,
    field: &'s Field,
    /// Lists and maps of the field's type that were entered.
    entered: usize,
}

struct Walker<'a> {
    scanner: Scanner<'a>,
    schemas: &'a Schemas,
    depth_left: usize,
    values_left: usize,
    /// Whether objects of unknown shape are checked for duplicates.
    untyped: bool,
    /// Custom unmarshalers, inside which Go is not strict.
    lenient: usize,
    strict: Vec<String>,
    seen: HashSet<String>,
    /// Where the value is that is being read: `spec.containers[0]`.
    path: String,
    fields: Vec<&'a str>,
    owner: Option<Owner<'a>>,
    /// The first type error; reading goes on for syntax errors.
    saved: Option<String>,
    /// The first error of a custom unmarshaler, which ends Go's decoding.
    fatal: Option<String>,
}

impl<'a> Walker<'a> {
    fn new(bytes: &'a [u8], limits: Limits, schemas: &'a Schemas, untyped: bool) -> Self {
        Self {
            scanner: Scanner::new(bytes),
            schemas,
            depth_left: limits.depth_max,
            values_left: VALUES_MAX,
            untyped,
            lenient: 0,
            strict: Vec::new(),
            seen: HashSet::new(),
            path: String::new(),
            fields: Vec::new(),
            owner: None,
            saved: None,
            fatal: None,
        }
    }

    /// Reads a value of a type. `Null` stands for unset.
    fn value(&mut self, ty: Option<TypeId>) -> Syntax<Value> {
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| TOO_MANY_VALUES.to_owned())?;
        let Some(id) = ty else { return self.any() };
        match self.schemas.get(id) {
            Type::Any => match self.schemas.special.get(&id) {
                Some(Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStringArray) => {
                    self.lenient += 1;
                    let value = self.schema_or(self.schemas.special[&id]);
                    self.lenient -= 1;
                    value
                }
                Some(_) => {
                    self.lenient += 1;
                    let value = self.any();
                    self.lenient -= 1;
                    value
                }
                None => self.any(),
            },
            Type::Scalar(kind) => self.scalar(*kind),
            Type::Struct(ty) => self.container(Token::Object, |walker| walker.object(ty)),
            Type::List(list) => self.container(Token::Array, |walker| walker.list(list.item)),
            Type::Map(map) => self.container(Token::Object, |walker| walker.map(map.value)),
        }
    }

    fn container(&mut self, wanted: Token, read: impl FnOnce(&mut Self) -> Syntax<Value>) -> Syntax<Value> {
        let token = self.scanner.token()?;
        if token == wanted {
            return self.nested(read);
        }
        if token == Token::Null {
            return self.scanner.word("null").map(|()| Value::Null);
        }
        self.mismatch(token, "");
        self.skip()
    }

    /// Enters an object or list, which the scanner stands before.
    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Syntax<Value>) -> Syntax<Value> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(|| self.scanner.invalid("exceeded max depth"))?;
        self.scanner.bump();
        let value = read(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    fn object(&mut self, ty: &'a StructType) -> Syntax<Value> {
        let mut slots: Vec<Option<Value>> = vec![None; ty.fields.len()];
        let mut seen = vec![false; ty.fields.len()];
        let mut hint = 0;
        self.members(|walker, key| {
            let Some(index) = position(ty, key, hint) else {
                walker.report("unknown", key);
                return walker.skip().map(drop);
            };
            hint = index + 1;
            if std::mem::replace(&mut seen[index], true) {
                walker.report("duplicate", key);
            }
            let value = walker.field(ty, &ty.fields[index])?;
            slots[index] = (!value.is_null()).then_some(value);
            Ok(())
        })?;
        Ok(Value::Object(zero::finish(self.schemas, ty, slots)))
    }

    fn field(&mut self, ty: &'a StructType, field: &'a Field) -> Syntax<Value> {
        let outer = self.owner.replace(Owner { ty, field, entered: 0 });
        self.fields.push(&field.name);
        let place = self.path.len();
        self.push_key(&field.name);
        let value = self.value(Some(field.ty))?;
        self.path.truncate(place);
        self.fields.pop();
        self.owner = outer;
        Ok(value)
    }

    fn list(&mut self, item: TypeId) -> Syntax<Value> {
        self.enter(1);
        let value = self.items(Some(item))?;
        self.enter(-1);
        Ok(value)
    }

    fn items(&mut self, item: Option<TypeId>) -> Syntax<Value> {
        let mut items = Vec::new();
        if self.scanner.accept(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            let place = self.path.len();
            let _ = write!(self.path, "[{}]", items.len());
            let value = self.value(item)?;
            self.path.truncate(place);
            items.push(self.or_zero(value, item));
            if self.scanner.accept(b']') {
                return Ok(Value::Array(items));
            }
            self.scanner.expect(b',', "after array element")?;
        }
    }

    fn map(&mut self, ty: TypeId) -> Syntax<Value> {
        self.enter(1);
        let value = self.entries(Some(ty), true)?;
        self.enter(-1);
        Ok(value)
    }

    fn entries(&mut self, ty: Option<TypeId>, duplicates: bool) -> Syntax<Value> {
        let mut out = Map::new();
        self.members(|walker, key| {
            if duplicates && out.contains_key(key) {
                walker.report("duplicate", key);
            }
            let place = walker.path.len();
            walker.push_key(key);
            let value = walker.value(ty)?;
            walker.path.truncate(place);
            let value = walker.or_zero(value, ty);
            out.insert(key.to_owned(), value);
            Ok(())
        })?;
        Ok(Value::Object(out))
    }

    /// Calls `member` with each key of an object; it reads the value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &str) -> Syntax<()>) -> Syntax<()> {
        if self.scanner.accept(b'}') {
            return Ok(());
        }
        loop {
            if self.scanner.peek() != Some(b'"') {
                return Err(self.scanner.invalid("looking for beginning of object key string"));
            }
            let key = self.scanner.string()?;
            self.scanner.expect(b':', "after object key")?;
            member(self, &key)?;
            if self.scanner.accept(b'}') {
                return Ok(());
            }
            self.scanner.expect(b',', "after object key:value pair")?;
        }
    }

    /// Reads a value of no known type.
    fn any(&mut self) -> Syntax<Value> {
        match self.scanner.token()? {
            Token::Object => self.nested(|walker| walker.entries(None, walker.untyped)),
            Token::Array => self.nested(|walker| walker.items(None)),
            Token::String => Ok(Value::String(self.scanner.string()?.into_owned())),
            Token::Number => {
                let text = self.scanner.number()?;
                Ok(scalar::number(text).unwrap_or_else(|| {
                    self.save(format!("json: cannot unmarshal number {text} into Go value of type float64"));
                    Value::Null
                }))
            }
            Token::True => self.scanner.word("true").map(|()| Value::Bool(true)),
            Token::False => self.scanner.word("false").map(|()| Value::Bool(false)),
            Token::Null => self.scanner.word("null").map(|()| Value::Null),
        }
    }

    /// Reads a value and forgets it; only its syntax counts.
    fn skip(&mut self) -> Syntax<Value> {
        let untyped = std::mem::replace(&mut self.untyped, false);
        self.any()?;
        self.untyped = untyped;
        Ok(Value::Null)
    }

    fn schema_or(&mut self, special: Special) -> Syntax<Value> {
        let schema = self.schemas.named(SCHEMA);
        match (self.scanner.token()?, special) {
            (Token::Object, _) => self.value(schema),
            (Token::Array, Special::SchemaOrArray) => self.nested(|walker| walker.items(schema)),
            (Token::Array, Special::SchemaOrStringArray) | (Token::True | Token::False, Special::SchemaOrBool) => {
                self.any()
            }
            (_, Special::SchemaOrBool) => {
                self.fatal.get_or_insert_with(|| "boolean or JSON schema expected".to_owned());
                self.skip()
            }
            _ => self.skip(),
        }
    }

    fn scalar(&mut self, kind: ScalarKind) -> Syntax<Value> {
        let token = self.scanner.token()?;
        match token {
            Token::Object | Token::Array => {
                self.mismatch(token, "");
                return self.skip();
            }
            Token::Null => return self.scanner.word("null").map(|()| Value::Null),
            Token::String => {
                let text = self.scanner.string()?;
                let read = scalar::from_string(kind, &text);
                return Ok(self.outcome(token, "", read));
            }
            Token::Number => {
                let text = self.scanner.number()?;
                let read = scalar::from_number(kind, text);
                let numeric = !matches!(kind, ScalarKind::String | ScalarKind::Boolean | ScalarKind::Bytes)
                    && !matches!(read, Err(scalar::Refused::Inner("string")));
                return Ok(self.outcome(token, if numeric { text } else { "" }, read));
            }
            Token::True | Token::False => {}
        }
        let set = token == Token::True;
        self.scanner.word(if set { "true" } else { "false" })?;
        let read = if kind == ScalarKind::Boolean { Ok(set.into()) } else { Err(scalar::Refused::of(kind)) };
        Ok(self.outcome(token, "", read))
    }

    fn outcome(&mut self, token: Token, number: &str, read: Result<Value, scalar::Refused>) -> Value {
        match read {
            Ok(value) => return value,
            Err(scalar::Refused::Kind) => self.mismatch(token, number),
            Err(scalar::Refused::Inner(go)) => {
                let what = described(token, number);
                let text = self.type_error(&what, go);
                self.fatal.get_or_insert(text);
            }
            Err(scalar::Refused::Value(text)) => {
                // Upstream's text alone does not say which of many quantities or times it is.
                let path = self.path.clone();
                self.fatal.get_or_insert(if path.is_empty() { text } else { format!("{path}: {text}") });
            }
            Err(scalar::Refused::Saved(text)) => self.save(text),
        }
        Value::Null
    }

    /// Notes that a value of another type stands here.
    fn mismatch(&mut self, token: Token, number: &str) {
        let what = described(token, number);
        let go = match self.owner {
            Some(owner) => go_type(&owner.ty.name, &owner.field.name).unwrap_or_default(),
            None => "v1.Object".to_owned(),
        };
        let entered = self.owner.map_or(0, |owner| owner.entered);
        let go = (0..entered)
            .fold(go.as_str(), |go, _| go.strip_prefix("[]").or_else(|| go.strip_prefix("map[string]")).unwrap_or(go));
        let text = self.type_error(&what, go);
        self.save(text);
    }

    fn type_error(&self, what: &str, go: &str) -> String {
        match self.owner {
            None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
            Some(owner) => {
                let name = owner.ty.name.rsplit('.').next().unwrap_or_default();
                let fields = self.fields.join(".");
                format!("json: cannot unmarshal {what} into Go struct field {name}.{fields} of type {go}")
            }
        }
    }

    fn save(&mut self, text: String) {
        self.saved.get_or_insert(text);
    }

    fn report(&mut self, what: &str, key: &str) {
        if self.lenient > 0 || self.strict.len() >= STRICT_MAX {
            return;
        }
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let text = strict_problem(what, &path);
        if self.seen.insert(text.clone()) {
            self.strict.push(text);
        }
    }

    fn push_key(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    fn enter(&mut self, by: isize) {
        if let Some(owner) = &mut self.owner {
            owner.entered = owner.entered.saturating_add_signed(by);
        }
    }

    fn or_zero(&self, value: Value, ty: Option<TypeId>) -> Value {
        match ty {
            Some(ty) if value.is_null() => zero::zero(self.schemas, ty),
            _ => value,
        }
    }
}

fn position(ty: &StructType, key: &str, hint: usize) -> Option<usize> {
    if ty.fields.get(hint).is_some_and(|field| field.name == key) {
        return Some(hint);
    }
    ty.fields.iter().position(|field| field.name == key)
}

fn described(token: Token, number: &str) -> String {
    match token {
        Token::Object => "object".to_owned(),
        Token::Array => "array".to_owned(),
        Token::String => "string".to_owned(),
        Token::Number if number.is_empty() => "number".to_owned(),
        Token::Number => format!("number {number}"),
        Token::True | Token::False => "bool".to_owned(),
        Token::Null => "null".to_owned(),
    }
}
