//! Netlink attributes by hand, for the few messages the library has no words for. Source: `linux/nf_tables.h`.

use coracle_nft::Verdict;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Attributes of one message or nest, encoded.
#[derive(Default)]
pub(super) struct Attrs(Vec<u8>);

impl Attrs {
    pub(super) fn new() -> Attrs {
        Attrs::default()
    }

    pub(super) fn bytes(mut self, kind: u16, payload: &[u8]) -> Attrs {
        // An attribute's length is 16 bits; whoever nests many elements splits them before (see `tables`).
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Attrs {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, text: &str) -> Attrs {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nest(self, kind: u16, inner: Attrs) -> Attrs {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// `NFTA_DATA_VERDICT` with its code and chain.
pub(super) fn verdict(verdict: &Verdict) -> Attrs {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    let code: i32 = code;
    let mut attrs = Attrs::new().bytes(1, &code.to_be_bytes());
    if let Some(chain) = chain {
        attrs = attrs.text(2, chain);
    }
    Attrs::new().nest(2, attrs)
}
