//! What has to be done to get from one state of a table to another.

use crate::model::{Chain, ChainHook, Data, Elements, Key, Parts, Rule, Set};

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Empties the table, making it if it is not there.
    ReplaceTable,
    /// Removes the table if it is there.
    DeleteTable,
    AddSet {
        name: String,
        set: Set,
    },
    AddChain {
        name: String,
        hook: Option<ChainHook>,
    },
    FlushChain(String),
    AddRule {
        chain: String,
        rule: Rule,
    },
    DeleteElements {
        set: String,
        keys: Vec<Key>,
    },
    AddElements {
        set: String,
        elements: Vec<(Key, Option<Data>)>,
    },
    DeleteChain(String),
    DeleteSet(String),
}

impl Parts {
    /// The steps that make these parts from an empty table.
    pub fn changes_from_empty(&self) -> Vec<Change> {
        Parts::default().changes_to(self)
    }

    /// The steps from this state to `new`, in an order that one transaction accepts: what is referred to comes before
    /// what refers to it, and goes after it.
    pub fn changes_to(&self, new: &Parts) -> Vec<Change> {
        let mut changes = Vec::new();
        add_sets(self, new, &mut changes);
        add_chains(self, new, &mut changes);
        refill_chains(self, new, &mut changes);
        change_elements(&self.elements, &new.elements, &mut changes);
        delete_chains(self, new, &mut changes);
        delete_sets(self, new, &mut changes);
        changes
    }
}

/// A chain at another hook is another chain: the kernel does not move one.
fn same_chain(old: Option<&Chain>, new: &Chain) -> bool {
    old.is_some_and(|old| old.hook == new.hook)
}

fn add_sets(old: &Parts, new: &Parts, changes: &mut Vec<Change>) {
    for (name, set) in &new.sets {
        if !old.sets.contains_key(name) {
            changes.push(Change::AddSet { name: name.clone(), set: set.clone() });
        }
    }
}

fn add_chains(old: &Parts, new: &Parts, changes: &mut Vec<Change>) {
    for (name, chain) in &new.chains {
        if same_chain(old.chains.get(name), chain) {
            continue;
        }
        if old.chains.contains_key(name) {
            changes.push(Change::FlushChain(name.clone()));
            changes.push(Change::DeleteChain(name.clone()));
        }
        changes.push(Change::AddChain { name: name.clone(), hook: chain.hook });
    }
}

fn refill_chains(old: &Parts, new: &Parts, changes: &mut Vec<Change>) {
    for (name, chain) in &new.chains {
        let before = old.chains.get(name).filter(|before| before.hook == chain.hook);
        if before.is_some_and(|before| before.rules == chain.rules) {
            continue;
        }
        if before.is_some_and(|before| !before.rules.is_empty()) {
            changes.push(Change::FlushChain(name.clone()));
        }
        for rule in &chain.rules {
            changes.push(Change::AddRule { chain: name.clone(), rule: rule.clone() });
        }
    }
}

fn change_elements(old: &Elements, new: &Elements, changes: &mut Vec<Change>) {
    let mut gone: Vec<(&String, Key)> = Vec::new();
    for ((set, key), data) in old {
        if new.get(&(set.clone(), key.clone())) != Some(data) {
            gone.push((set, key.clone()));
        }
    }
    for (set, keys) in by_set(gone) {
        changes.push(Change::DeleteElements { set, keys });
    }
    let mut come: Vec<(&String, (Key, Option<Data>))> = Vec::new();
    for ((set, key), data) in new {
        if old.get(&(set.clone(), key.clone())) != Some(data) {
            come.push((set, (key.clone(), data.clone())));
        }
    }
    for (set, elements) in by_set(come) {
        changes.push(Change::AddElements { set, elements });
    }
}

/// Groups neighbours of the same set; the input is ordered by set.
fn by_set<T>(items: Vec<(&String, T)>) -> Vec<(String, Vec<T>)> {
    let mut groups: Vec<(String, Vec<T>)> = Vec::new();
    for (set, item) in items {
        match groups.last_mut() {
            Some((last, group)) if last == set => group.push(item),
            _ => groups.push((set.clone(), vec![item])),
        }
    }
    groups
}

/// All are emptied before the first is removed, because they may refer to each other.
fn delete_chains(old: &Parts, new: &Parts, changes: &mut Vec<Change>) {
    let gone: Vec<&String> = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
    for name in &gone {
        changes.push(Change::FlushChain((*name).clone()));
    }
    for name in gone {
        changes.push(Change::DeleteChain(name.clone()));
    }
}

fn delete_sets(old: &Parts, new: &Parts, changes: &mut Vec<Change>) {
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        changes.push(Change::DeleteSet(name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expr, Type, Value, Verdict};
    use expect_test::{Expect, expect};

    fn check(old: &Parts, new: &Parts, expect: Expect) {
        let lines: Vec<String> = old.changes_to(new).iter().map(line).collect();
        expect.assert_eq(&lines.join("\n"));
    }

    fn line(change: &Change) -> String {
        match change {
            Change::AddRule { chain, .. } => format!("add rule {chain}"),
            Change::AddChain { name, .. } => format!("add chain {name}"),
            Change::AddSet { name, .. } => format!("add set {name}"),
            Change::AddElements { set, elements } => format!("add {} elements {set}", elements.len()),
            Change::DeleteElements { set, keys } => format!("delete {} elements {set}", keys.len()),
            other => format!("{other:?}"),
        }
    }

    fn service(endpoints: &[&str]) -> Parts {
        let mut parts = Parts::default();
        parts.set("ports", Set::verdicts(vec![Type::Port]));
        parts
            .chain("service", vec![Rule::new(vec![Expr::GotoRandom(endpoints.iter().map(|e| (*e).into()).collect())])]);
        for endpoint in endpoints {
            parts.chain(*endpoint, vec![Rule::new(vec![Expr::accept()])]);
        }
        let data = Data::Verdict(Verdict::Goto("service".into()));
        parts.element("ports", vec![Value::Port(80)], Some(data));
        parts
    }

    #[test]
    fn one_endpoint_more_touches_two_chains() {
        check(
            &service(&["a"]),
            &service(&["a", "b"]),
            expect![[r#"
                add chain b
                add rule b
                FlushChain("service")
                add rule service"#]],
        );
    }

    #[test]
    fn everything_goes_in_the_order_of_references() {
        check(
            &service(&["a"]),
            &Parts::default(),
            expect![[r#"
                delete 1 elements ports
                FlushChain("a")
                FlushChain("service")
                DeleteChain("a")
                DeleteChain("service")
                DeleteSet("ports")"#]],
        );
    }

    #[test]
    fn nothing_changes_nothing() {
        check(&service(&["a"]), &service(&["a"]), expect![""]);
    }
}
