//! What a request costs: seats while it runs, and seats for the events that it causes.
//! Source: `k8s.io/apiserver/pkg/util/flowcontrol/request`.

use std::time::Duration;

use crate::classify::Request;

/// Bytes of a list that one seat stands for.
const BYTES_PER_SEAT: usize = 100_000;
/// Memory that a list takes at most, since it is sent in pieces.
const LIST_BYTES_MAX: usize = 1_000_000;
const LIST_SEATS_MAX: u32 = 100;
const MUTATING_SEATS_MAX: u32 = 10;
const WATCHES_PER_SEAT: usize = 10;
/// Time that one seat spends on the events of a write.
const EVENT_TIME: Duration = Duration::from_millis(5);
/// Time that a request is expected to take. Source: `estimatedServiceDuration`.
pub(crate) const SERVICE_TIME: Duration = Duration::from_millis(3);

/// What is known of the collection that a request is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    pub objects: usize,
    pub bytes: usize,
    /// Watches that a change of one object may wake.
    pub watches: usize,
    /// The page that a list asks for; 0 for everything.
    pub limit: usize,
    /// The list is of one object.
    pub single: bool,
    /// A watch that begins with the present objects.
    pub shows_present: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub initial_seats: u32,
    pub final_seats: u32,
    /// How long the final seats stay taken.
    pub linger: Duration,
}

impl Work {
    pub const ONE: Self = Self { initial_seats: 1, final_seats: 0, linger: Duration::ZERO };

    /// `seats_max` is the level's own limit, 0 for none.
    #[must_use]
    pub fn estimate(request: &Request<'_>, load: impl FnOnce() -> Load, seats_max: u32) -> Self {
        if !request.is_resource {
            return Self::ONE;
        }
        match request.verb {
            "list" | "watch" => list(request.verb, load(), bound(seats_max, LIST_SEATS_MAX)),
            "create" if request.resource == "serviceaccounts" && request.subresource == "token" => Self::ONE,
            "create" | "update" | "patch" | "delete" => write(load().watches, bound(seats_max, MUTATING_SEATS_MAX)),
            _ => Self::ONE,
        }
    }

    pub(crate) fn seats(&self) -> u32 {
        self.initial_seats.max(self.final_seats)
    }

    /// In seat-seconds.
    pub(crate) fn total(&self) -> f64 {
        f64::from(self.initial_seats) * SERVICE_TIME.as_secs_f64()
            + f64::from(self.final_seats) * self.linger.as_secs_f64()
    }

    /// Fewer final seats for longer, so that the work stays the same.
    pub(crate) fn narrow(&mut self, seats: u32) {
        if self.final_seats > seats && seats > 0 {
            self.linger = self.linger.mul_f64(f64::from(self.final_seats) / f64::from(seats));
            self.final_seats = seats;
        }
    }
}

fn bound(level: u32, own: u32) -> u32 {
    if level == 0 { own } else { level.min(own) }
}

fn list(verb: &str, load: Load, seats_max: u32) -> Work {
    if verb == "watch" && !load.shows_present {
        return Work::ONE;
    }
    let each = load.bytes.checked_div(load.objects).unwrap_or(0);
    let count = match (load.single, load.limit) {
        (true, _) => 1,
        (false, 0) => load.objects,
        (false, limit) => limit.min(load.objects),
    };
    let bytes = count.saturating_mul(each).min(LIST_BYTES_MAX);
    let seats = u32::try_from(bytes.div_ceil(BYTES_PER_SEAT)).unwrap_or(seats_max);
    Work { initial_seats: seats.clamp(1, seats_max.max(1)), ..Work::ONE }
}

fn write(watches: usize, seats_max: u32) -> Work {
    if watches < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let seats = u32::try_from(watches.div_ceil(WATCHES_PER_SEAT)).unwrap_or(u32::MAX);
    let mut work = Work { initial_seats: 1, final_seats: seats, linger: EVENT_TIME };
    work.narrow(seats_max);
    work
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api_meta::UserInfo;

    fn check(verb: &str, load: Load, seats_max: u32, wanted: (u32, u32, u64)) {
        let user = UserInfo::anonymous();
        let request = Request {
            user: &user,
            verb,
            is_resource: true,
            path: "",
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "",
        };
        let work = Work::estimate(&request, || load, seats_max);
        let linger = u64::try_from(work.linger.as_millis()).expect("small");
        assert_eq!((work.initial_seats, work.final_seats, linger), wanted, "{verb} {load:?}");
    }

    #[test]
    fn lists_and_writes_cost_what_they_touch() {
        let pods = Load { objects: 2000, bytes: 2000 * 4500, ..Load::default() };
        check("get", pods, 0, (1, 0, 0));
        check("list", pods, 0, (10, 0, 0));
        check("list", pods, 6, (6, 0, 0));
        check("list", Load { limit: 100, ..pods }, 0, (5, 0, 0));
        check("list", Load { single: true, ..pods }, 0, (1, 0, 0));
        check("list", Load::default(), 0, (1, 0, 0));
        check("watch", pods, 0, (1, 0, 0));
        check("watch", Load { shows_present: true, ..pods }, 0, (10, 0, 0));
        check("create", Load { watches: 9, ..pods }, 0, (1, 0, 0));
        check("create", Load { watches: 25, ..pods }, 0, (1, 3, 5));
        check("update", Load { watches: 1000, ..pods }, 0, (1, 10, 50));
    }
}
