//! A table as `nft -f` reads it.

use std::fmt::{self, Display, Formatter};

use crate::model::{ChainType, Data, Expr, Family, Field, Hook, Rule, Set, SetData, Table, Type, Value, Verdict};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        for (name, set) in &self.parts.sets {
            self.write_set(f, name, set)?;
        }
        for (name, chain) in &self.parts.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(hook) = chain.hook {
                writeln!(f, "\t\ttype {} hook {} priority {};", hook.chain_type, hook.hook, hook.priority)?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{}", RuleText { family: self.family, rule })?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Table {
    fn write_set(&self, f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
        let word = if set.data == SetData::None { "set" } else { "map" };
        let types = |types: &[Type]| join(types.iter().map(|t| type_name(self.family, *t)), " . ");
        let data = match &set.data {
            SetData::None => String::new(),
            SetData::Verdict => " : verdict".to_owned(),
            SetData::Values(values) => format!(" : {}", types(values)),
        };
        writeln!(f, "\t{word} {name} {{")?;
        writeln!(f, "\t\ttype {}{data};", types(&set.key))?;
        if let Some(seconds) = set.timeout_seconds {
            writeln!(f, "\t\tsize 65535;\n\t\tflags dynamic,timeout;\n\t\ttimeout {seconds}s;")?;
        }
        let elements: Vec<String> = self
            .parts
            .elements
            .iter()
            .filter(|((of, _), _)| of == name)
            .map(|((_, key), data)| element_text(key, data.as_ref()))
            .collect();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{\n\t\t\t{}\n\t\t}};", elements.join(",\n\t\t\t"))?;
        }
        writeln!(f, "\t}}")
    }
}

fn element_text(key: &[Value], data: Option<&Data>) -> String {
    let key = join(key, " . ");
    match data {
        None => key,
        Some(Data::Verdict(verdict)) => format!("{key} : {verdict}"),
        Some(Data::Values(values)) => format!("{key} : {}", join(values, " . ")),
    }
}

fn join<T: Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(separator)
}

fn type_name(family: Family, of: Type) -> &'static str {
    match (of, family) {
        (Type::Address, Family::Ip) => "ipv4_addr",
        (Type::Address, Family::Ip6) => "ipv6_addr",
        (Type::Proto, _) => "inet_proto",
        (Type::Port, _) => "inet_service",
    }
}

struct RuleText<'a> {
    family: Family,
    rule: &'a Rule,
}

impl Display for RuleText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let exprs = join(self.rule.exprs.iter().map(|expr| expr_text(self.family, expr)), " ");
        f.write_str(&exprs)?;
        match &self.rule.comment {
            Some(comment) => write!(f, " comment \"{}\"", comment.replace('"', "'")),
            None => Ok(()),
        }
    }
}

fn expr_text(family: Family, expr: &Expr) -> String {
    let fields = |fields: &[Field]| join(fields.iter().map(|field| field_text(family, *field)), " . ");
    match expr {
        Expr::InInterface { name, not } => format!("iifname {}\"{name}\"", ne(*not)),
        Expr::OutInterface { name, not } => format!("oifname {}\"{name}\"", ne(*not)),
        Expr::Source { net, not } => format!("{family} saddr {}{net}", ne(*not)),
        Expr::Destination { net, not } => format!("{family} daddr {}{net}", ne(*not)),
        Expr::L4Proto(proto) => format!("meta l4proto {}", proto.name()),
        Expr::DestinationPort(port) => format!("th dport {port}"),
        Expr::SourceLocal { not } => format!("fib saddr type {}local", ne(*not)),
        Expr::DestinationLocal { not } => format!("fib daddr type {}local", ne(*not)),
        Expr::CtNew => "ct state new".to_owned(),
        Expr::CtInvalid => "ct state invalid".to_owned(),
        Expr::CtDnat { not: false } => "ct status dnat".to_owned(),
        Expr::CtDnat { not: true } => "ct status & dnat == 0".to_owned(),
        Expr::Mark { value, mask, not } => {
            format!("meta mark & {mask:#x} {} {value:#x}", if *not { "!=" } else { "==" })
        }
        Expr::InSet { fields: of, set, not } => format!("{} {}@{set}", fields(of), ne(*not)),
        Expr::MarkOr(bits) => format!("meta mark set meta mark or {bits:#x}"),
        Expr::MarkXor(bits) => format!("meta mark set meta mark xor {bits:#x}"),
        Expr::Counter => "counter".to_owned(),
        Expr::Update { fields: of, set } => format!("update @{set} {{ {} }}", fields(of)),
        Expr::VerdictMap { fields: of, map } => format!("{} vmap @{map}", fields(of)),
        Expr::GotoRandom(chains) => {
            let targets = join(chains.iter().enumerate().map(|(i, chain)| format!("{i} : goto {chain}")), ", ");
            format!("numgen random mod {} vmap {{ {targets} }}", chains.len())
        }
        Expr::Verdict(verdict) => verdict.to_string(),
        Expr::Reject => "reject".to_owned(),
        Expr::Dnat { address: std::net::IpAddr::V4(v4), port } => format!("dnat to {v4}:{port}"),
        Expr::Dnat { address: std::net::IpAddr::V6(v6), port } => format!("dnat to [{v6}]:{port}"),
        Expr::DnatMap { fields: of, map } => format!("dnat {family} addr . port to {} map @{map}", fields(of)),
        Expr::Masquerade => "masquerade fully-random".to_owned(),
    }
}

fn ne(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}

fn field_text(family: Family, field: Field) -> String {
    match field {
        Field::Source => format!("{family} saddr"),
        Field::Destination => format!("{family} daddr"),
        Field::L4Proto => "meta l4proto".to_owned(),
        Field::DestinationPort => "th dport".to_owned(),
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

impl Display for ChainType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        })
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Address(address) => write!(f, "{address}"),
            Value::Proto(proto) => f.write_str(proto.name()),
            Value::Port(port) => write!(f, "{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainHook, Proto};
    use expect_test::expect;

    #[test]
    fn a_table_reads_like_nft() {
        let mut table = Table::new(Family::Ip, "demo");
        table.parts.set("services", Set::verdicts(vec![Type::Address, Type::Proto, Type::Port]));
        let key = vec![Value::Address([10, 96, 0, 1].into()), Value::Proto(Proto::Tcp), Value::Port(443)];
        table.parts.element("services", key, Some(Data::Verdict(Verdict::Goto("s".into()))));
        let fields = vec![Field::Destination, Field::L4Proto, Field::DestinationPort];
        table.parts.base_chain(
            "pre",
            ChainHook::nat(Hook::Prerouting, -100),
            vec![Rule::new(vec![Expr::VerdictMap { fields, map: "services".into() }])],
        );
        table.parts.chain("s", vec![Rule::new(vec![Expr::Masquerade]).comment("why")]);
        expect![[r#"
            table ip demo {
            	map services {
            		type ipv4_addr . inet_proto . inet_service : verdict;
            		elements = {
            			10.96.0.1 . tcp . 443 : goto s
            		};
            	}
            	chain pre {
            		type nat hook prerouting priority -100;
            		ip daddr . meta l4proto . th dport vmap @services
            	}
            	chain s {
            		masquerade fully-random comment "why"
            	}
            }
        "#]]
        .assert_eq(&table.to_string());
    }
}
