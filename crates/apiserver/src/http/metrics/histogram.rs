//! Counts of observations by size, and the text that shows them.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// Observations by the first bound that they do not exceed.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what exceeds all of them.
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0, count: 0 }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    pub(crate) fn took(&mut self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// The text of `/metrics`, family by family.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// `labels` without braces.
    pub(crate) fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (count, bound) in histogram.counts.iter().zip(histogram.bounds) {
            below += count;
            let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", histogram.count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// The value of a label, escaped.
pub(crate) fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        [0.05, 0.1, 0.5, 7.0].into_iter().for_each(|value| histogram.observe(value));
        let mut text = Text::default();
        text.histogram("x", "verb=\"GET\"", &histogram);
        expect![[r#"
            x_bucket{verb="GET",le="0.1"} 2
            x_bucket{verb="GET",le="1"} 3
            x_bucket{verb="GET",le="+Inf"} 4
            x_sum{verb="GET"} 7.65
            x_count{verb="GET"} 4
        "#]]
        .assert_eq(&text.finish());
    }
}
