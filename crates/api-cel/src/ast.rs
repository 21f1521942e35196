//! The tree of an expression. Macros are nodes of their own, not expanded.

/// An expression and where it stands (byte offset in the source).
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub at: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    /// `operand.field`, or `operand.?field`.
    Select {
        operand: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        operand: Box<Expr>,
        field: String,
    },
    /// Functions, methods and operators (`_+_`, `!_`, `_?_:_`, `@in`).
    Call {
        name: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    /// Items, each with whether it is `?item`.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Object.spec{replicas: 1}`.
    Object {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)`.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `target.optMap(name, body)`; `flat` for `optFlatMap`.
    OptMap {
        target: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// A macro that goes through a list or map.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub kind: FoldKind,
    pub range: Expr,
    pub first: String,
    /// The second variable: values of maps, items of lists.
    pub second: Option<String>,
    /// The condition; for maps that transform, the filter.
    pub condition: Option<Expr>,
    pub transform: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
    SortBy,
    TransformList,
    TransformMap,
    TransformMapEntry,
}
