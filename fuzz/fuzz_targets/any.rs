//! All targets in one program: `FUZZ_TARGET` names the one to run.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let found = coracle_hostile::TARGETS.into_iter().find(|(own, _)| *own == name);
    found.unwrap_or_else(|| panic!("no target is named {name}")).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
