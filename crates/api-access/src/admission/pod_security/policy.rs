//! What the labels of a namespace ask for. Source: `k8s.io/pod-security-admission/api`.

use std::fmt;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Value};

const PREFIX: &str = "pod-security.kubernetes.io/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// The Kubernetes version whose rules are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Latest,
    /// `v1.x`.
    Minor(u32),
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let canonical = digits == "0" || !digits.starts_with('0');
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| canonical && plain).map(Self::Minor)
    }

    /// The minor version to compare with; the latest is larger than all.
    pub(super) fn minor(self) -> u32 {
        match self {
            Self::Latest => u32::MAX,
            Self::Minor(minor) => minor,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.as_str()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// The policy of a namespace's labels, and what is wrong with them.
    #[must_use]
    pub fn read(namespace: &Value) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let all = LevelVersion { level: Level::Privileged, version: Version::Latest };
        let mut policy = Self { enforce: all, audit: all, warn: all };
        let labels = namespace.labels();
        let label = |name: &str| labels?.get(&format!("{PREFIX}{name}"))?.as_str();
        let mut enforced = false;
        // Enforcement fails closed, the others open.
        for (mode, slot, on_error) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            if let Some(text) = label(mode) {
                let level = Level::parse(text);
                slot.level = level.unwrap_or(on_error);
                enforced |= mode == "enforce" && level.is_some();
                if level.is_none() {
                    errors.push(invalid(mode, text, "must be one of privileged, baseline, restricted"));
                }
            }
            let mode = format!("{mode}-version");
            if let Some(text) = label(&mode) {
                let version = Version::parse(text);
                slot.version = version.unwrap_or(Version::Latest);
                if version.is_none() {
                    errors.push(invalid(&mode, text, "must be \"latest\" or \"v1.x\""));
                }
            }
        }
        if label("warn").is_none() && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    #[must_use]
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }
}

fn invalid(label: &str, value: &str, why: &str) -> FieldError {
    let path = FieldPath::new("metadata").child("labels").key(&format!("{PREFIX}{label}"));
    FieldError::invalid(&path, value, why)
}
