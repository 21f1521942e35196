//! What the user named: `pods`, `pod a b`, `deploy/web svc/web`, `pods,services`, `all`.

use anyhow::{Result, bail};

use super::discovery::{Discovery, Resource};

/// One resource and the names of it that are meant; none means all.
#[derive(Debug)]
pub struct Selected<'a> {
    pub resource: &'a Resource,
    pub names: Vec<String>,
}

pub fn select<'a>(discovery: &'a Discovery, words: &[String]) -> Result<Vec<Selected<'a>>> {
    let Some(first) = words.first() else {
        bail!("error: you must specify the type of resource, such as `pods`");
    };
    if first.contains('/') {
        return words.iter().map(|word| pair(discovery, word)).collect();
    }
    let names = words.get(1..).unwrap_or_default();
    if let Some(word) = names.iter().find(|name| name.contains('/')) {
        bail!(
            "error: there is no need to specify a resource type as a separate argument when passing arguments in resource/name form: {word:?}"
        );
    }
    let mut found = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        if word == "all" {
            found.extend(discovery.category("all"));
        } else {
            found.push(discovery.find(word)?);
        }
    }
    Ok(found.into_iter().map(|resource| Selected { resource, names: names.to_vec() }).collect())
}

fn pair<'a>(discovery: &'a Discovery, word: &str) -> Result<Selected<'a>> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
            Ok(Selected { resource: discovery.find(kind)?, names: vec![name.to_owned()] })
        }
        _ => bail!("error: arguments in resource/name form must have a single resource and name, not {word:?}"),
    }
}
