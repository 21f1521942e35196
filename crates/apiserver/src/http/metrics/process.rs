//! This process as Prometheus clients show it. Source: `prometheus/client_golang` process collector.

use super::histogram::Text;

/// `USER_HZ`, the same on every Linux we run on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

pub(super) fn render(out: &mut Text) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in the second field may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    #[allow(clippy::cast_precision_loss)]
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    let mut gauge = |name: &str, kind: &str, help: &str, value: f64| {
        out.family(name, kind, help);
        out.sample(name, "", value);
    };
    gauge(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time spent in seconds.",
        seconds(number(11) + number(12)),
    );
    #[allow(clippy::cast_precision_loss)]
    let bytes = |value: u64| value as f64;
    gauge("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", bytes(number(20)));
    gauge("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes(number(21) * PAGE_BYTES));
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()).unwrap_or(0.0);
    gauge(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        boot + seconds(number(19)),
    );
    #[allow(clippy::cast_precision_loss)]
    let open = std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64);
    gauge("process_open_fds", "gauge", "Number of open file descriptors.", open);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_there() {
        let mut out = Text::default();
        render(&mut out);
        let text = out.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).expect("a value")
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_start_time_seconds") > 1e9);
        assert!(value("process_open_fds") > 2.0);
    }
}
