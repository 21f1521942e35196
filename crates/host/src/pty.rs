//! Pseudo terminals.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};

use crate::{Context, Result};

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Pty {
    pub controller: OwnedFd,
    /// The end for the program.
    pub terminal: OwnedFd,
}

/// Opens a terminal of the `/dev/ptmx` that this process sees.
pub fn open() -> Result<Pty> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller =
        rustix::fs::openat(CWD, "/dev/ptmx", flags, Mode::empty()).context(|| "open /dev/ptmx".to_owned())?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives through the call.
    let result = unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    check(result).context(|| "unlock a terminal".to_owned())?;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    let result = unsafe {
        libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    let terminal = check(result).context(|| "open a terminal".to_owned())?;
    // SAFETY: the descriptor was made by the call above and nobody else has it.
    let terminal = unsafe { OwnedFd::from_raw_fd(terminal) };
    Ok(Pty { controller, terminal })
}

fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes `terminal` the controlling terminal of the session this process leads.
pub fn make_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).context(|| "set the controlling terminal".to_owned())
}

/// Sets the size in characters.
pub fn resize(controller: impl AsFd, width: u16, height: u16) -> Result<()> {
    let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(controller, size).context(|| "resize a terminal".to_owned())
}
