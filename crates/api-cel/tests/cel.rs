//! Expressions: values, types, errors and costs.

use std::{collections::BTreeMap, sync::Arc};

use coracle_api_cel::{CALL_COST_MAX, Env, EvalError, Meter, ObjectType, REQUEST_BYTES_MAX, Ty, Val, compile};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug)]
struct Shape(BTreeMap<&'static str, Ty>);

impl ObjectType for Shape {
    fn name(&self) -> &str {
        "object"
    }

    fn field(&self, name: &str) -> Option<Ty> {
        self.0.get(name).cloned()
    }
}

fn shape(fields: &[(&'static str, Ty)]) -> Ty {
    Ty::Object(Arc::new(Shape(fields.iter().cloned().collect())))
}

fn value(source: &str, object: &Value) -> Result<Value, String> {
    let env = Env::default().with("self", Ty::Dyn);
    let program = compile(source, &env).map_err(|error| error.to_string())?;
    let mut meter = Meter::new(CALL_COST_MAX);
    let value = program.eval(&[("self", Val::of(object, &Ty::Dyn))], &mut meter).map_err(|error| error.to_string())?;
    Ok(value.to_json().unwrap_or_else(|| json!(format!("{value:?}"))))
}

#[test]
fn expressions_have_values() {
    let object = json!({ "a": 1, "list": [3, 1, 2], "map": { "k": "v", "x-y": true }, "s": "héllo", "n": null });
    for (source, expected) in [
        ("1 + 2 * 3 - -4", json!(11)),
        ("self.a == 1 && !(self.a != 1)", json!(true)),
        ("self.list.map(x, x * 2)", json!([6, 2, 4])),
        ("self.list.filter(x, x > 1).size()", json!(2)),
        ("self.list.all(x, x > 0) && self.list.exists(x, x == 3) && self.list.exists_one(x, x == 2)", json!(true)),
        ("self.list.map(x, x > 1, x)", json!([3, 2])),
        ("self.map.all(k, k in ['k', 'x-y'])", json!(true)),
        ("self.map.exists(k, v, k == 'k' && v == 'v')", json!(true)),
        ("self.map.transformMap(k, v, k == 'k', v + '!')", json!({ "k": "v!" })),
        ("self.map.transformList(k, v, k)", json!(["k", "x-y"])),
        ("has(self.map.k) && !has(self.map.z) && self.map.x__dash__y", json!(true)),
        ("self.map['x-y']", json!(true)),
        ("self.?map.?nope.orValue('none')", json!("none")),
        ("self.map[?'k'].optMap(x, x + x).orValue('')", json!("vv")),
        ("optional.none().hasValue() ? 1 : 2", json!(2)),
        ("[1, ?optional.of(2), ?optional.none()]", json!([1, 2])),
        ("{'a': 1, ?'b': optional.none()}", json!({ "a": 1 })),
        ("cel.bind(x, self.a + 1, x * x)", json!(4)),
        ("size(self.s) + size('ab') + self.list.size()", json!(10)),
        ("'abc'.substring(1) + 'x'.upperAscii() + ' y '.trim()", json!("bcXy")),
        ("'a,b,c'.split(',').join('-')", json!("a-b-c")),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", json!(5)),
        ("'%s is %d and %.2f'.format(['x', 3, 1.5])", json!("x is 3 and 1.50")),
        ("'abc'.matches('^a.c$') && 'abc'.contains('b') && 'abc'.startsWith('ab') && 'abc'.endsWith('c')", json!(true)),
        ("'abc 123'.find('[0-9]+') + string('a1b2'.findAll('[0-9]').size())", json!("1232")),
        ("self.list.isSorted() || self.list.sum() == 6 && self.list.max() == 3 && self.list.min() == 1", json!(true)),
        ("self.list.sort() == [1, 2, 3] && [1, 1].distinct() == [1] && [[1], [2]].flatten() == [1, 2]", json!(true)),
        ("[1, 2, 3].indexOf(2) == 1 && sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2])", json!(true)),
        ("self.list.sortBy(x, -x)", json!([3, 2, 1])),
        (
            "quantity('1Gi').compareTo(quantity('1024Mi')) == 0 && quantity('100m').isLessThan(quantity('1'))",
            json!(true),
        ),
        (
            "quantity('50k').add(quantity('20k')).asInteger() == 70000 && isQuantity('1.5Gi') && !isQuantity('x')",
            json!(true),
        ),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').isLoopback() && ip('1.2.3.4').family() == 4",
            json!(true),
        ),
        (
            "url('https://user@h.example:80/p?a=1&a=2').getHostname() + url('https://h:80/p').getPort()",
            json!("h.example80"),
        ),
        ("url('https://h/p?a=1&a=2').getQuery()['a'] == ['1', '2'] && isURL('/x') && !isURL('x')", json!(true)),
        ("semver('1.2.3').isGreaterThan(semver('1.2.3-rc.1')) && semver('v1', true).major() == 1", json!(true)),
        ("duration('1h30m').getMinutes() == 90 && duration('90s') == duration('1m30s')", json!(true)),
        (
            "timestamp('2024-02-29T00:00:00Z').getFullYear() == 2024 && timestamp('2024-02-29T01:00:00Z') - timestamp('2024-02-29T00:00:00Z') == duration('1h')",
            json!(true),
        ),
        (
            "type(self.a) == int && type('') == string && type(self.list) == list && type(null) == null_type",
            json!(true),
        ),
        ("self.n == null ? 'null' : 'set'", json!("null")),
        ("dyn(1) == 1.0 && 1 < 2.5 && 2u > 1", json!(true)),
        ("b'ab' == bytes('ab') && base64.encode(b'hi') == 'aGk='", json!(true)),
        (
            "format.dns1123Label().validate('my-name').hasValue() || format.named('uuid').value().validate('x').hasValue()",
            json!(true),
        ),
        ("false && self.nope == 1 || true", json!(true)),
        ("self.nope == 1 || true", json!(true)),
        ("[1, 2].all(x, x > 0) // comment", json!(true)),
        ("r'\\d' + \"\\n\" + '''a'b'''", json!("\\d\na'b")),
        ("Object{spec: Object.spec{replicas: 1337}}", json!({ "spec": { "replicas": 1337 } })),
        ("math.greatest(1, 5, 3) + math.least([4, 2])", json!(7)),
    ] {
        let object_types = |source: &str| source.starts_with("Object");
        let got = if object_types(source) { constructed(source) } else { value(source, &object) };
        assert_eq!(got, Ok(expected), "{source}");
    }
}

fn constructed(source: &str) -> Result<Value, String> {
    let objects: coracle_api_cel::Objects = Arc::new(|name: &str| {
        let spec = shape(&[("replicas", Ty::Int)]);
        match name {
            "Object" => Some(Arc::new(Shape(BTreeMap::from([("spec", spec)]))) as Arc<dyn ObjectType>),
            "Object.spec" => Some(Arc::new(Shape(BTreeMap::from([("replicas", Ty::Int)]))) as Arc<dyn ObjectType>),
            _ => None,
        }
    });
    let env = Env { objects: Some(objects), ..Env::default() };
    let program = compile(source, &env).map_err(|error| error.to_string())?;
    let value = program.eval(&[], &mut Meter::new(CALL_COST_MAX)).map_err(|error| error.to_string())?;
    value.to_json().ok_or_else(|| "no json".to_owned())
}

#[test]
fn failures_are_named_as_cel_go_names_them() {
    let object = json!({ "a": 1, "list": [1] });
    for (source, expected) in [
        ("self.b", "no such key: b"),
        ("self.list[3]", "index out of bounds: 3"),
        ("1 / (self.a - 1)", "division by zero"),
        ("9223372036854775807 + self.a", "integer overflow"),
        ("self.a + 'x'", "no such overload"),
        ("self.a && true", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
    ] {
        assert_eq!(value(source, &object), Err(expected.to_owned()), "{source}");
    }
}

#[test]
fn what_does_not_fit_is_refused_when_compiling() {
    let env = Env::default().with("self", shape(&[("x", Ty::Int), ("s", Ty::text()), ("l", Ty::list(Ty::Int, 10))]));
    for (source, expected) in [
        ("self.z == 100", "ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^"),
        ("self = 42", "ERROR: <input>:1:6: Syntax error: token recognition error at: '= '\n | self = 42\n | .....^"),
        ("self.x > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("'got ' + self.x", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        ("self.s.nope()", "undeclared reference to 'nope' (in container '')"),
        ("self.s.size(1)", "found no matching overload for 'size' applied to 'string.(int)'"),
        ("self.l.all(x, x)", "expected type 'bool' but found 'int'"),
        ("self.x.y", "type 'int' does not support field selection"),
        (
            "self.x.all(y, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("... [] bad expression", "Syntax error: mismatched input"),
        ("self.s == ", "Syntax error: mismatched input '<EOF>'"),
    ] {
        let error = compile(source, &env).expect_err(source).to_string();
        assert!(error.contains(expected), "{source}: {error}");
    }
    for source in ["self.x + 1 > 2", "self.l.map(i, string(i)).join(',') == self.s", "self.?x.orValue(1) == 1"] {
        compile(source, &env).unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

#[test]
fn cost_is_bounded_and_estimated() {
    let large = json!((0..2000).collect::<Vec<i32>>());
    let error = value("self.all(x, self.all(y, y == y))", &large);
    assert_eq!(error, Err(EvalError::Cost.to_string()));
    let env = Env::default().with("self", Ty::list(Ty::text(), REQUEST_BYTES_MAX / 3));
    let cheap = compile("self.size() < 10", &env).expect("compiles").cost_max;
    assert!(cheap < 10, "{cheap}");
    let expensive = compile("self.all(s, s == 'string constant')", &env).expect("compiles").cost_max;
    assert!(expensive > 5_000_000, "{expensive}");
    let used = compile("1 == 1", &env).expect("compiles").used;
    assert_eq!(used, Vec::<String>::new());
}

#[test]
fn deep_sources_are_refused() {
    let source = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(compile(&source, &Env::default()).is_err());
    let source = "!".repeat(5000) + "true";
    assert!(compile(&source, &Env::default()).is_ok());
    let source = "[".repeat(5000);
    assert!(compile(&source, &Env::default()).is_err());
}

proptest! {
    #[test]
    fn no_source_makes_the_compiler_panic(source in "[a-z0-9 .,()\\[\\]{}?:'\"\\\\+*/%<>=!&|_-]{0,40}") {
        let env = Env::default().with("self", Ty::Dyn);
        if let Ok(program) = compile(&source, &env) {
            let object = json!({ "a": [1, "x", null], "b": { "c": 1.5 } });
            let _ = program.eval(&[("self", Val::of(&object, &Ty::Dyn))], &mut Meter::new(10_000));
        }
    }
}
