//! Puts seccomp filters in force.

use serde::{Deserialize, Serialize};

use crate::{Context, Error, Result};

/// One instruction of classic BPF. Source: linux/filter.h `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub k: u32,
}

/// Most instructions a filter may have. Source: linux/bpf_common.h `BPF_MAXINSNS`.
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Filters the system calls of this thread from now on. Needs `no_new_privs` or CAP_SYS_ADMIN.
pub fn install(program: &[Instruction]) -> Result<()> {
    let what = || "install the seccomp filter".to_owned();
    let length = u16::try_from(program.len()).ok().filter(|_| program.len() <= INSTRUCTIONS_MAX);
    let length = length.ok_or_else(|| Error::new(what(), libc::E2BIG))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `Instruction` has the layout of `sock_filter`; the slice lives through the call, and the kernel copies it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context(what) }
}

/// Programs started from now on gain nothing by set-user-id bits or file capabilities.
pub fn set_no_new_privs() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context(|| "set no_new_privs".to_owned())
}
