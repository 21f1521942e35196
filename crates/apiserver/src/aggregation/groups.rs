//! The groups that clients see, ours and those of others, in the order of their priorities.
//! Source: `apiregistration/v1/helper` (`SortedByGroupAndVersion`), `handler_apis.go`.

use std::cmp::Reverse;
use std::sync::Arc;

use super::services::ApiService;
use super::{GROUP, priorities};
use crate::registry::resources::version_rank;
use crate::server::Server;

/// Who serves a version.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Local,
    Remote(Arc<ApiService>),
}

#[derive(Debug)]
pub(crate) struct Group {
    /// Empty for the core group.
    pub name: String,
    /// The preferred one first.
    pub versions: Vec<(String, Source)>,
}

struct Entry {
    group: String,
    version: String,
    priorities: (i64, i64),
    source: Source,
}

/// All groups. The group of APIServices comes first after the core group.
pub(crate) fn groups(server: &Server) -> Vec<Group> {
    let services = server.aggregation.services(&*server.store);
    let mut entries: Vec<Entry> = Vec::new();
    for (group, versions) in server.resources().groups() {
        for version in versions {
            let own = services.all().iter().find(|own| own.group == group && own.version == version);
            if own.is_some_and(|own| own.destination.is_some()) {
                continue;
            }
            let said = own.map(|own| (own.group_priority, own.version_priority));
            let known = said.or_else(|| priorities::of(&group, &version)).unwrap_or(priorities::CUSTOM);
            entries.push(Entry { group: group.clone(), version, priorities: known, source: Source::Local });
        }
    }
    entries.extend(services.all().iter().filter(|own| own.destination.is_some()).map(|own| Entry {
        group: own.group.clone(),
        version: own.version.clone(),
        priorities: (own.group_priority, own.version_priority),
        source: Source::Remote(Arc::clone(own)),
    }));
    sorted(entries)
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Group> {
    let king = |entry: &Entry| entry.group.is_empty() || entry.group == GROUP;
    let name = |entry: &Entry| format!("{}.{}", entry.version, entry.group);
    entries
        .sort_by_cached_key(|entry| (!entry.group.is_empty(), !king(entry), Reverse(entry.priorities.0), name(entry)));
    let mut groups: Vec<(String, Vec<Entry>)> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|(group, _)| *group == entry.group) {
            Some((_, versions)) => versions.push(entry),
            None => groups.push((entry.group.clone(), vec![entry])),
        }
    }
    let groups = groups.into_iter().map(|(name, mut versions)| {
        versions.sort_by_key(|entry| (Reverse(entry.priorities.1), Reverse(version_rank(&entry.version))));
        Group { name, versions: versions.into_iter().map(|entry| (entry.version, entry.source)).collect() }
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_order_groups_and_versions() {
        let entry = |group: &str, version: &str, group_priority: i64, version_priority: i64| Entry {
            group: group.to_owned(),
            version: version.to_owned(),
            priorities: (group_priority, version_priority),
            source: Source::Local,
        };
        let groups = sorted(vec![
            entry("stable.example.com", "v1beta1", 1000, 100),
            entry("stable.example.com", "v2", 1000, 100),
            entry("apps", "v1", 17800, 15),
            entry("wardle.example.com", "v1", 20000, 200),
            entry(GROUP, "v1", 1000, 100),
            entry("", "v1", 18000, 1),
            entry("a.example.com", "v1", 1000, 100),
        ]);
        let shown: Vec<String> = groups
            .iter()
            .map(|group| {
                let versions: Vec<&str> = group.versions.iter().map(|(version, _)| version.as_str()).collect();
                format!("{}:{}", group.name, versions.join(","))
            })
            .collect();
        let expected = [
            ":v1",
            "apiregistration.k8s.io:v1",
            "wardle.example.com:v1",
            "apps:v1",
            "a.example.com:v1",
            "stable.example.com:v2,v1beta1",
        ];
        assert_eq!(shown, expected);
    }
}
