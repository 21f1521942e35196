//! The arrows between crates: `architecture.toml` against the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Floors from the ground up. A crate uses its own floor or those below.
const FLOORS: [&str; 6] = ["words", "decisions", "hands", "components", "roof", "test"];
/// Crates that may not know a clock, a socket, a task or a random source.
const IMPURE: [&str; 6] = ["tokio", "hyper", "rand", "rusqlite", "nlink", "rustix"];

#[derive(Debug, Default, PartialEq)]
struct Crate {
    floor: String,
    uses: BTreeSet<String>,
}

/// Compares the declared arrows with the real ones.
pub fn check(root: &Path) -> Result<()> {
    let declared = declared(&std::fs::read_to_string(root.join("architecture.toml"))?)?;
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).with_context(|| name.clone())?;
        let known = declared.get(&name).with_context(|| format!("crate {name} is not in architecture.toml"))?;
        compare(&name, known, &dependencies(&manifest), &declared)?;
        seen.insert(name);
    }
    for name in declared.keys() {
        ensure!(seen.contains(name), "architecture.toml names {name}, which is not there");
    }
    Ok(())
}

fn compare(name: &str, known: &Crate, real: &BTreeSet<String>, all: &BTreeMap<String, Crate>) -> Result<()> {
    let ours: BTreeSet<String> =
        real.iter().filter_map(|dependency| dependency.strip_prefix("coracle-")).map(str::to_owned).collect();
    ensure!(ours == known.uses, "{name} uses {ours:?}, architecture.toml says {:?}", known.uses);
    let floor_of = |floor: &str| FLOORS.iter().position(|known| *known == floor);
    let own = floor_of(&known.floor).with_context(|| format!("{name}: floor {:?} does not exist", known.floor))?;
    for used in &ours {
        let used_floor = all.get(used).with_context(|| format!("{name} uses {used}, which is not declared"))?;
        ensure!(floor_of(&used_floor.floor) <= Some(own), "{name} points up, at {used}");
    }
    if own <= 1 && name != "cri" {
        for impure in IMPURE {
            ensure!(!real.contains(impure), "{name} is pure and must not use {impure}");
        }
    }
    Ok(())
}

/// Names under `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Reads the small part of TOML that the file uses.
fn declared(text: &str) -> Result<BTreeMap<String, Crate>> {
    let mut crates: BTreeMap<String, Crate> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut current);
            continue;
        }
        let (key, value) = line.split_once('=').with_context(|| format!("line {line:?}"))?;
        let entry = crates.entry(current.clone()).or_default();
        let words = value.split('"').skip(1).step_by(2).map(str::to_owned);
        match key.trim() {
            "floor" => entry.floor = words.collect(),
            "uses" => entry.uses = words.collect(),
            other => anyhow::bail!("unknown key {other:?}"),
        }
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_depend_as_declared() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        check(root).expect("architecture");
    }

    #[test]
    fn arrows_that_point_up_are_found() {
        let all = declared("[low]\nfloor = \"words\"\nuses = [\"high\"]\n[high]\nfloor = \"roof\"\nuses = []\n")
            .expect("toml");
        let real = BTreeSet::from(["coracle-high".to_owned()]);
        assert!(compare("low", &all["low"], &real, &all).is_err());
        assert!(compare("low", &all["low"], &BTreeSet::new(), &all).is_err());
        let all = declared("[low]\nfloor = \"words\"\nuses = []\n").expect("toml");
        assert!(compare("low", &all["low"], &BTreeSet::from(["tokio".to_owned()]), &all).is_err());
    }
}
