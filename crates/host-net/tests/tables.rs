//! Tables given to the kernel, and what `nft` reads back.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use coracle_host_net::lab::Namespace;
use coracle_host_net::{HostNet, Kernel};
use coracle_nft::{
    ChainHook, Change, Data, Expr, Family, Field, Hook, Parts, Proto, Rule, Set, Table, Type, Value, Verdict,
};
use ipnet::IpNet;

const NAME: &str = "coracle-test";

fn apply(namespace: &Namespace, family: Family, changes: Vec<Change>) -> Result<(), String> {
    namespace.block_on(async move || {
        let kernel = Kernel::new().expect("netlink");
        kernel.apply(family, NAME, &changes).await.map_err(|error| error.chain())
    })
}

fn list(namespace: &Namespace) -> String {
    namespace.run(|| {
        let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a CIDR")
}

fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Family::Ip => IpAddr::from([10, 0, 0, last]),
        Family::Ip6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
    }
}

/// Every expression once.
fn everything(family: Family) -> Parts {
    let nets = match family {
        Family::Ip => [net("10.0.0.0/8"), net("10.0.0.1/32")],
        Family::Ip6 => [net("fd00::/16"), net("fd00::1/128")],
    };
    let all = || vec![Field::Destination, Field::L4Proto, Field::DestinationPort];
    let both = || vec![Field::Source, Field::Destination];
    let key = |last, port| vec![Value::Address(address(family, last)), Value::Proto(Proto::Tcp), Value::Port(port)];
    let mut parts = Parts::default();
    parts.set("verdicts", Set::verdicts(vec![Type::Address, Type::Proto, Type::Port]));
    parts.element("verdicts", key(1, 80), Some(Data::Verdict(Verdict::Goto("a".into()))));
    parts.element("verdicts", key(1, 81), Some(Data::Verdict(Verdict::Drop)));
    parts.set("targets", Set::map(vec![Type::Address, Type::Proto, Type::Port], vec![Type::Address, Type::Port]));
    let target = Data::Values(vec![Value::Address(address(family, 9)), Value::Port(8080)]);
    parts.element("targets", key(2, 80), Some(target));
    parts.set("pairs", Set::plain(vec![Type::Address, Type::Address]));
    parts.element("pairs", vec![Value::Address(address(family, 1)), Value::Address(address(family, 2))], None);
    parts.set("clients", Set::updated_by_packets(vec![Type::Address], 60));
    let one = |expr: Expr| Rule::new(vec![expr, Expr::Counter]);
    let matches = vec![
        one(Expr::InInterface { name: "eth0".into(), not: false }),
        one(Expr::OutInterface { name: "eth0".into(), not: true }),
        one(Expr::Source { net: nets[0], not: false }),
        one(Expr::Destination { net: nets[1], not: true }),
        one(Expr::L4Proto(Proto::Udp)),
        Rule::new(vec![Expr::L4Proto(Proto::Tcp), Expr::DestinationPort(80), Expr::accept()]),
        one(Expr::SourceLocal { not: false }),
        one(Expr::DestinationLocal { not: true }),
        one(Expr::CtNew),
        one(Expr::CtInvalid),
        one(Expr::CtDnat { not: false }),
        one(Expr::CtDnat { not: true }),
        one(Expr::Mark { value: 0x4000, mask: 0x4000, not: false }),
        one(Expr::InSet { fields: both(), set: "pairs".into(), not: false }),
        one(Expr::InSet { fields: both(), set: "pairs".into(), not: true }),
        Rule::new(vec![Expr::MarkOr(0x4000)]).comment("why"),
        Rule::new(vec![Expr::MarkXor(0x4000)]),
        Rule::new(vec![Expr::Reject]),
        Rule::new(vec![Expr::r#return()]),
    ];
    parts.base_chain("at-filter", ChainHook::filter(Hook::Input, -10), matches);
    let (to, port) = (address(family, 7), 8080);
    let nat = vec![
        Rule::new(vec![Expr::VerdictMap { fields: all(), map: "verdicts".into() }]),
        Rule::new(vec![Expr::DnatMap { fields: all(), map: "targets".into() }]),
        Rule::new(vec![Expr::GotoRandom(vec!["a".into(), "b".into(), "a".into()])]),
        Rule::new(vec![Expr::GotoRandom(vec!["b".into()])]),
    ];
    parts.base_chain("at-nat", ChainHook::nat(Hook::Prerouting, -100), nat);
    parts.base_chain("at-post", ChainHook::nat(Hook::Postrouting, 100), vec![Rule::new(vec![Expr::Masquerade])]);
    let update = Expr::Update { fields: vec![Field::Source], set: "clients".into() };
    let dnat = Rule::new(vec![Expr::L4Proto(Proto::Tcp), Expr::Dnat { address: to, port }]);
    parts.chain("a", vec![Rule::new(vec![update]), dnat]);
    parts.chain("b", vec![Rule::new(vec![Expr::jump("a")])]);
    parts
}

/// What we make is what `nft` makes of the same table's text.
fn check(family: Family) {
    let namespace = Namespace::new();
    let wanted = everything(family);
    let mut changes = vec![Change::ReplaceTable];
    changes.extend(wanted.changes_from_empty());
    apply(&namespace, family, changes.clone()).expect("applied");
    let ours = list(&namespace);
    assert!(ours.contains("numgen random mod 3 vmap { 0 : goto a, 1 : goto b, 2 : goto a }"), "{ours}");
    apply(&namespace, family, changes).expect("replaced");
    apply(&namespace, family, wanted.changes_to(&Parts::default())).expect("taken apart");
    assert_eq!(list(&namespace), format!("table {family} {NAME} {{\n}}\n"));
    apply(&namespace, family, vec![Change::DeleteTable]).expect("deleted");
    apply(&namespace, family, vec![Change::DeleteTable]).expect("deleted again");
    assert_eq!(list(&namespace), "");
    let text = Table { family, name: NAME.to_owned(), parts: wanted }.to_string();
    namespace.run(move || {
        let output = Command::new("nft").arg(text).output().expect("nft");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    // It only writes one way out as a choice of one.
    assert_eq!(list(&namespace).replace("numgen random mod 1 vmap { 0 : goto b }", "goto b"), ours);
}

#[test]
fn every_expression_of_ipv4() {
    check(Family::Ip);
}

#[test]
fn every_expression_of_ipv6() {
    check(Family::Ip6);
}

/// More than one netlink attribute can hold.
#[test]
fn a_service_may_have_thousands_of_endpoints() {
    let namespace = Namespace::new();
    let name = |i: usize| format!("endpoint-{i:0>100}");
    let with = |count: usize| {
        let mut parts = Parts::default();
        (0..count).for_each(|i| parts.chain(name(i), Vec::new()));
        parts.chain("service", vec![Rule::new(vec![Expr::GotoRandom((0..count).map(name).collect())])]);
        parts.set("ports", Set::verdicts(vec![Type::Port]));
        for i in 0..count {
            let port = Value::Port(u16::try_from(i).expect("few"));
            parts.element("ports", vec![port], Some(Data::Verdict(Verdict::Goto(name(i)))));
        }
        parts
    };
    let (many, more) = (with(3000), with(3001));
    let mut changes = vec![Change::ReplaceTable];
    changes.extend(many.changes_from_empty());
    apply(&namespace, Family::Ip, changes).expect("applied");
    apply(&namespace, Family::Ip, many.changes_to(&more)).expect("one more");
    apply(&namespace, Family::Ip, more.changes_to(&many)).expect("one less");
    let text = list(&namespace);
    assert_eq!(text.matches("numgen random mod 3000").count(), 1);
    assert!(text.contains("2999 : goto endpoint-") && !text.contains("3000 : goto"));
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    let namespace = Namespace::new();
    apply(&namespace, Family::Ip, vec![Change::ReplaceTable]).expect("applied");
    let before = list(&namespace);
    let chain = Change::AddChain { name: "a".to_owned(), hook: None };
    let rule = Change::AddRule { chain: "a".to_owned(), rule: Rule::new(vec![Expr::jump("missing")]) };
    let error = apply(&namespace, Family::Ip, vec![chain, rule]).expect_err("there is no chain of the name");
    assert!(error.starts_with("change nftables table ip coracle-test: "), "{error}");
    assert_eq!(list(&namespace), before);
}

/// The sockets of one host serve many callers.
#[test]
fn transactions_at_the_same_time_do_not_mix() {
    let namespace = Namespace::new();
    namespace.block_on(async || {
        let kernel = Arc::new(Kernel::new().expect("netlink"));
        let tasks: Vec<_> = (0..16)
            .map(|i| {
                let kernel = kernel.clone();
                tokio::spawn(async move {
                    let table = format!("coracle-{i}");
                    for _ in 0..5 {
                        kernel.apply(Family::Ip, &table, &[Change::ReplaceTable]).await.expect("applied");
                        assert!(kernel.has_table(Family::Ip, &table).await.expect("listed"));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    assert_eq!(list(&namespace).matches("table ip coracle-").count(), 16);
}
