//! Capabilities: names, sets, and putting them in force.

use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::{Context, Result};

/// Names without `CAP_`, by number. Source: linux/capability.h.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caps(pub u64);

impl Caps {
    /// Every capability that this code has a name for.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The capability of a name, written with or without `CAP_`, in any case.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What this thread may use now.
pub fn effective() -> Result<Caps> {
    Ok(Caps(capabilities(None).context(|| "read the capabilities".to_owned())?.effective.bits()))
}

/// Takes everything that is not in `keep` out of the bounding set, so that no program can gain it.
pub fn limit_bounding(keep: Caps) -> Result<()> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::capability_is_in_bounding_set(one) {
            // Past the last capability of this kernel.
            Err(_) => break,
            Ok(true) if !keep.contains(Caps(1 << bit)) => {
                rustix::thread::remove_capability_from_bounding_set(one)
                    .context(|| format!("drop capability {bit}"))?;
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Lets capabilities stay through the change to a user other than root.
pub fn keep_through_identity_change(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).context(|| "keep capabilities".to_owned())
}

/// Puts `caps` in force: permitted and effective, nothing inheritable or ambient.
pub fn apply(caps: Caps) -> Result<()> {
    rustix::thread::clear_ambient_capability_set().context(|| "clear the ambient capabilities".to_owned())?;
    let set = CapabilitySet::from_bits_retain(caps.0);
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context(|| "set the capabilities".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_spelling() {
        assert_eq!(Caps::of_name("cap_net_admin"), Some(Caps(1 << 12)));
        assert_eq!(Caps::of_name("CHECKPOINT_RESTORE"), Some(Caps(1 << 40)));
        assert_eq!(Caps::of_name("FLY"), None);
        assert_eq!(Caps::ALL.0, 0x1ff_ffff_ffff);
    }
}
