//! Emulated machines for tests: what this host's kernel cannot do (cgroup v2 with its controllers, IPVS, IPIP, WireGuard,
//! netem, dummy links, high limits) is tested in a guest that has it.
//!
//! [`Guest::start`] boots Debian's kernel for virtual machines in QEMU, on a disk made of [`Options::files`] and busybox;
//! [`Guest::run`] runs a shell script in it and gives back its exit code and what it printed. Modules are loaded by the
//! kernel when they are asked for, or with `modprobe`. A new test is a new script.
//!
//! The guest is interpreted: programs run about ten times slower than on the host. That works on every machine,
//! with or without `/dev/kvm`. `scripts/setup` installs the emulator and fetches the kernel; where either is missing, starting
//! a guest is an error, not a skipped test. A guest ends with its [`Guest`], and by itself when the test process dies.

mod agent;
mod cpio;
mod disk;
mod kernel;
mod machine;

pub use disk::File;
pub use machine::{Guest, Options, Outcome};
