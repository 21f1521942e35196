//! Seats of the server divided among levels: by shares at first, then by what they ask for.

/// One level's claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claim {
    /// What it would like.
    pub target: f64,
    pub low: f64,
    pub high: f64,
}

/// Targets below this count as this.
const TARGET_MIN: f64 = 0.001;
/// Halvings of the interval that holds the answer.
const STEPS: usize = 64;

fn at(claim: &Claim, proportion: f64) -> f64 {
    (claim.target.max(TARGET_MIN) * proportion).clamp(claim.low, claim.high)
}

/// Seats for each claim that sum up to `total`: each gets the same proportion of its target, within its bounds. Claims
/// whose bounds cannot be held get the bound that is nearest.
pub(crate) fn divide(total: f64, claims: &[Claim]) -> (Vec<f64>, f64) {
    let sum = |proportion: f64| claims.iter().map(|claim| at(claim, proportion)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < total && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if sum(middle) < total { low = middle } else { high = middle }
    }
    (claims.iter().map(|claim| at(claim, high)).collect(), high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(total: f64, claims: &[(f64, f64, f64)], wanted: &[u32]) {
        let claims: Vec<Claim> = claims.iter().map(|&(target, low, high)| Claim { target, low, high }).collect();
        let (seats, _) = divide(total, &claims);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seats: Vec<u32> = seats.iter().map(|seats| seats.round() as u32).collect();
        assert_eq!(seats, wanted);
    }

    #[test]
    fn claims_get_the_same_proportion_within_their_bounds() {
        check(100.0, &[(10.0, 0.0, 1000.0), (40.0, 0.0, 1000.0)], &[20, 80]);
        check(100.0, &[(10.0, 0.0, 15.0), (40.0, 0.0, 1000.0)], &[15, 85]);
        check(100.0, &[(0.0, 30.0, 100.0), (500.0, 0.0, 1000.0)], &[30, 70]);
        check(10.0, &[(0.0, 30.0, 100.0), (500.0, 20.0, 1000.0)], &[30, 20]);
        check(100.0, &[(0.0, 0.0, 100.0), (0.0, 0.0, 100.0)], &[50, 50]);
    }
}
