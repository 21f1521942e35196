//! Every decoder against inputs made from seeds: none panics, none breaks a promise, none takes long.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use coracle_hostile::TARGETS;
use coracle_hostile::corpus::{Dice, mutated, seeds};

/// Inputs for each target. `HOSTILE_INPUTS` asks for more.
const INPUTS: u64 = 200;
/// What one input may take in an unoptimised build on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(60);

fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    let started = Instant::now();
    let outcome = catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} fails for {:?}", String::from_utf8_lossy(input));
    assert!(started.elapsed() < TIME_MAX, "{name} hangs on {:?}", String::from_utf8_lossy(input));
}

#[test]
fn decoders_survive_hostile_input() {
    let inputs = std::env::var("HOSTILE_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(INPUTS);
    let checks = TARGETS.map(|(name, target)| {
        std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let seeds = seeds(name);
            seeds.iter().for_each(|seed| check(name, target, seed));
            for number in 0..inputs {
                check(name, target, &mutated(&seeds, &mut Dice::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
            }
        })
    });
    let failed = checks.into_iter().map(|check| check.expect("a thread").join());
    let failed: Vec<_> = failed.filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} targets fail", failed.len());
}
