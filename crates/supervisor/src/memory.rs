//! Memory after a burst: what only the burst needed is given back.

use std::time::Duration;

use coracle_host::memory::{give_back_program, processor_ticks};

/// How often to look whether the process idles.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Processor time between two looks, in hundredths of a second, up to which it does.
const IDLE_TICKS_MAX: u64 = 20;

/// Looks until it is dropped.
pub(crate) async fn keep_small() {
    let mut ticks = processor_ticks();
    let mut was_busy = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = processor_ticks();
        let idle = now.saturating_sub(ticks) <= IDLE_TICKS_MAX;
        ticks = now;
        if idle && was_busy {
            match tokio::task::spawn_blocking(give_back_program).await {
                Ok(Ok(bytes)) => tracing::debug!(bytes, "gave back what only the start or a burst needed"),
                Ok(Err(error)) => tracing::debug!(%error, "memory"),
                Err(error) => tracing::debug!(%error, "memory"),
            }
        }
        was_busy = !idle;
    }
}
