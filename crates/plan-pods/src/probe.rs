//! When a row of probe results becomes a verdict.

use k8s_openapi::api::core::v1::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As events name it: `Liveness probe failed: ...`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The verdict before the first probe of a container.
    #[must_use]
    pub fn initially(self) -> Option<bool> {
        match self {
            Self::Startup => None,
            Self::Liveness => Some(true),
            Self::Readiness => Some(false),
        }
    }
}

/// What to do after one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// Below its threshold: nothing changes.
    Unchanged,
    /// The verdict is `success`; `hold`: no more probes of this container.
    Set { success: bool, hold: bool },
}

/// Counts equal results in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeRun {
    last: Option<bool>,
    run: i32,
}

impl ProbeRun {
    /// Source: `Probe.failureThreshold` and `successThreshold`; a startup probe ends with its verdict, a liveness
    /// probe with its failure.
    pub fn record(&mut self, kind: ProbeKind, probe: &Probe, success: bool) -> ProbeVerdict {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if self.run < threshold {
            return ProbeVerdict::Unchanged;
        }
        let hold = kind == ProbeKind::Startup || (kind == ProbeKind::Liveness && !success);
        ProbeVerdict::Set { success, hold }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let probe = Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() };
        let mut run = ProbeRun::default();
        let results = [true, true, false, true, false, false];
        let verdicts = results.map(|result| match run.record(ProbeKind::Readiness, &probe, result) {
            ProbeVerdict::Unchanged => '.',
            ProbeVerdict::Set { success: true, .. } => '+',
            ProbeVerdict::Set { success: false, .. } => '-',
        });
        assert_eq!(verdicts.iter().collect::<String>(), ".+...-");
        let once = Probe { failure_threshold: Some(1), ..Probe::default() };
        let verdict = ProbeRun::default().record(ProbeKind::Liveness, &once, false);
        assert_eq!(verdict, ProbeVerdict::Set { success: false, hold: true });
    }
}
