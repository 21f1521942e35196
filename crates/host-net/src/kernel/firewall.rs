//! Other programs' firewalls: pods must pass what they drop by default.
//!
//! A verdict `accept` ends only the chain it is in, so a table of our own cannot let anything pass that another drops.
//! So the rules go to the head of those chains, marked by a comment that says whose they are.

use nlink::netlink::nftables::{ChainInfo, ChainType, Family, NFT_MSG_NEWRULE, RawMessage, RuleInfo};
use nlink::netlink::{Connection, Nftables};

use super::wire::{self, Attrs};
use crate::Result;
use crate::error::Context;

/// Tables of ours; other tables are looked through.
const OWN_PREFIX: &str = "coracle";
/// `NF_DROP`.
const POLICY_DROP: u32 = 0;
/// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`.
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const NLM_F_CREATE: u16 = 0x400;
const INTERFACE_NAME_BYTES: usize = 16;
/// The comment's type in libnftnl's user data of a rule.
const USERDATA_COMMENT: u8 = 0;

/// Which end of the packet's way the interface is.
#[derive(Clone, Copy)]
enum Side {
    In,
    Out,
}

impl Side {
    fn comment(self, interface: &str) -> String {
        match self {
            Side::In => format!("coracle: from {interface}"),
            Side::Out => format!("coracle: to {interface}"),
        }
    }

    /// `NFT_META_IIFNAME`, `NFT_META_OIFNAME`.
    fn meta_key(self) -> u32 {
        match self {
            Side::In => 6,
            Side::Out => 7,
        }
    }
}

/// Lets traffic of the interface pass; returns how many rules that took.
pub(super) async fn admit(connection: &Connection<Nftables>, interface: &str) -> Result<usize> {
    let mut missing = Vec::new();
    for (family, table) in foreign_tables(connection).await? {
        let chains = connection.list_chains_in(table.as_str(), family).await.context(|| list(&table))?;
        let chains: Vec<ChainInfo> = chains.into_iter().filter(drops).collect();
        if chains.is_empty() {
            continue;
        }
        let rules = connection.list_rules(&table, family).await.context(|| list(&table))?;
        for chain in chains {
            let sides: &[Side] = if chain.hook == Some(HOOK_FORWARD) { &[Side::Out, Side::In] } else { &[Side::In] };
            for side in sides {
                let comment = side.comment(interface);
                if !rules.iter().any(|rule| rule.chain == chain.name && is_ours(rule, &comment)) {
                    missing.push((family, table.clone(), chain.name.clone(), *side));
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let transaction = missing.iter().fold(connection.transaction(), |transaction, (family, table, chain, side)| {
        transaction.raw(accept(*family, table, chain, interface, *side))
    });
    transaction.commit(connection).await.context(|| format!("let {interface} through the host's firewall"))?;
    Ok(missing.len())
}

/// Takes back what [`admit`] did; returns how many rules there were.
pub(super) async fn withdraw(connection: &Connection<Nftables>, interface: &str) -> Result<usize> {
    let comments = [Side::In.comment(interface), Side::Out.comment(interface)];
    let mut transaction = connection.transaction();
    let mut count = 0;
    for (family, table) in foreign_tables(connection).await? {
        for rule in connection.list_rules(&table, family).await.context(|| list(&table))? {
            if comments.iter().any(|comment| is_ours(&rule, comment)) {
                transaction = transaction.del_rule(&table, &rule.chain, family, rule.handle);
                count += 1;
            }
        }
    }
    if count > 0 {
        transaction.commit(connection).await.context(|| format!("take {interface} out of the host's firewall"))?;
    }
    Ok(count)
}

fn list(table: &str) -> String {
    format!("list nftables table {table}")
}

async fn foreign_tables(connection: &Connection<Nftables>) -> Result<Vec<(Family, String)>> {
    let mut found = Vec::new();
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        let tables = connection.list_tables_in(family).await.context(|| "list nftables tables".to_owned())?;
        let foreign = tables.into_iter().filter(|table| !table.name.starts_with(OWN_PREFIX));
        found.extend(foreign.map(|table| (family, table.name)));
    }
    Ok(found)
}

/// Whether the chain drops or refuses what no rule of it knows. firewalld does so by its last rule.
fn drops(chain: &ChainInfo) -> bool {
    let hooked = matches!(chain.hook, Some(HOOK_INPUT | HOOK_FORWARD)) && chain.chain_type == Some(ChainType::Filter);
    hooked && (chain.policy == Some(POLICY_DROP) || chain.table == "firewalld")
}

fn is_ours(rule: &RuleInfo, comment: &str) -> bool {
    rule.comment_text.as_deref() == Some(comment)
}

/// A rule at the head of the chain: without `NLM_F_APPEND` the kernel puts it there. The library can only append.
fn accept(family: Family, table: &str, chain: &str, interface: &str, side: Side) -> RawMessage {
    const REGISTER_1: u32 = 1;
    const REGISTER_VERDICT: u32 = 0;
    const EQUAL: u32 = 0;
    let mut name = interface.as_bytes().to_vec();
    name.resize(INTERFACE_NAME_BYTES, 0);
    let expr = |list: Attrs, name: &str, data: Attrs| list.nest(1, Attrs::new().text(1, name).nest(2, data));
    let meta = Attrs::new().number(1, REGISTER_1).number(2, side.meta_key());
    let cmp = Attrs::new().number(1, REGISTER_1).number(2, EQUAL).nest(3, Attrs::new().bytes(1, &name));
    let verdict = wire::verdict(&coracle_nft::Verdict::Accept);
    let immediate = Attrs::new().number(1, REGISTER_VERDICT).nest(2, verdict);
    let exprs = expr(expr(expr(Attrs::new(), "meta", meta), "cmp", cmp), "immediate", immediate);
    let mut comment = side.comment(interface).into_bytes();
    comment.push(0);
    let mut userdata = vec![USERDATA_COMMENT, u8::try_from(comment.len()).unwrap_or(0)];
    userdata.extend(comment);
    let attrs = Attrs::new().text(1, table).text(2, chain).nest(4, exprs).bytes(7, &userdata);
    RawMessage::new(NFT_MSG_NEWRULE, family).flags(NLM_F_CREATE).attrs(attrs.finish())
}
