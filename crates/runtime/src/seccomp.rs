//! Seccomp: which system calls the programs of a container may make.
//!
//! A profile is a default action and rules; it becomes a BPF program without the help of a C library. `RuntimeDefault`
//! is a table of ours with the behaviour of containerd's; `Localhost` reads a profile in the OCI format.

mod compile;
mod default;
mod numbers;
mod profile;

use coracle_cri::SecurityProfile;
use coracle_host::caps::Caps;
use coracle_host::seccomp::Instruction;

/// Largest profile that is read.
const PROFILE_BYTES_MAX: u64 = 4 << 20;

/// The filter of a profile for a container with `caps`; `None`: no filter.
pub(crate) fn filter(profile: &SecurityProfile, caps: Caps) -> Result<Option<Vec<Instruction>>, String> {
    let parsed = match profile {
        SecurityProfile::Unconfined => return Ok(None),
        SecurityProfile::RuntimeDefault => default::profile(caps),
        SecurityProfile::Localhost(path) => {
            let failed = |why: String| format!("cannot load seccomp profile {path:?}: {why}");
            let text = read(path).map_err(|error| failed(error.to_string()))?;
            profile::parse(&text).map_err(failed)?
        }
    };
    compile::compile(&parsed).map(Some)
}

fn read(path: &str) -> coracle_host::Result<Vec<u8>> {
    use std::io::Read;

    use coracle_host::Context;
    let what = || format!("open {path}");
    let mut text = Vec::new();
    let file = std::fs::File::open(path).context(what)?;
    file.take(PROFILE_BYTES_MAX).read_to_end(&mut text).context(what)?;
    Ok(text)
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u16),
    Kill,
    KillThread,
    Trap,
    Log,
    Trace(u16),
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal(u64),
    NotEqual(u64),
    /// Mask, then value.
    Masked(u64, u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Less(u64),
    LessOrEqual(u64),
}

/// A condition on one argument, by its index from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    argument: u8,
    compare: Compare,
}

/// An action for a system call when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    number: u32,
    conditions: Vec<Condition>,
    action: Action,
}

/// The first rule that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Profile {
    default: Action,
    rules: Vec<Rule>,
}
