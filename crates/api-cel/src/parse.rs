//! Source to tree.

use crate::{
    ast::{Expr, Fold, FoldKind, Kind, Literal},
    error::Issue,
    lex::{Token, tokens},
};

/// Longest source.
const SOURCE_BYTES_MAX: usize = 100_000;
/// Expressions inside each other.
const DEPTH_MAX: usize = 100;
/// Binary operators, loosest first.
const LEVELS: [&[(&str, &str)]; 5] = [
    &[("||", "_||_")],
    &[("&&", "_&&_")],
    &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")],
    &[("+", "_+_"), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

pub(crate) fn parse(source: &str) -> Result<Expr, Issue> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(Issue { at: 0, text: format!("expression code point size exceeds limit: {SOURCE_BYTES_MAX}") });
    }
    let mut parser = Parser { tokens: tokens(source)?, next: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => parser.unexpected("<EOF>"),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Issue>;

fn call(at: usize, name: &str, args: Vec<Expr>) -> Expr {
    Expr { at, kind: Kind::Call { name: name.to_owned(), target: None, args } }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn accept(&mut self, punct: &str) -> bool {
        let found = matches!(self.peek(), Token::Punct(found) if *found == punct);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, punct: &str) -> Parsed<()> {
        if self.accept(punct) { Ok(()) } else { self.unexpected(&format!("'{punct}'")) }
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Punct(punct) => (*punct).to_owned(),
            Token::Ident(name) => name.clone(),
            Token::Literal(literal) => shown(literal),
        };
        let text = format!("Syntax error: mismatched input '{found}' expecting {wanted}");
        Err(Issue { at: self.at(), text })
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Issue { at: self.at(), text: "expression recursion limit exceeded".to_owned() });
        }
        let condition = self.binary(0)?;
        let at = self.at();
        let expr = if self.accept("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expr()?;
            call(at, "_?_:_", vec![condition, then, otherwise])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn binary(&mut self, level: usize) -> Parsed<Expr> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.at();
            let Some((_, name)) = operators.iter().find(|(punct, _)| self.accept(punct)) else { return Ok(left) };
            let right = self.binary(level + 1)?;
            left = call(at, name, vec![left, right]);
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        let mut count = 0;
        let operator = match self.peek() {
            Token::Punct("!") => "!",
            Token::Punct("-") => "-",
            _ => return self.member(),
        };
        while self.accept(operator) {
            count += 1;
        }
        if operator == "-" && matches!(self.peek(), Token::Literal(Literal::Int(_) | Literal::Double(_))) {
            count -= 1;
            let operand = self.negative(at)?;
            return Ok(if count % 2 == 0 { operand } else { call(at, "-_", vec![operand]) });
        }
        let operand = self.member()?;
        let name = if operator == "!" { "!_" } else { "-_" };
        Ok(if count % 2 == 0 { operand } else { call(at, name, vec![operand]) })
    }

    /// A number after a minus sign.
    fn negative(&mut self, at: usize) -> Parsed<Expr> {
        let literal = match self.peek() {
            Token::Literal(Literal::Int(value)) => Literal::Int(value.wrapping_neg()),
            Token::Literal(Literal::Double(value)) => Literal::Double(-value),
            _ => return self.unexpected("a number"),
        };
        self.next += 1;
        self.suffixes(Expr { at, kind: Kind::Literal(literal) })
    }

    fn member(&mut self) -> Parsed<Expr> {
        let primary = self.primary()?;
        self.suffixes(primary)
    }

    fn suffixes(&mut self, mut operand: Expr) -> Parsed<Expr> {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let name_at = self.at();
                let field = self.ident()?;
                operand = if !optional && self.accept("(") {
                    let args = self.args()?;
                    member_call(name_at, operand, field, args)?
                } else {
                    Expr { at, kind: Kind::Select { operand: Box::new(operand), field, optional } }
                };
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.expr()?);
                self.expect("]")?;
                operand = Expr { at, kind: Kind::Index { operand: Box::new(operand), index, optional } };
            } else if matches!(self.peek(), Token::Punct("{")) && qualified(&operand).is_some() {
                let name = qualified(&operand).unwrap_or_default();
                self.next += 1;
                operand = Expr { at, kind: Kind::Object { name, fields: self.fields()? } };
            } else {
                return Ok(operand);
            }
        }
    }

    fn ident(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Ident(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            // `in` may be a field.
            Token::Punct("in") => {
                self.next += 1;
                Ok("in".to_owned())
            }
            _ => self.unexpected("IDENTIFIER"),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        let token = self.peek().clone();
        match token {
            Token::Literal(literal) => {
                self.next += 1;
                if literal == Literal::Int(i64::MIN) {
                    return Err(Issue { at, text: "Syntax error: invalid int literal".to_owned() });
                }
                Ok(Expr { at, kind: Kind::Literal(literal) })
            }
            Token::Ident(name) => {
                self.next += 1;
                if self.accept("(") {
                    let args = self.args()?;
                    return global_call(at, name, args);
                }
                Ok(Expr { at, kind: Kind::Ident(name) })
            }
            Token::Punct(".") => {
                self.next += 1;
                self.primary()
            }
            Token::Punct("(") => {
                self.next += 1;
                let expr = self.expr()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Punct("[") => {
                self.next += 1;
                Ok(Expr { at, kind: Kind::List(self.items()?) })
            }
            Token::Punct("{") => {
                self.next += 1;
                Ok(Expr { at, kind: Kind::Map(self.entries()?) })
            }
            _ => self.unexpected("{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"),
        }
    }

    fn args(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        while !self.accept(")") {
            args.push(self.expr()?);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(args)
    }

    fn items(&mut self) -> Parsed<Vec<(Expr, bool)>> {
        let mut items = Vec::new();
        while !self.accept("]") {
            let optional = self.accept("?");
            items.push((self.expr()?, optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(items)
    }

    fn entries(&mut self) -> Parsed<Vec<(Expr, Expr, bool)>> {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((key, self.expr()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }

    fn fields(&mut self) -> Parsed<Vec<(String, Expr, bool)>> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let name = self.ident()?;
            self.expect(":")?;
            fields.push((name, self.expr()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }
}

/// `a.b.c` as a name, when the expression is one.
pub(crate) fn qualified(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select { operand, field, optional: false } => Some(format!("{}.{field}", qualified(operand)?)),
        _ => None,
    }
}

fn shown(literal: &Literal) -> String {
    match literal {
        Literal::Null => "null".to_owned(),
        Literal::Bool(value) => value.to_string(),
        Literal::Int(value) => value.to_string(),
        Literal::Uint(value) => format!("{value}u"),
        Literal::Double(value) => value.to_string(),
        Literal::String(value) => format!("{value:?}"),
        Literal::Bytes(value) => format!("b{:?}", String::from_utf8_lossy(value)),
    }
}

fn global_call(at: usize, name: String, mut args: Vec<Expr>) -> Parsed<Expr> {
    if name == "has" && args.len() == 1 {
        return match args.swap_remove(0).kind {
            Kind::Select { operand, field, .. } => Ok(Expr { at, kind: Kind::Has { operand, field } }),
            _ => Err(Issue { at, text: "invalid argument to has() macro".to_owned() }),
        };
    }
    Ok(Expr { at, kind: Kind::Call { name, target: None, args } })
}

/// A method, a macro, or a function of a namespace (`cel.bind`, `quantity.x`).
fn member_call(at: usize, target: Expr, name: String, mut args: Vec<Expr>) -> Parsed<Expr> {
    if let Kind::Ident(namespace) = &target.kind {
        if namespace == "cel" && name == "bind" && args.len() == 3 {
            let body = Box::new(args.remove(2));
            let value = Box::new(args.remove(1));
            let name = variable(&args[0])?;
            return Ok(Expr { at, kind: Kind::Bind { name, value, body } });
        }
        let namespaces =
            ["optional", "math", "strings", "base64", "sets", "lists", "format", "jsonpatch", "ip", "cidr", "net"];
        if namespaces.contains(&namespace.as_str()) {
            return Ok(Expr { at, kind: Kind::Call { name: format!("{namespace}.{name}"), target: None, args } });
        }
    }
    let fold = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Some(FoldKind::All),
        ("exists", 2 | 3) => Some(FoldKind::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(FoldKind::ExistsOne),
        ("filter", 2) => Some(FoldKind::Filter),
        ("map", 2 | 3) => Some(FoldKind::Map),
        ("sortBy", 2) => Some(FoldKind::SortBy),
        ("transformList", 3 | 4) => Some(FoldKind::TransformList),
        ("transformMap", 3 | 4) => Some(FoldKind::TransformMap),
        ("transformMapEntry", 3 | 4) => Some(FoldKind::TransformMapEntry),
        _ => None,
    };
    if let Some(kind) = fold {
        return Ok(Expr { at, kind: Kind::Fold(Box::new(self::fold(kind, target, args)?)) });
    }
    if matches!(name.as_str(), "optMap" | "optFlatMap") && args.len() == 2 {
        let body = Box::new(args.remove(1));
        let flat = name == "optFlatMap";
        let name = variable(&args[0])?;
        return Ok(Expr { at, kind: Kind::OptMap { target: Box::new(target), name, body, flat } });
    }
    Ok(Expr { at, kind: Kind::Call { name, target: Some(Box::new(target)), args } })
}

fn fold(kind: FoldKind, range: Expr, mut args: Vec<Expr>) -> Parsed<Fold> {
    let transforms = matches!(kind, FoldKind::TransformList | FoldKind::TransformMap | FoldKind::TransformMapEntry);
    let first = variable(&args[0])?;
    let two = transforms || (args.len() == 3 && kind != FoldKind::Map);
    let second = if two { Some(variable(&args[1])?) } else { None };
    let mut rest = args.split_off(if two { 2 } else { 1 }).into_iter();
    let (condition, transform) = match (kind, rest.len()) {
        (FoldKind::Map, 1) | (FoldKind::SortBy, _) => (None, rest.next()),
        (FoldKind::Map, _) => (rest.next(), rest.next()),
        _ if transforms && rest.len() == 1 => (None, rest.next()),
        _ if transforms => (rest.next(), rest.next()),
        _ => (rest.next(), None),
    };
    Ok(Fold { kind, range, first, second, condition, transform })
}

fn variable(expr: &Expr) -> Parsed<String> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Issue { at: expr.at, text: "argument must be a simple name".to_owned() }),
    }
}
