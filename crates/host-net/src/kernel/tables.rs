//! Transactions on nftables.

use std::time::Duration;

use coracle_nft::{ChainHook, ChainType, Change, Data, Expr, Family, Hook, Key, Rule, Set, SetData, Type, Value};
use nlink::netlink::nftables::{
    self as nl, BaseChain, Chain, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, Priority, RawMessage,
    SetDataType, SetElement, SetKeyType, Transaction,
};
use nlink::netlink::{Connection, Nftables};

use super::expr::{self, ANONYMOUS_MAP};
use super::wire::{self, Attrs};
use crate::Result;
use crate::error::Context;

/// Elements in one message: their nest must stay below 64 KiB, and an element with the name of a chain takes up to 200.
const ELEMENTS_PER_MESSAGE_MAX: usize = 250;
/// Elements a set that packets fill may have.
const DYNAMIC_SET_SIZE_MAX: u32 = 65_535;
/// The transaction's ids for our maps start above those the library gives to sets.
const ANONYMOUS_MAP_ID_MIN: u32 = 1 << 24;
const NLM_F_CREATE: u16 = 0x400;

pub(super) async fn apply(
    connection: &Connection<Nftables>,
    family: Family,
    table: &str,
    changes: &[Change],
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let what = || format!("change nftables table {family} {table}");
    let mut builder = Builder { family, table, maps: ANONYMOUS_MAP_ID_MIN, transaction: connection.transaction() };
    for change in changes {
        builder = builder.add(change).context(what)?;
    }
    builder.transaction.commit(connection).await.context(what)
}

pub(super) async fn names(connection: &Connection<Nftables>, family: Family) -> Result<Vec<String>> {
    let tables = connection
        .list_tables_in(nl_family(family))
        .await
        .context(|| format!("list nftables tables of family {family}"))?;
    Ok(tables.into_iter().map(|table| table.name).collect())
}

struct Builder<'a> {
    family: Family,
    table: &'a str,
    /// The id of the next anonymous map.
    maps: u32,
    transaction: Transaction,
}

impl Builder<'_> {
    fn add(self, change: &Change) -> nlink::Result<Self> {
        match change {
            Change::AddRule { chain, rule } => self.add_rule(chain, rule),
            Change::AddElements { set, elements } => self.add_elements(set, elements),
            Change::DeleteElements { set, keys } => Ok(self.delete_elements(set, keys)),
            _ => self.add_or_delete_object(change),
        }
    }

    fn add_or_delete_object(self, change: &Change) -> nlink::Result<Self> {
        let (table, family) = (self.table, nl_family(self.family));
        let done = match change {
            Change::ReplaceTable => {
                ensure_table(self.transaction, table, family).del_table(table, family).add_table(table, family)
            }
            Change::DeleteTable => ensure_table(self.transaction, table, family).del_table(table, family),
            Change::AddSet { name, set } => self.transaction.add_set(declare(family, table, name, set)),
            Change::AddChain { name, hook } => self.transaction.add_chain(chain(family, table, name, *hook)?),
            Change::FlushChain(name) => self.transaction.flush_chain(table, name, family),
            Change::DeleteChain(name) => self.transaction.del_chain(table, name, family),
            Change::DeleteSet(name) => self.transaction.del_set(table, name, family),
            Change::AddRule { .. } | Change::AddElements { .. } | Change::DeleteElements { .. } => self.transaction,
        };
        Ok(Builder { transaction: done, ..self })
    }

    fn add_rule(mut self, chain: &str, rule: &Rule) -> nlink::Result<Self> {
        for expr in &rule.exprs {
            if let Expr::GotoRandom(chains) = expr
                && chains.len() > 1
            {
                self.maps += 1;
                self.transaction = add_anonymous_map(self.transaction, self.family, self.table, self.maps, chains);
            }
        }
        let exprs = expr::lower(self.family, &rule.exprs, self.maps)?;
        let mut lowered = nl::Rule::new(self.table, chain).family(nl_family(self.family)).expressions(exprs);
        if let Some(comment) = &rule.comment {
            lowered = lowered.comment(comment);
        }
        self.transaction = self.transaction.add_rule(lowered);
        Ok(self)
    }

    fn add_elements(mut self, set: &str, elements: &[(Key, Option<Data>)]) -> nlink::Result<Self> {
        let Some((first_key, first_data)) = elements.first() else { return Ok(self) };
        let declaration = reference(nl_family(self.family), self.table, set, first_key, first_data.as_ref());
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE_MAX) {
            let mut lowered = Vec::with_capacity(chunk.len());
            for (key, data) in chunk {
                lowered.push(element(key, data.as_ref())?);
            }
            self.transaction = self.transaction.add_set_elements(&declaration, &lowered);
        }
        Ok(self)
    }

    fn delete_elements(self, set: &str, keys: &[Key]) -> Self {
        let Some(first) = keys.first() else { return self };
        let declaration = reference(nl_family(self.family), self.table, set, first, None);
        let done = keys.chunks(ELEMENTS_PER_MESSAGE_MAX).fold(self.transaction, |transaction, chunk| {
            let lowered: Vec<SetElement> = chunk.iter().map(|key| concat(key)).collect();
            transaction.del_set_elements(&declaration, &lowered)
        });
        Builder { transaction: done, ..self }
    }
}

/// Makes the table unless it is there, so that removing it succeeds in any case.
fn ensure_table(transaction: Transaction, table: &str, family: nl::Family) -> Transaction {
    let attrs = Attrs::new().text(1, table).finish();
    transaction.raw(RawMessage::new(NFT_MSG_NEWTABLE, family).flags(NLM_F_CREATE).attrs(attrs))
}

fn nl_family(family: Family) -> nl::Family {
    match family {
        Family::Ip => nl::Family::Ip,
        Family::Ip6 => nl::Family::Ip6,
    }
}

fn chain(family: nl::Family, table: &str, name: &str, hook: Option<ChainHook>) -> nlink::Result<Chain> {
    let chain = Chain::new(table, name)?.family(family);
    let Some(hook) = hook else { return Ok(chain) };
    let kind = match hook.chain_type {
        ChainType::Filter => nl::ChainType::Filter,
        ChainType::Nat => nl::ChainType::Nat,
    };
    let at = match hook.hook {
        Hook::Prerouting => nl::Hook::Prerouting,
        Hook::Input => nl::Hook::Input,
        Hook::Forward => nl::Hook::Forward,
        Hook::Output => nl::Hook::Output,
        Hook::Postrouting => nl::Hook::Postrouting,
    };
    let no_devices: [&str; 0] = [];
    Ok(chain.base(BaseChain::try_new(kind, at, Priority::Custom(hook.priority), no_devices)?))
}

fn declare(family: nl::Family, table: &str, name: &str, set: &Set) -> nl::Set {
    let types: Vec<SetKeyType> = set.key.iter().map(|of| key_type(family, *of)).collect();
    let declared = nl::Set::new(table, name).family(family).key_type(concat_type(types));
    let declared = match &set.data {
        SetData::None => declared,
        SetData::Verdict => declared.vmap(),
        SetData::Values(values) => {
            let types = values.iter().map(|of| key_type(family, *of)).collect();
            declared.map(SetDataType::Value(concat_type(types)))
        }
    };
    match set.timeout_seconds {
        Some(seconds) => declared.dynamic().timeout(Duration::from_secs(seconds.into())).size(DYNAMIC_SET_SIZE_MAX),
        None => declared,
    }
}

/// Enough of a set's declaration to name elements of it: the library checks elements against it.
fn reference(family: nl::Family, table: &str, name: &str, key: &Key, data: Option<&Data>) -> nl::Set {
    let named = nl::Set::new(table, name).family(family).key_type(concat_type(key.iter().map(value_type).collect()));
    match data {
        None => named,
        Some(Data::Verdict(_)) => named.vmap(),
        Some(Data::Values(values)) => {
            named.map(SetDataType::Value(concat_type(values.iter().map(value_type).collect())))
        }
    }
}

fn concat_type(mut types: Vec<SetKeyType>) -> SetKeyType {
    if types.len() == 1 { types.remove(0) } else { SetKeyType::Concat(types) }
}

fn key_type(family: nl::Family, of: Type) -> SetKeyType {
    match of {
        Type::Address if family == nl::Family::Ip6 => SetKeyType::Ipv6Addr,
        Type::Address => SetKeyType::Ipv4Addr,
        Type::Proto => SetKeyType::InetProto,
        Type::Port => SetKeyType::InetService,
    }
}

fn value_type(value: &Value) -> SetKeyType {
    match value {
        Value::Address(address) if address.is_ipv6() => SetKeyType::Ipv6Addr,
        Value::Address(_) => SetKeyType::Ipv4Addr,
        Value::Proto(_) => SetKeyType::InetProto,
        Value::Port(_) => SetKeyType::InetService,
    }
}

fn element(key: &Key, data: Option<&Data>) -> nlink::Result<SetElement> {
    let element = concat(key);
    Ok(match data {
        None => element,
        Some(Data::Verdict(verdict)) => element.verdict(expr::lower_verdict(verdict)?),
        Some(Data::Values(values)) => element.value(concat(values)),
    })
}

fn concat(values: &[Value]) -> SetElement {
    let mut parts: Vec<SetElement> = values.iter().map(value).collect();
    if parts.len() == 1 { parts.remove(0) } else { SetElement::concat(parts) }
}

fn value(value: &Value) -> SetElement {
    match value {
        Value::Address(std::net::IpAddr::V4(v4)) => SetElement::ipv4(*v4),
        Value::Address(std::net::IpAddr::V6(v6)) => SetElement::ipv6(*v6),
        Value::Proto(proto) => SetElement::inet_proto(proto.number()),
        Value::Port(port) => SetElement::port(*port),
    }
}

/// The map from 0, 1, ... to the chains that the next rule's random number is looked up in. The library has no
/// anonymous maps; it lives and dies with the rule.
fn add_anonymous_map(transaction: Transaction, family: Family, table: &str, id: u32, chains: &[String]) -> Transaction {
    const ANONYMOUS_CONSTANT_MAP: u32 = 0x1 | 0x2 | 0x8;
    const TYPE_INTEGER: u32 = 4;
    const DATA_VERDICT: u32 = 0xffff_ff00;
    let host_order: [u8; 6] = {
        // libnftnl's KEYBYTEORDER: the numbers are in the order of this machine, for `nft list` to print them right.
        let [a, b, c, d] = 1u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
    let declaration = Attrs::new()
        .text(1, table)
        .text(2, ANONYMOUS_MAP)
        .number(3, ANONYMOUS_CONSTANT_MAP)
        .number(4, TYPE_INTEGER)
        .number(5, 4)
        .number(6, DATA_VERDICT)
        .number(7, 0)
        .nest(9, Attrs::new().number(1, chains.len() as u32))
        .number(10, id)
        .bytes(13, &host_order);
    let family = nl_family(family);
    let declared =
        transaction.raw(RawMessage::new(NFT_MSG_NEWSET, family).flags(NLM_F_CREATE).attrs(declaration.finish()));
    let numbered: Vec<(usize, &String)> = chains.iter().enumerate().collect();
    numbered.chunks(ELEMENTS_PER_MESSAGE_MAX).fold(declared, |transaction, chunk| {
        let elements = chunk.iter().fold(Attrs::new(), |list, (number, chain)| {
            let key = Attrs::new().bytes(1, &(*number as u32).to_ne_bytes());
            let data = wire::verdict(&coracle_nft::Verdict::Goto((*chain).clone()));
            list.nest(1, Attrs::new().nest(1, key).nest(2, data))
        });
        let attrs = Attrs::new().text(1, table).text(2, ANONYMOUS_MAP).nest(3, elements).number(4, id);
        transaction.raw(RawMessage::new(NFT_MSG_NEWSETELEM, family).flags(NLM_F_CREATE).attrs(attrs.finish()))
    })
}
