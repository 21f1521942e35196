//! Lists of resources: names and quantities. Source: `k8s.io/apiserver/pkg/quota/v1/resources.go`.

use std::collections::BTreeMap;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Map, Quantity, Value};

/// Quantities by the name of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a resource list; what is no quantity is left out.
    #[must_use]
    pub fn read(list: Option<&Value>) -> Self {
        let items = list.and_then(Value::as_object).into_iter().flatten();
        Self(items.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect())
    }

    #[must_use]
    pub fn at(object: &Value, path: &[&str]) -> Self {
        Self::read(object.at(path))
    }

    #[must_use]
    pub fn to_value(&self) -> Value {
        let items = self.0.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
        Value::Object(items.collect::<Map>())
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.0.get(name)
    }

    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), amount))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.get(name).map_or(*amount, |own| own.plus(amount));
            self.0.insert(name.clone(), sum);
        }
    }

    /// Keeps the larger of both for each resource.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|own| amount > own) {
                self.0.insert(name.clone(), *amount);
            }
        }
    }

    /// What of `self` is not in `other`; never below zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for (name, amount) in &mut left.0 {
            if let Some(own) = other.0.get(name) {
                let difference = amount.minus(own);
                *amount = if difference.is_negative() { Quantity::ZERO } else { difference };
            }
        }
        left
    }

    pub fn retain(&mut self, keep: impl Fn(&str, &Quantity) -> bool) {
        self.0.retain(|name, amount| keep(name, amount));
    }

    /// Only the resources that `keep` holds of.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut kept = self.clone();
        kept.retain(|name, _| keep(name));
        kept
    }

    /// `cpu=1,memory=2Gi`. Source: `resourcequota.prettyPrint`.
    #[must_use]
    pub fn shown(&self) -> String {
        self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
    }
}

impl FromIterator<(String, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, Quantity)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

/// A quantity as JSON has it: a text, or a number.
pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}
