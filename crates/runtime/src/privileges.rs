//! What a container may do: capabilities, masked and read-only paths, devices.

use coracle_cri::ContainerSecurityContext;
use coracle_host::caps::Caps;

/// Capabilities of a container that asks for nothing. Source: containerd `defaultUnixCaps`.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities of a container, never more than `own`, which are those of this process.
pub(crate) fn capabilities(context: &ContainerSecurityContext, own: Caps) -> Result<Caps, String> {
    if context.privileged {
        return Ok(own);
    }
    let mut caps = DEFAULT.iter().filter_map(|name| Caps::of_name(name)).fold(Caps::default(), Caps::with);
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let named = |name: &String| Caps::of_name(name).ok_or_else(|| format!("unknown capability {name:?}"));
    // ALL first, whatever the order: what is then named is an exception from it. Source: containerd `WithCapabilities`.
    if context.add_capabilities.iter().any(is_all) {
        caps = Caps::ALL;
    }
    if context.drop_capabilities.iter().any(is_all) {
        caps = Caps::default();
    }
    for name in context.add_capabilities.iter().filter(|name| !is_all(name)) {
        caps = caps.with(named(name)?);
    }
    for name in context.drop_capabilities.iter().filter(|name| !is_all(name)) {
        caps = caps.without(named(name)?);
    }
    Ok(caps.and(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], privileged: bool, expected: u64) {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let context = ContainerSecurityContext {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            privileged,
            ..ContainerSecurityContext::default()
        };
        let own = Caps::ALL.without(Caps::of_name("SYS_RESOURCE").unwrap());
        assert_eq!(capabilities(&context, own).unwrap().0, expected, "{add:?} {drop:?}");
    }

    #[test]
    fn sets_follow_the_pod() {
        check(&[], &[], false, 0xa804_25fb);
        check(&["NET_ADMIN"], &["ALL"], false, 1 << 12);
        check(&["ALL"], &["CAP_CHOWN"], false, 0x1ff_feff_fffe);
        check(&[], &["ALL"], false, 0);
        check(&["SYS_RESOURCE"], &["ALL"], false, 0);
        check(&[], &[], true, 0x1ff_feff_ffff);
    }
}
