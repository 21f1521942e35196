//! How fast and how far an autoscaler may go. Source: `pkg/controller/podautoscaler/horizontal.go`.

use std::time::Duration;

use coracle_plan_core::time::{from_seconds, since};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Source: `--horizontal-pod-autoscaler-downscale-stabilization`.
const DOWNSCALE_STABILIZATION: i32 = 300;
/// Nothing asks for what is older: the longest window and the longest period that validation lets pass.
const MEMORY_MAX: Duration = Duration::from_secs(3600);
/// Recommendations and changes that are kept.
const RECORDS_MAX: usize = 512;
/// Without a behavior: at most twice as many at once, or this many. Source: `scaleUpLimitFactor`, `scaleUpLimitMinimum`.
const SCALE_UP_FACTOR: i32 = 2;
const SCALE_UP_MIN: i32 = 4;

/// What an autoscaler recommended and did of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    recommendations: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// Between which numbers to stay.
pub(super) struct Range {
    pub current: i32,
    pub min: i32,
    pub max: i32,
}

type Told = (&'static str, &'static str);

const WITHIN: Told = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Told = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Told = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Told = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Told =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const UP_STABILIZED: Told = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Told = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

impl Memory {
    #[cfg(test)]
    pub(super) fn with_recommendation(mut self, at: Timestamp, replicas: i32) -> Self {
        self.recommendations.push((at, replicas));
        self
    }

    /// The first thing that is remembered is what there was.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        for records in [&mut self.recommendations, &mut self.ups, &mut self.downs] {
            let over = records.len().saturating_sub(RECORDS_MAX);
            records.drain(..over);
        }
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    pub(super) fn scaled(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        before: i32,
        after: i32,
        now: Timestamp,
    ) {
        if behavior.is_none() {
            return;
        }
        let (records, change) =
            if after > before { (&mut self.ups, after - before) } else { (&mut self.downs, before - after) };
        records.retain(|(at, _)| since(*at, now) <= MEMORY_MAX);
        records.push((now, change));
    }

    /// The number that recent recommendations agree on, and what to tell when it is another than the proposed one.
    pub(super) fn stabilize(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        proposed: i32,
        now: Timestamp,
    ) -> (i32, Option<Told>) {
        let window = |rules: Option<&HPAScalingRules>, fallback: i32| {
            let own = rules.and_then(|rules| rules.stabilization_window_seconds);
            from_seconds(own.unwrap_or(fallback).into())
        };
        let within = |span: Duration| {
            let near = self.recommendations.iter().filter(move |(at, _)| since(*at, now) < span);
            near.map(|(_, replicas)| *replicas)
        };
        let down = window(behavior.and_then(|own| own.scale_down.as_ref()), DOWNSCALE_STABILIZATION);
        let highest = within(down).max().map_or(proposed, |highest| highest.max(proposed));
        let steady = match behavior {
            None => highest,
            Some(behavior) => {
                let up = window(behavior.scale_up.as_ref(), 0);
                let lowest = within(up).min().map_or(proposed, |lowest| lowest.min(proposed));
                current.max(lowest).min(highest)
            }
        };
        self.recommendations.retain(|(at, _)| since(*at, now) <= MEMORY_MAX);
        self.recommendations.push((now, proposed));
        let told = if behavior.is_some() && proposed >= current { UP_STABILIZED } else { DOWN_STABILIZED };
        (steady, (steady != proposed).then_some(told))
    }

    /// The number within bounds and rates, and what to tell of it.
    pub(super) fn limit(
        &self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        range: &Range,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, &'static str, &'static str) {
        let Range { current, min, max } = *range;
        let (replicas, told) = match behavior {
            None => without_rules(range, wanted),
            Some(behavior) if wanted > current => {
                let rate = self.up_limit(behavior.scale_up.as_ref(), current, now).max(current);
                let (most, told) = if max > rate { (rate, UP_LIMIT) } else { (max, TOO_MANY) };
                if wanted > most { (most, told) } else { (wanted, WITHIN) }
            }
            Some(behavior) if wanted < current => {
                let rate = self.down_limit(behavior.scale_down.as_ref(), current, now).min(current);
                let (least, told) = if min < rate { (rate, DOWN_LIMIT) } else { (min, TOO_FEW) };
                if wanted < least { (least, told) } else { (wanted, WITHIN) }
            }
            Some(_) => (wanted, WITHIN),
        };
        (replicas, told.0, told.1)
    }

    /// How many there were when the period began.
    fn at_start(&self, current: i32, period_seconds: i32, now: Timestamp) -> i32 {
        let period = from_seconds(period_seconds.into());
        let sum = |records: &[(Timestamp, i32)]| -> i32 {
            records.iter().filter(|(at, _)| since(*at, now) < period).map(|(_, change)| *change).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn up_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let proposals = rules.into_iter().flat_map(|rules| rules.policies.iter().flatten()).map(|policy| {
            let start = self.at_start(current, policy.period_seconds, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_add(policy.value),
                _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            }
        });
        match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Disabled") => current,
            Some("Min") => proposals.min().unwrap_or(i32::MAX),
            _ => proposals.max().unwrap_or(i32::MAX),
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn down_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let proposals = rules.into_iter().flat_map(|rules| rules.policies.iter().flatten()).map(|policy| {
            let start = self.at_start(current, policy.period_seconds, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_sub(policy.value),
                _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Disabled") => current,
            Some("Min") => proposals.max().unwrap_or(i32::MIN),
            _ => proposals.min().unwrap_or(i32::MIN),
        }
    }
}

fn without_rules(range: &Range, wanted: i32) -> (i32, Told) {
    let rate = range.current.saturating_mul(SCALE_UP_FACTOR).max(SCALE_UP_MIN);
    let (most, told) = if range.max > rate { (rate, UP_LIMIT) } else { (range.max, TOO_MANY) };
    if wanted < range.min {
        (range.min, TOO_FEW)
    } else if wanted > most {
        (most, told)
    } else {
        (wanted, WITHIN)
    }
}
