//! What tests share: images made from this host's busybox, a real registry, a real cluster with stock kubectl, waiting.

mod cluster;
mod image;
mod registry;

use std::time::{Duration, Instant};

pub use cluster::{Cluster, Kubectl, Options};
pub use image::{BUSYBOX, ImageSpec, busybox_files, write_layout};
pub use registry::Registry;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` gives something.
///
/// # Panics
/// When it does not within `limit`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting for {what} after {limit:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}
