//! Signatures of operators, functions and methods.
//!
//! Sources: the standard definitions of CEL, cel-go's extensions (strings, sets, two-variable comprehensions, optional types)
//! and `k8s.io/apiserver/pkg/cel/library`.

use std::{collections::HashMap, sync::OnceLock};

use crate::ty::{REQUEST_BYTES_MAX, Ty};

pub(crate) struct Overload {
    pub member: bool,
    pub args: Vec<Ty>,
    pub result: Ty,
}

/// Overloads as `args>result`, methods with a dot in front. `s` string, `y` bytes, `i` int, `u` uint, `d` double, `b` bool,
/// `n` null, `t` type, `*` dyn, `D` duration, `T` timestamp, `[x]` list, `{k:v}` map, `?x` optional, `A` and `B` any type,
/// `Q` quantity, `I` IP, `C` CIDR, `U` URL, `S` semver, `F` format, `J` JSON patch operation.
#[rustfmt::skip]
const SIGNATURES: &[(&str, &str)] = &[
    ("_?_:_", "b,A,A>A"), ("_&&_", "b,b>b"), ("_||_", "b,b>b"), ("!_", "b>b"), ("-_", "i>i d>d"),
    ("_==_", "A,A>b"), ("_!=_", "A,A>b"),
    ("_<_", COMPARE), ("_<=_", COMPARE), ("_>_", COMPARE), ("_>=_", COMPARE),
    ("_+_", "i,i>i u,u>u d,d>d s,s>s y,y>y [A],[A]>[A] D,D>D D,T>T T,D>T"),
    ("_-_", "i,i>i u,u>u d,d>d D,D>D T,D>T T,T>D"),
    ("_*_", "i,i>i u,u>u d,d>d"), ("_/_", "i,i>i u,u>u d,d>d"), ("_%_", "i,i>i u,u>u"),
    ("@in", "A,[A]>b A,{A:B}>b"), ("_[_]", "[A],i>A {A:B},A>B"),
    ("size", "s>i y>i [A]>i {A:B}>i .s>i .y>i .[A]>i .{A:B}>i"),
    ("type", "A>t"), ("dyn", "A>*"),
    ("int", "i>i u>i d>i s>i T>i D>i"), ("uint", "u>u i>u d>u s>u"), ("double", "d>d i>d u>d s>d"),
    ("string", "s>s i>s u>s d>s b>s y>s T>s D>s I>s C>s U>s"), ("bytes", "y>y s>y"), ("bool", "b>b s>b"),
    ("duration", "D>D s>D i>D"), ("timestamp", "T>T s>T i>T"),
    ("contains", ".s,s>b .C,s>b .C,I>b"), ("startsWith", ".s,s>b"), ("endsWith", ".s,s>b"),
    ("matches", ".s,s>b s,s>b"),
    ("getFullYear", DATE), ("getMonth", DATE), ("getDate", DATE), ("getDayOfMonth", DATE), ("getDayOfWeek", DATE), ("getDayOfYear", DATE),
    ("getHours", TIME), ("getMinutes", TIME), ("getSeconds", TIME), ("getMilliseconds", TIME),
    // Strings.
    ("charAt", ".s,i>s"), ("indexOf", ".s,s>i .s,s,i>i .[A],A>i"), ("lastIndexOf", ".s,s>i .s,s,i>i .[A],A>i"),
    ("lowerAscii", ".s>s"), ("upperAscii", ".s>s"), ("trim", ".s>s"), ("reverse", ".s>s .[A]>[A]"),
    ("replace", ".s,s,s>s .s,s,s,i>s"), ("split", ".s,s>[s] .s,s,i>[s]"), ("substring", ".s,i>s .s,i,i>s"),
    ("join", ".[s]>s .[s],s>s"), ("format", ".s,[*]>s"), ("strings.quote", "s>s"), ("quote", "s>s"),
    ("base64.encode", "y>s"), ("base64.decode", "s>y"),
    ("math.greatest", "[A]>A i>i u>u d>d A,A>A A,A,A>A A,A,A,A>A"), ("math.least", "[A]>A i>i u>u d>d A,A>A A,A,A>A A,A,A,A>A"),
    ("sets.contains", "[A],[A]>b"), ("sets.equivalent", "[A],[A]>b"), ("sets.intersects", "[A],[A]>b"),
    // Optional values.
    ("optional.of", "A>?A"), ("optional.ofNonZeroValue", "A>?A"), ("optional.none", ">?A"),
    ("hasValue", ".?A>b"), ("value", ".?A>A"), ("orValue", ".?A,A>A"), ("or", ".?A,?A>?A"),
    // Lists.
    ("isSorted", ".[A]>b"), ("sum", ".[A]>A"), ("min", ".[A]>A"), ("max", ".[A]>A"),
    ("first", ".[A]>?A"), ("last", ".[A]>?A"), ("distinct", ".[A]>[A]"), ("sort", ".[A]>[A]"), ("slice", ".[A],i,i>[A]"),
    ("flatten", ".[[A]]>[A] .[A]>[A]"), ("lists.range", "i>[i]"),
    // Regular expressions.
    ("find", ".s,s>s"), ("findAll", ".s,s>[s] .s,s,i>[s]"),
    // URLs.
    ("url", "s>U"), ("isURL", "s>b"), ("getScheme", ".U>s"), ("getHost", ".U>s"), ("getHostname", ".U>s"), ("getPort", ".U>s"),
    ("getEscapedPath", ".U>s"), ("getQuery", ".U>{s:[s]}"),
    // Addresses.
    ("ip", "s>I .C>I"), ("isIP", "s>b"), ("ip.isCanonical", "s>b"), ("family", ".I>i"), ("isUnspecified", ".I>b"), ("isLoopback", ".I>b"),
    ("isLinkLocalMulticast", ".I>b"), ("isLinkLocalUnicast", ".I>b"), ("isGlobalUnicast", ".I>b"),
    ("cidr", "s>C"), ("isCIDR", "s>b"), ("containsIP", ".C,s>b .C,I>b"), ("containsCIDR", ".C,s>b .C,C>b"),
    ("prefixLength", ".C>i"), ("masked", ".C>C"),
    // Quantities and versions.
    ("quantity", "s>Q"), ("isQuantity", "s>b"), ("sign", ".Q>i"), ("isGreaterThan", ".Q,Q>b .S,S>b"), ("isLessThan", ".Q,Q>b .S,S>b"),
    ("compareTo", ".Q,Q>i .S,S>i"), ("asApproximateFloat", ".Q>d"), ("asInteger", ".Q>i"), ("isInteger", ".Q>b"),
    ("add", ".Q,Q>Q .Q,i>Q"), ("sub", ".Q,Q>Q .Q,i>Q"),
    ("semver", "s>S s,b>S"), ("isSemver", "s>b s,b>b"), ("major", ".S>i"), ("minor", ".S>i"), ("patch", ".S>i"),
    // Formats.
    ("format.named", "s>?F"), ("format.dns1123Label", ">F"), ("format.dns1123Subdomain", ">F"), ("format.dns1035Label", ">F"),
    ("format.qualifiedName", ">F"), ("format.dns1123LabelPrefix", ">F"), ("format.dns1123SubdomainPrefix", ">F"),
    ("format.dns1035LabelPrefix", ">F"), ("format.labelValue", ">F"), ("format.uri", ">F"), ("format.uuid", ">F"), ("format.byte", ">F"),
    ("format.date", ">F"), ("format.datetime", ">F"), ("validate", ".F,s>?[s]"),
    ("jsonpatch.escapeKey", "s>s"),
    // Authorization.
    ("path", ".Z,s>Z"), ("group", ".Z,s>Z"), ("serviceAccount", ".Z,s,s>Z"), ("resource", ".Z,s>Z"), ("subresource", ".Z,s>Z"),
    ("namespace", ".Z,s>Z"), ("name", ".Z,s>Z"), ("fieldSelector", ".Z,s>Z"), ("labelSelector", ".Z,s>Z"), ("check", ".Z,s>Z"),
    ("allowed", ".Z>b"), ("reason", ".Z>s"), ("errored", ".Z>b"), ("error", ".Z>s"),
];
const COMPARE: &str = "b,b>b i,i>b i,u>b i,d>b u,u>b u,i>b u,d>b d,d>b d,i>b d,u>b s,s>b y,y>b T,T>b D,D>b";
const DATE: &str = ".T>i .T,s>i";
const TIME: &str = ".T>i .T,s>i .D>i";

/// All overloads of a name.
pub(crate) fn overloads(name: &str) -> &'static [Overload] {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let overloads = |text: &'static str| text.split(' ').filter_map(overload).collect();
        SIGNATURES.iter().map(|(name, text)| (*name, overloads(text))).collect()
    });
    table.get(name).map(Vec::as_slice).unwrap_or_default()
}

fn overload(text: &str) -> Option<Overload> {
    let (args, result) = text.split_once('>')?;
    let member = args.starts_with('.');
    let mut reader = Reader { rest: args.trim_start_matches('.').chars() };
    let mut types = Vec::new();
    while let Some(ty) = reader.ty() {
        types.push(ty);
        reader.rest.next();
    }
    Some(Overload { member, args: types, result: Reader { rest: result.chars() }.ty()? })
}

struct Reader<'a> {
    rest: std::str::Chars<'a>,
}

impl Reader<'_> {
    fn ty(&mut self) -> Option<Ty> {
        Some(match self.rest.next()? {
            's' => Ty::text(),
            'y' => Ty::Bytes(REQUEST_BYTES_MAX),
            'i' => Ty::Int,
            'u' => Ty::Uint,
            'd' => Ty::Double,
            'b' => Ty::Bool,
            'n' => Ty::Null,
            't' => Ty::Type,
            '*' => Ty::Dyn,
            'D' => Ty::Duration,
            'T' => Ty::Timestamp,
            'Q' => Ty::Opaque("kubernetes.Quantity"),
            'I' => Ty::Opaque("net.IP"),
            'C' => Ty::Opaque("net.CIDR"),
            'U' => Ty::Opaque("kubernetes.URL"),
            'S' => Ty::Opaque("kubernetes.Semver"),
            'F' => Ty::Opaque("kubernetes.NamedFormat"),
            'Z' => Ty::Opaque("kubernetes.authorization.Authorizer"),
            '?' => Ty::Optional(self.ty()?.into()),
            '[' => {
                let item = self.ty()?;
                self.rest.next();
                Ty::list(item, REQUEST_BYTES_MAX)
            }
            '{' => {
                let key = self.ty()?;
                self.rest.next();
                let value = self.ty()?;
                self.rest.next();
                Ty::map(key, value, REQUEST_BYTES_MAX)
            }
            other => Ty::Param(other),
        })
    }
}
