//! The words: tables, chains, rules, sets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ip,
    Ip6,
}

impl Family {
    /// The family an address belongs to.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ip,
            IpAddr::V6(_) => Family::Ip6,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub parts: Parts,
}

/// Chains, sets and elements: a whole table, or the share of one owner in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
    /// By set name and key. The set may be declared by other parts of the same table.
    pub elements: Elements,
}

/// Elements of sets and maps; the data is `None` for a plain set.
pub type Elements = BTreeMap<(String, Key), Option<Data>>;

/// The fields of one element's key, in the order of the set's types.
pub type Key = Vec<Value>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// `None` for a chain that only `jump` and `goto` enter.
    pub hook: Option<ChainHook>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHook {
    pub chain_type: ChainType,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    Filter,
    Nat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub exprs: Vec<Expr>,
    pub comment: Option<String>,
}

/// One match or statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// `iifname "x"`, or `!=`.
    InInterface {
        name: String,
        not: bool,
    },
    /// `oifname "x"`, or `!=`.
    OutInterface {
        name: String,
        not: bool,
    },
    /// `ip saddr x/y`, or `!=`.
    Source {
        net: IpNet,
        not: bool,
    },
    /// `ip daddr x/y`, or `!=`.
    Destination {
        net: IpNet,
        not: bool,
    },
    /// `meta l4proto x`.
    L4Proto(Proto),
    /// `th dport x`.
    DestinationPort(u16),
    /// `fib saddr type local`, or `!=`.
    SourceLocal {
        not: bool,
    },
    /// `fib daddr type local`, or `!=`.
    DestinationLocal {
        not: bool,
    },
    /// `ct state new`.
    CtNew,
    /// `ct state invalid`.
    CtInvalid,
    /// `ct status dnat`, or not.
    CtDnat {
        not: bool,
    },
    /// `meta mark & mask == value` (or `!=`).
    Mark {
        value: u32,
        mask: u32,
        not: bool,
    },
    /// `a . b @set`, or `!=`.
    InSet {
        fields: Vec<Field>,
        set: String,
        not: bool,
    },

    /// `meta mark set meta mark | bits`.
    MarkOr(u32),
    /// `meta mark set meta mark ^ bits`.
    MarkXor(u32),
    Counter,
    /// `update @set { field }`.
    Update {
        fields: Vec<Field>,
        set: String,
    },
    /// `a . b vmap @map`.
    VerdictMap {
        fields: Vec<Field>,
        map: String,
    },
    /// `numgen random mod N vmap { 0 : goto ..., }`: one of the chains, each as likely.
    GotoRandom(Vec<String>),
    Verdict(Verdict),
    /// `reject`: an ICMP port unreachable.
    Reject,
    /// `dnat to address:port`.
    Dnat {
        address: IpAddr,
        port: u16,
    },
    /// `dnat addr . port to a . b map @map`; the map's data is an address and a port.
    DnatMap {
        fields: Vec<Field>,
        map: String,
    },
    /// `masquerade fully-random`.
    Masquerade,
}

/// A field of the packet that is looked up in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Source,
    Destination,
    L4Proto,
    DestinationPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
}

impl Proto {
    /// The protocol number of IP.
    pub fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
        }
    }

    /// `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        }
    }

    /// Kubernetes' name (`TCP`) to the protocol.
    pub fn parse(name: &str) -> Option<Proto> {
        match name {
            "TCP" => Some(Proto::Tcp),
            "UDP" => Some(Proto::Udp),
            "SCTP" => Some(Proto::Sctp),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub key: Vec<Type>,
    pub data: SetData,
    /// Elements are put in by packets and leave after so many seconds.
    pub timeout_seconds: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetData {
    /// A plain set.
    None,
    /// A verdict map.
    Verdict,
    /// A map to values.
    Values(Vec<Type>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An address of the table's family.
    Address,
    Proto,
    Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Address(IpAddr),
    Proto(Proto),
    Port(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Verdict(Verdict),
    Values(Vec<Value>),
}

impl Table {
    pub fn new(family: Family, name: impl Into<String>) -> Table {
        Table { family, name: name.into(), parts: Parts::default() }
    }
}

impl Parts {
    /// Adds a chain that only `jump` and `goto` enter.
    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<Rule>) {
        self.chains.insert(name.into(), Chain { hook: None, rules });
    }

    /// Adds a chain at a hook.
    pub fn base_chain(&mut self, name: impl Into<String>, hook: ChainHook, rules: Vec<Rule>) {
        self.chains.insert(name.into(), Chain { hook: Some(hook), rules });
    }

    pub fn set(&mut self, name: impl Into<String>, set: Set) {
        self.sets.insert(name.into(), set);
    }

    pub fn element(&mut self, set: &str, key: Key, data: Option<Data>) {
        self.elements.insert((set.to_owned(), key), data);
    }

    /// Takes the other's chains, sets and elements too; the other wins where both have one of a name.
    pub fn extend(&mut self, other: Parts) {
        self.chains.extend(other.chains);
        self.sets.extend(other.sets);
        self.elements.extend(other.elements);
    }
}

impl ChainHook {
    pub fn nat(hook: Hook, priority: i32) -> ChainHook {
        ChainHook { chain_type: ChainType::Nat, hook, priority }
    }

    pub fn filter(hook: Hook, priority: i32) -> ChainHook {
        ChainHook { chain_type: ChainType::Filter, hook, priority }
    }
}

impl Rule {
    pub fn new(exprs: Vec<Expr>) -> Rule {
        Rule { exprs, comment: None }
    }

    /// Shown by `nft list`; at most 127 bytes, the rest is cut.
    pub fn comment(mut self, comment: &str) -> Rule {
        let end = (0..=COMMENT_BYTES_MAX.min(comment.len())).rev().find(|end| comment.is_char_boundary(*end));
        self.comment = end.map(|end| comment[..end].to_owned());
        self
    }
}

/// Source: `NFTNL_UDATA_COMMENT_MAXLEN` less its end.
const COMMENT_BYTES_MAX: usize = 127;

impl Set {
    pub fn plain(key: Vec<Type>) -> Set {
        Set { key, data: SetData::None, timeout_seconds: None }
    }

    pub fn verdicts(key: Vec<Type>) -> Set {
        Set { key, data: SetData::Verdict, timeout_seconds: None }
    }

    pub fn map(key: Vec<Type>, data: Vec<Type>) -> Set {
        Set { key, data: SetData::Values(data), timeout_seconds: None }
    }

    /// A set that packets fill with [`Expr::Update`].
    pub fn updated_by_packets(key: Vec<Type>, timeout_seconds: u32) -> Set {
        Set { key, data: SetData::None, timeout_seconds: Some(timeout_seconds) }
    }
}

impl Expr {
    pub fn jump(chain: impl Into<String>) -> Expr {
        Expr::Verdict(Verdict::Jump(chain.into()))
    }

    pub fn goto(chain: impl Into<String>) -> Expr {
        Expr::Verdict(Verdict::Goto(chain.into()))
    }

    pub fn accept() -> Expr {
        Expr::Verdict(Verdict::Accept)
    }

    pub fn drop() -> Expr {
        Expr::Verdict(Verdict::Drop)
    }

    pub fn r#return() -> Expr {
        Expr::Verdict(Verdict::Return)
    }
}
