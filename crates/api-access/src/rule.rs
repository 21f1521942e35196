//! Rules of roles: what they match, and when some rules cover others.
//! Source: `pkg/apis/rbac/v1/evaluation_helpers.go`, `component-helpers/auth/rbac/validation`.

use coracle_api_meta::Value;
use serde_json::json;

use crate::Attributes;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

/// The rules of a Role or ClusterRole.
#[must_use]
pub fn rules_of(role: &Value) -> Vec<PolicyRule> {
    role.get("rules").and_then(Value::as_array).into_iter().flatten().map(PolicyRule::from_value).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl PolicyRule {
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let list = |field: &str| {
            let items = value.get(field).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// As a field of `rules`, without empty lists.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        let lists = [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        for (field, list) in lists {
            if !list.is_empty() {
                rule[field] = json!(list);
            }
        }
        rule
    }

    #[must_use]
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        if let Some(path) = attributes.path {
            return self.non_resource_urls.iter().any(|pattern| url_matches(pattern, path));
        }
        has(&self.api_groups, attributes.group)
            && resource_matches(&self.resources, attributes.resource, attributes.subresource)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == attributes.name))
    }

    /// Each single thing the rule grants, as rules of one verb and one resource (and name) or URL.
    fn atoms(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let base =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        atoms.push(base);
                    } else {
                        let named =
                            self.resource_names.iter().map(|name| Self { resource_names: one(name), ..base.clone() });
                        atoms.extend(named);
                    }
                }
            }
            let urls = self.non_resource_urls.iter();
            atoms.extend(urls.map(|url| Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() }));
        }
        atoms
    }

    fn covers_atom(&self, atom: &Self) -> bool {
        let all_of = |own: &[String], asked: &[String]| asked.iter().all(|item| has(own, item));
        if !all_of(&self.verbs, &atom.verbs) {
            return false;
        }
        if let Some(url) = atom.non_resource_urls.first() {
            return self.non_resource_urls.iter().any(|own| url_covers(own, url));
        }
        let names = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| self.resource_names.contains(name)));
        let resources = atom.resources.iter().all(|asked| {
            let (resource, subresource) = asked.split_once('/').unwrap_or((asked, ""));
            resource_matches(&self.resources, resource, subresource)
        });
        all_of(&self.api_groups, &atom.api_groups) && resources && names
    }
}

fn resource_matches(resources: &[String], resource: &str, subresource: &str) -> bool {
    resources.iter().any(|own| {
        if own == "*" {
            return true;
        }
        match own.split_once('/') {
            None => subresource.is_empty() && own == resource,
            Some((own, sub)) => sub == subresource && !sub.is_empty() && (own == "*" || own == resource),
        }
    })
}

fn url_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

fn url_covers(own: &str, asked: &str) -> bool {
    own == "*" || own == asked || own.strip_suffix('*').is_some_and(|prefix| asked.starts_with(prefix))
}

/// The parts of `asked` that no rule of `owned` grants; empty when all are covered.
#[must_use]
pub fn covers(owned: &[PolicyRule], asked: &[PolicyRule]) -> Vec<PolicyRule> {
    let atoms = asked.iter().flat_map(PolicyRule::atoms);
    atoms.filter(|atom| !owned.iter().any(|own| own.covers_atom(atom))).collect()
}
