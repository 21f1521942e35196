//! Inputs made from seeds: the same ones each time, so that a failure can be seen again.

/// What targets get, besides findings of the fuzzer that became seeds.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let pod = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"a":"b"},"managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}}}]},"spec":{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"100m"}}}],"tolerations":[{"key":"x"}]}}"#;
    let other = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","annotations":{"x":null},"$patch":"merge"},"spec":{"containers":[{"name":"a","$patch":"replace"},{"name":"b","image":"j"},{"$setElementOrder/ports":[{"containerPort":80}]}],"$retainKeys":["containers"],"$deleteFromPrimitiveList/finalizers":["f"]}}"#;
    let applied = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"k"},{"name":"c"}]}}"#;
    let both = |first: &str, second: &str| [first.as_bytes(), b"\0", second.as_bytes()].concat();
    let text = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "json" => text(&[
            pod,
            other,
            "[[[[{\"a\":[1e999,-0,\"\\ud800\"]}]]]]",
            "{\"spec\":{\"containers\":{}},\"a\":tru",
            &"[".repeat(300),
        ]),
        "yaml" => text(&[
            "a: &a [1, 0o17, 017, yes, ~]\nb: *a\nc: {<<: *a}\n",
            "kind: Pod\nmetadata:\n  name: \"x\\x00\"\nspec: {containers: [{name: a, image: |\n  b\n}]}\n",
            "a: &x\n  b: &y [*x]\n---\n- 1\n",
            &(0..4).fold("a0: &a0 x\n".to_owned(), |all, n| {
                let list = vec![format!("*a{n}"); 9].join(",");
                format!("{all}a{}: &a{} [{list}]\n", n + 1, n + 1)
            }),
        ]),
        "protobuf" => vec![
            protobuf(pod),
            protobuf(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c"},"data":{"k":"v"}}"#),
            b"k8s\0\x0a\x08\x0a\x02v1\x12\x02\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        ],
        "strategic_merge" => vec![both(pod, other), both(other, pod), both(pod, "{\"$patch\":\"delete\"}")],
        "patches" => vec![
            both(
                pod,
                r#"[{"op":"add","path":"/spec/containers/-","value":{}},{"op":"copy","from":"/spec","path":"/spec/x"},{"op":"move","from":"/spec/x","path":"/a~1b~0"},{"op":"test","path":"","value":1},{"op":"remove","path":"/spec/containers/99999999999999999999"}]"#,
            ),
            both(pod, other),
        ],
        "apply" => vec![both(pod, applied), both(applied, pod), both(pod, other)],
        "cel" => text(&[
            "self.b.map(x, x * 2).filter(x, x > 2).exists_one(x, x == 4) && has(self.c.d) ? text.matches('^[a-z]+') : false",
            "[1,2,3].all(i, [1,2,3].all(j, i + j < 10u)) || quantity('1Gi').isGreaterThan(quantity('1M'))",
            "duration('1h') + timestamp('2026-01-01T00:00:00Z') == timestamp('0001-01-01T00:00:00Z')",
            "text.replace('', 'xxxxxxxx').split('').join(text).lowerAscii().substring(3, 999999)",
            "9223372036854775807 + 1 > -9223372036854775808 / -1 || 1 % 0 == 0 || b'\\xff' == bytes('a')",
            "url('http://[::1]:80/x?y=z').getQuery() == {} && cidr('10.0.0.0/8').containsIP(ip('10.1.1.1'))",
            &"(".repeat(500),
            &"!".repeat(500),
            &"[".repeat(200),
        ]),
        "selectors" => text(&[
            "a=b,c!=d,e in (f,g),h notin (i),!j,k",
            "metadata.name=x,status.phase!=Running\\,y",
            "1.5Gi",
            "1e-9223372036854775808",
            r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d"]}]}"#,
        ]),
        "request_path" => text(&[
            "/api/v1/namespaces/a/pods/b/exec?command=x&command=%20y&stdin=true",
            "/apis/apps/v1/watch/namespaces/%2e%2e/deployments//?watch=1&fieldSelector=metadata.name%3Dz",
            "/api/v1/namespaces/n/services/https:s:port/proxy/a/%2F/b/?",
            "//api//v1//namespaces//",
            "/apis/%00/%ff/x",
        ]),
        _ => frames(),
    }
}

fn protobuf(json: &str) -> Vec<u8> {
    let object = serde_json::from_str(json).expect("seeds are JSON");
    coracle_api_schema::proto::encode(&object, coracle_api_schema::builtin()).expect("seeds can be encoded")
}

/// Frames of both protocols.
fn frames() -> Vec<Vec<u8>> {
    vec![
        // A masked text of five bytes, a ping, a close.
        vec![0x81, 0x85, 1, 2, 3, 4, b'i' ^ 1, b'e' ^ 2, b'o' ^ 3, b'l' ^ 4, b'p' ^ 1, 0x89, 0x80, 0, 0, 0, 0, 0x88, 0],
        vec![0x02, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
        vec![0x82, 0x7e, 0, 4, 1, 2, 3, 4, 0x00, 0x00],
        // SPDY: a stream with headers that are no zlib, data, settings, ping, goaway, window update.
        vec![0x80, 3, 0, 1, 1, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x78, 0x9c],
        vec![0, 0, 0, 1, 1, 0, 0, 3, 1, 2, 3, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
        vec![0x80, 3, 0, 4, 0, 0, 0, 12, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4, 0, 0, 0, 9],
        vec![0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0],
    ]
}

/// Small numbers that look random. Source: xorshift64*.
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % sides.max(1)
    }
}

/// Pieces that decoders stumble over.
const STUMBLES: [&[u8]; 16] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"\\u0000",
    b"-1",
    b"9223372036854775808",
    b"1e400",
    b"$patch",
    b"..",
    b"%",
    b"*a",
    b"\x80",
    b"{\"\":",
];

/// A seed, changed in a few places.
#[must_use]
pub fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let pick = |dice: &mut Dice| seeds.get(dice.roll(seeds.len())).cloned().unwrap_or_default();
    let mut data = pick(dice);
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(data.len() + 1);
        match dice.roll(6) {
            0 if at < data.len() => data[at] ^= 1 << dice.roll(8),
            1 => {
                let end = (at + 1 + dice.roll(16)).min(data.len());
                data.drain(at.min(end)..end);
            }
            2 => drop(data.splice(at..at, STUMBLES[dice.roll(STUMBLES.len())].iter().copied())),
            3 => {
                let other = pick(dice);
                let from = dice.roll(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            4 => {
                let end = (at + dice.roll(64)).min(data.len());
                let piece: Vec<u8> = data[at.min(end)..end].repeat(1 + dice.roll(4));
                drop(data.splice(at..at, piece));
            }
            _ => data.truncate(data.len().max(1) - dice.roll(data.len().max(1)).min(8)),
        }
    }
    data
}
