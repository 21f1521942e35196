//! The parent of new shims: a copy of this program that does nothing but fork.
//!
//! A program changes a few megabytes of itself when it starts (relocations of a static binary). Shims that are forked
//! from one that has started share those pages, so that each costs its own few pages only, and start sooner. The nursery
//! ends with the runtime that started it; shims live on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_host::process::{self, Cloned};
use coracle_host::unix;

use super::start;

/// What is answered when a shim is ready; anything else is why there is none.
pub(crate) const READY: &[u8] = b"ready";

/// Serves until the other end of standard input, a socket, is closed. Each message is the folder of a sandbox, with a
/// socket for the answer.
pub(crate) fn main() -> i32 {
    if process::new_session().is_err() || process::close_inherited().is_err() {
        return 1;
    }
    process::set_name("coracle-shims");
    process::ignore_session_signals();
    process::forget_children();
    let requests = std::io::stdin();
    while let Ok(Some(message)) = unix::receive(requests.as_fd()) {
        let unix::Message { bytes, descriptors } = message;
        let Some(answer) = descriptors.into_iter().next() else { continue };
        match process::clone_process(&[]) {
            Ok(Cloned::Child) => bear(&bytes, answer),
            Ok(Cloned::Parent(_)) => {}
            Err(error) => drop(unix::send(&answer, error.to_string().as_bytes(), &[])),
        }
    }
    0
}

/// Leaves a shim behind and tells the runtime.
fn bear(folder: &[u8], answer: OwnedFd) -> ! {
    process::reset_signals();
    let null = std::fs::File::open("/dev/null");
    let folder = String::from_utf8_lossy(folder);
    // The requests are the nursery's alone.
    let result = match null.map(|null| process::set_standard_stream(&null, 0)) {
        Ok(Ok(())) => start(Path::new(folder.as_ref()), Some(&answer)).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let text = result.err().unwrap_or_default();
    let said = if text.is_empty() { READY } else { text.as_bytes() };
    let told = unix::send(&answer, said, &[]);
    process::exit_now(i32::from(told.is_err()))
}
