//! Seccomp filters.
use coracle_cri::SecurityProfile;
use coracle_host::caps::Caps;
use coracle_host::seccomp::Instruction;

/// The filter of a profile for a container with `caps`; `None`: no filter.
pub(crate) fn filter(profile: &SecurityProfile, _caps: Caps) -> Result<Option<Vec<Instruction>>, String> {
    match profile {
        SecurityProfile::Unconfined => Ok(None),
        _ => Ok(None),
    }
}
