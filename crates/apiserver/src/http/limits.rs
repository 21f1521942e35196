//! How many requests are worked on at once. Source: `--max-requests-inflight`, `--max-mutating-requests-inflight`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_api_meta::Status;

const READING_MAX: usize = 400;
const MUTATING_MAX: usize = 200;

#[derive(Default)]
pub(crate) struct InFlight {
    reading: Arc<AtomicUsize>,
    mutating: Arc<AtomicUsize>,
}

/// Gives its place back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    pub(crate) fn enter(&self, mutating: bool) -> Result<Place, Status> {
        let (counter, max) = if mutating { (&self.mutating, MUTATING_MAX) } else { (&self.reading, READING_MAX) };
        let place = Place(Arc::clone(counter));
        if counter.fetch_add(1, Ordering::Relaxed) >= max {
            drop(place);
            return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
        }
        Ok(place)
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.reading.load(Ordering::Relaxed), self.mutating.load(Ordering::Relaxed))
    }
}
