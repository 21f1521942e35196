//! What defaulting needs to know of image names.

/// True when the name stands for tag `latest`: it says so, or it has neither tag nor digest.
#[must_use]
pub fn is_latest(name: &str) -> bool {
    let (name, digest) = name.split_once('@').map_or((name, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_empty() && !name.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_latest;

    #[test]
    fn tags() {
        for latest in ["a", "a:latest", "r:5000/a", "r/a/b:latest", "a:latest@sha256:00"] {
            assert!(is_latest(latest), "{latest}");
        }
        for other in ["a:1", "r:5000/a:1", "a@sha256:00", ""] {
            assert!(!is_latest(other), "{other}");
        }
    }
}
