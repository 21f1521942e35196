//! Device access on cgroup v2: a small BPF program, as there are no device files there.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::cgroup::DeviceRule;
use crate::{Context, Result};

/// Source: linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;

/// One instruction. Source: linux/bpf.h `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Lets the processes of the cgroup at `path` use the devices of `rules` only.
pub(crate) fn attach(path: &Path, rules: &[DeviceRule]) -> Result<()> {
    let program = program(rules);
    let fd = load(&program).context(|| "load the device filter".to_owned())?;
    let folder = File::open(path).context(|| format!("open {}", path.display()))?;
    let attributes = AttachAttributes {
        target_fd: folder.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: fd.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attributes are a live prefix of `union bpf_attr` of the size given; both descriptors are open.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, std::ptr::from_ref(&attributes), size_of::<AttachAttributes>())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).context(|| "attach the device filter".into())
    }
}

fn load(program: &[Instruction]) -> std::io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the attributes are a live prefix of `union bpf_attr` of the size given; the addresses in it point at the
    // program and the licence, which live through the call; the kernel copies both.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_ref(&attributes), size_of::<LoadAttributes>())
    };
    match i32::try_from(result) {
        // SAFETY: a non-negative result is a new descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The rules one after the other: the first that matches allows, the end refuses.
/// Registers: 2 type, 3 access, 4 major, 5 minor. Source: linux/bpf.h `struct bpf_cgroup_dev_ctx`.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let instruction = |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let (load32, move32, and32, shift32) = (0x61, 0xbc, 0x54, 0x74);
    let mut out = vec![
        instruction(load32, 0x12, 0, 0),
        instruction(move32, 0x23, 0, 0),
        instruction(and32, 0x02, 0, 0xffff),
        instruction(shift32, 0x03, 0, 16),
        instruction(load32, 0x14, 4, 0),
        instruction(load32, 0x15, 8, 0),
    ];
    for rule in rules {
        let mut checks = Vec::new();
        if rule.kind != 'a' {
            let kind = if rule.kind == 'b' { BPF_DEVCG_DEV_BLOCK } else { BPF_DEVCG_DEV_CHAR };
            checks.push(vec![instruction(0x55, 0x02, 0, kind)]);
        }
        let access = access_bits(&rule.access);
        if access != 7 {
            // Skip the rule when bits are asked that it does not give.
            checks.push(vec![
                instruction(0xbc, 0x31, 0, 0),
                instruction(0x54, 0x01, 0, 7 & !access),
                instruction(0x55, 0x01, 0, 0),
            ]);
        }
        if let Some(major) = rule.major {
            checks.push(vec![instruction(0x55, 0x04, 0, major.cast_signed())]);
        }
        if let Some(minor) = rule.minor {
            checks.push(vec![instruction(0x55, 0x05, 0, minor.cast_signed())]);
        }
        let mut body = checks.concat();
        body.push(instruction(0xb7, 0x00, 0, 1));
        body.push(instruction(0x95, 0, 0, 0));
        let length = body.len();
        for (at, step) in body.iter_mut().enumerate().filter(|(_, step)| step.code == 0x55) {
            step.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
        }
        out.append(&mut body);
    }
    out.push(instruction(0xb7, 0x00, 0, 0));
    out.push(instruction(0x95, 0, 0, 0));
    out
}

/// Source: linux/bpf.h `BPF_DEVCG_ACC_*`.
fn access_bits(access: &str) -> i32 {
    [('m', 1), ('r', 2), ('w', 4)].iter().filter(|(letter, _)| access.contains(*letter)).map(|(_, bit)| bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_accepts_the_program() {
        let rules = crate::cgroup::DeviceRule::defaults();
        let program = program(&rules);
        assert!(program.len() > rules.len());
        load(&program).unwrap();
    }
}
