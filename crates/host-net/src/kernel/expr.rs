//! Rules of `coracle_nft` to the kernel's expressions.

use std::net::IpAddr;

use coracle_nft::{Expr, Family, Field, Verdict};
use ipnet::IpNet;
use nlink::netlink::nftables::{
    self as nl, ChainName, CmpOp, CtKey, DynsetExpr, DynsetOp, FibFlags, FibResult, LookupExpr, MetaKey, NumgenKind,
    PayloadBase, RawExpr, Register,
};

use super::wire::Attrs;

/// The 4-byte registers, in order.
const WORDS: [Register; 16] = [
    Register::Reg32_00,
    Register::Reg32_01,
    Register::Reg32_02,
    Register::Reg32_03,
    Register::Reg32_04,
    Register::Reg32_05,
    Register::Reg32_06,
    Register::Reg32_07,
    Register::Reg32_08,
    Register::Reg32_09,
    Register::Reg32_10,
    Register::Reg32_11,
    Register::Reg32_12,
    Register::Reg32_13,
    Register::Reg32_14,
    Register::Reg32_15,
];

const R1: Register = Register::Reg32_00;
/// `IFNAMSIZ`.
const INTERFACE_NAME_BYTES: usize = 16;
/// `RTN_LOCAL`.
const ROUTE_LOCAL: u32 = 2;
/// `NF_CT_STATE_BIT` of an invalid and of a new connection.
const CT_STATE_INVALID: u32 = 1;
const CT_STATE_NEW: u32 = 8;
/// `IPS_DST_NAT`.
const CT_STATUS_DNAT: u32 = 1 << 5;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const NAT_FULLY_RANDOM: u32 = 1 << 4;
/// What the kernel knows an anonymous map by until it has numbered it.
pub(super) const ANONYMOUS_MAP: &str = "__map%d";

/// The expressions of one rule. `anonymous_map` is the id, within the transaction, of the map that [`Expr::GotoRandom`]
/// looks its number up in.
pub(super) fn lower(family: Family, exprs: &[Expr], anonymous_map: u32) -> nlink::Result<Vec<nl::Expr>> {
    let mut out = Vec::new();
    for expr in exprs {
        lower_one(family, expr, anonymous_map, &mut out)?;
    }
    Ok(out)
}

fn lower_one(family: Family, expr: &Expr, anonymous_map: u32, out: &mut Vec<nl::Expr>) -> nlink::Result<()> {
    match expr {
        Expr::InInterface { name, not } => interface(MetaKey::IifName, name, *not, out),
        Expr::OutInterface { name, not } => interface(MetaKey::OifName, name, *not, out),
        Expr::Source { net, not } => address(Field::Source, *net, *not, out),
        Expr::Destination { net, not } => address(Field::Destination, *net, *not, out),
        Expr::L4Proto(proto) => {
            out.push(nl::Expr::Meta { dreg: R1, key: MetaKey::L4Proto });
            out.push(equal(vec![proto.number()], false));
        }
        Expr::DestinationPort(port) => {
            out.push(load(family, Field::DestinationPort, R1));
            out.push(equal(port.to_be_bytes().to_vec(), false));
        }
        Expr::SourceLocal { not } => local(FibFlags::SADDR, *not, out),
        Expr::DestinationLocal { not } => local(FibFlags::DADDR, *not, out),
        Expr::CtNew => ct_bits(CtKey::State, CT_STATE_NEW, false, out),
        Expr::CtInvalid => ct_bits(CtKey::State, CT_STATE_INVALID, false, out),
        Expr::CtDnat { not } => ct_bits(CtKey::Status, CT_STATUS_DNAT, *not, out),
        Expr::Mark { value, mask, not } => {
            out.push(nl::Expr::Meta { dreg: R1, key: MetaKey::Mark });
            out.push(bitwise(*mask, 0));
            out.push(equal(value.to_ne_bytes().to_vec(), *not));
        }
        Expr::InSet { fields, set, not } => {
            load_all(family, fields, out);
            let lookup = LookupExpr::new(set.as_str(), R1);
            out.push(if *not { lookup.invert().into() } else { lookup.into() });
        }
        Expr::MarkOr(bits) => set_mark(!bits, *bits, out),
        Expr::MarkXor(bits) => set_mark(u32::MAX, *bits, out),
        Expr::Counter => out.push(nl::Expr::Counter),
        Expr::Update { fields, set } => {
            load_all(family, fields, out);
            out.push(DynsetExpr::new(DynsetOp::Update, set.as_str(), R1).into());
        }
        Expr::VerdictMap { fields, map } => {
            load_all(family, fields, out);
            out.push(LookupExpr::new(map.as_str(), R1).dreg(Register::Verdict).into());
        }
        Expr::GotoRandom(chains) => goto_random(chains, anonymous_map, out)?,
        Expr::Verdict(verdict) => out.push(nl::Expr::Verdict(lower_verdict(verdict)?)),
        Expr::Reject => out.push(nl::Expr::Reject { reject_type: 0, icmp_code: port_unreachable(family) }),
        Expr::Dnat { address, port } => dnat(*address, *port, out),
        Expr::DnatMap { fields, map } => {
            load_all(family, fields, out);
            out.push(LookupExpr::new(map.as_str(), R1).dreg(R1).into());
            out.push(dnat_expr(family, 0, address_words(family)));
        }
        Expr::Masquerade => out.push(RawExpr::new("masq", Attrs::new().number(1, NAT_FULLY_RANDOM).finish()).into()),
    }
    Ok(())
}

fn interface(key: MetaKey, name: &str, not: bool, out: &mut Vec<nl::Expr>) {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(INTERFACE_NAME_BYTES, 0);
    out.push(nl::Expr::Meta { dreg: Register::R0, key });
    out.push(nl::Expr::Cmp { sreg: Register::R0, op: op(not), data: bytes });
}

fn address(field: Field, net: IpNet, not: bool, out: &mut Vec<nl::Expr>) {
    let (family, network, mask) = match net {
        IpNet::V4(net) => (Family::Ip, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (Family::Ip6, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    out.push(load(family, field, Register::R0));
    if net.prefix_len() < net.max_prefix_len() {
        let len = mask.len();
        let xor = vec![0; len];
        out.push(nl::Expr::Bitwise { sreg: Register::R0, dreg: Register::R0, len: len as u32, mask, xor });
    }
    out.push(nl::Expr::Cmp { sreg: Register::R0, op: op(not), data: network });
}

fn local(flags: FibFlags, not: bool, out: &mut Vec<nl::Expr>) {
    out.push(nl::Expr::Fib { dreg: R1, result: FibResult::AddrType, flags });
    out.push(equal(ROUTE_LOCAL.to_ne_bytes().to_vec(), not));
}

/// One of the bits is set; or, with `not`, none.
fn ct_bits(key: CtKey, bits: u32, not: bool, out: &mut Vec<nl::Expr>) {
    out.push(nl::Expr::Ct { dreg: R1, key });
    out.push(bitwise(bits, 0));
    out.push(equal(0u32.to_ne_bytes().to_vec(), !not));
}

fn set_mark(mask: u32, xor: u32, out: &mut Vec<nl::Expr>) {
    out.push(nl::Expr::Meta { dreg: R1, key: MetaKey::Mark });
    out.push(bitwise(mask, xor));
    out.push(nl::Expr::MetaSet { key: MetaKey::Mark, sreg: R1 });
}

fn bitwise(mask: u32, xor: u32) -> nl::Expr {
    let (mask, xor) = (mask.to_ne_bytes().to_vec(), xor.to_ne_bytes().to_vec());
    nl::Expr::Bitwise { sreg: R1, dreg: R1, len: 4, mask, xor }
}

fn equal(data: Vec<u8>, not: bool) -> nl::Expr {
    nl::Expr::Cmp { sreg: R1, op: op(not), data }
}

fn op(not: bool) -> CmpOp {
    if not { CmpOp::Neq } else { CmpOp::Eq }
}

fn address_words(family: Family) -> usize {
    match family {
        Family::Ip => 1,
        Family::Ip6 => 4,
    }
}

/// Loads the fields one after the other, each padded to whole words, as a concatenated key is laid out.
fn load_all(family: Family, fields: &[Field], out: &mut Vec<nl::Expr>) {
    let mut word = 0;
    for field in fields {
        // The widest key, two IPv6 addresses, a protocol and a port, is ten of the sixteen words.
        let Some(register) = WORDS.get(word) else { return };
        out.push(load(family, *field, *register));
        word += match field {
            Field::Source | Field::Destination => address_words(family),
            Field::L4Proto | Field::DestinationPort => 1,
        };
    }
}

fn load(family: Family, field: Field, dreg: Register) -> nl::Expr {
    let network = |offset, len| nl::Expr::Payload { dreg, base: PayloadBase::Network, offset, len };
    match (field, family) {
        (Field::Source, Family::Ip) => network(12, 4),
        (Field::Destination, Family::Ip) => network(16, 4),
        (Field::Source, Family::Ip6) => network(8, 16),
        (Field::Destination, Family::Ip6) => network(24, 16),
        (Field::L4Proto, _) => nl::Expr::Meta { dreg, key: MetaKey::L4Proto },
        (Field::DestinationPort, _) => nl::Expr::Payload { dreg, base: PayloadBase::Transport, offset: 2, len: 2 },
    }
}

fn goto_random(chains: &[String], anonymous_map: u32, out: &mut Vec<nl::Expr>) -> nlink::Result<()> {
    if let [only] = chains {
        out.push(nl::Expr::Verdict(nl::Verdict::GotoTo(ChainName::new(only.as_str())?)));
        return Ok(());
    }
    let modulus = chains.len() as u32;
    out.push(nl::Expr::Numgen { dreg: R1, kind: NumgenKind::Random, modulus, offset: 0 });
    let lookup = Attrs::new().text(1, ANONYMOUS_MAP).number(2, R1 as u32).number(3, 0).number(4, anonymous_map);
    out.push(RawExpr::new("lookup", lookup.finish()).into());
    Ok(())
}

pub(super) fn lower_verdict(verdict: &Verdict) -> nlink::Result<nl::Verdict> {
    Ok(match verdict {
        Verdict::Accept => nl::Verdict::Accept,
        Verdict::Drop => nl::Verdict::Drop,
        Verdict::Return => nl::Verdict::Return,
        Verdict::Jump(chain) => nl::Verdict::JumpTo(ChainName::new(chain.as_str())?),
        Verdict::Goto(chain) => nl::Verdict::GotoTo(ChainName::new(chain.as_str())?),
    })
}

/// `ICMP_PORT_UNREACH`, `ICMPV6_PORT_UNREACH`.
fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::Ip => 3,
        Family::Ip6 => 4,
    }
}

fn dnat(address: IpAddr, port: u16, out: &mut Vec<nl::Expr>) {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (Family::Ip, v4.octets().to_vec()),
        IpAddr::V6(v6) => (Family::Ip6, v6.octets().to_vec()),
    };
    let port_word = address_words(family);
    out.push(nl::Expr::Immediate { dreg: WORDS[0], data: bytes });
    out.push(nl::Expr::Immediate { dreg: WORDS[port_word], data: port.to_be_bytes().to_vec() });
    out.push(dnat_expr(family, 0, port_word));
}

/// `dnat` to the address and the port in these words.
fn dnat_expr(family: Family, address_word: usize, port_word: usize) -> nl::Expr {
    const NAT_TYPE_DNAT: u32 = 1;
    let protocol: u32 = match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
    };
    let (address, port) = (WORDS[address_word] as u32, WORDS[port_word] as u32);
    let attrs = Attrs::new()
        .number(1, NAT_TYPE_DNAT)
        .number(2, protocol)
        .number(3, address)
        .number(4, address)
        .number(5, port)
        .number(6, port);
    RawExpr::new("nat", attrs.finish()).into()
}
