//! Streams of a container: output to the log and to those attached, input from them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Bytes that wait for one who is attached before output is no longer read.
const PENDING_BYTES_MAX: usize = 256 << 10;
pub(super) const READ_BYTES: usize = 32 << 10;

/// What a read or write on a descriptor that does not block led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    Bytes(usize),
    WouldBlock,
    Closed,
}

pub(super) fn read(from: &OwnedFd, buffer: &mut [u8]) -> Moved {
    loop {
        match rustix::io::read(from, &mut *buffer) {
            Ok(0) => return Moved::Closed,
            Ok(count) => return Moved::Bytes(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Moved::WouldBlock,
            // A terminal whose other end was closed gives EIO.
            Err(_) => return Moved::Closed,
        }
    }
}

fn write(to: &OwnedFd, bytes: &[u8]) -> Moved {
    loop {
        match rustix::io::write(to, bytes) {
            Ok(count) => return Moved::Bytes(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Moved::WouldBlock,
            Err(_) => return Moved::Closed,
        }
    }
}

/// A descriptor to write to, with what it did not take yet.
pub(super) struct Sink {
    pub file: OwnedFd,
    pub token: u64,
    pending: VecDeque<u8>,
    pub closed: bool,
}

impl Sink {
    pub fn new(file: OwnedFd, token: u64) -> Self {
        Self { file, token, pending: VecDeque::new(), closed: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let mut rest = bytes;
        if self.pending.is_empty() {
            match write(&self.file, bytes) {
                Moved::Bytes(count) => rest = bytes.get(count..).unwrap_or_default(),
                Moved::WouldBlock => {}
                Moved::Closed => self.closed = true,
            }
        }
        if !self.closed {
            self.pending.extend(rest);
        }
    }

    pub fn flush(&mut self) {
        while !self.closed && !self.pending.is_empty() {
            match write(&self.file, self.pending.as_slices().0) {
                Moved::Bytes(count) => drop(self.pending.drain(..count)),
                Moved::WouldBlock => return,
                Moved::Closed => self.closed = true,
            }
        }
        if self.pending.is_empty() {
            self.pending.shrink_to_fit();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.closed || self.pending.is_empty()
    }

    pub fn is_full(&self) -> bool {
        !self.closed && self.pending.len() >= PENDING_BYTES_MAX
    }
}
