//! From rules to BPF. Source: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h.

use std::collections::BTreeMap;

use coracle_host::seccomp::{INSTRUCTIONS_MAX, Instruction};

use super::{Action, Compare, Condition, Profile, Rule};

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xc000_00b7;
/// Numbers from here on are those of the x32 interface.
const X32: u32 = 0x4000_0000;

/// A jump to the end of the rule, until its distance is known.
const FAIL: u8 = u8::MAX;

pub(super) fn compile(profile: &Profile) -> Result<Vec<Instruction>, String> {
    let deny = ret(profile.default);
    // Calls of another architecture have other numbers: none of them is known here.
    let foreign = ret(Action::Errno(38));
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, OWN_ARCHITECTURE, 1, 0),
        foreign,
        plain(LOAD, NUMBER),
        jump(JUMP_GREATER_OR_EQUAL, X32, 0, 1),
        foreign,
    ];
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        by_number.entry(rule.number).or_default().push(rule);
    }
    let mut allowed = Vec::new();
    for (number, rules) in &by_number {
        match rules.as_slice() {
            [Rule { conditions, action: Action::Allow, .. }, ..] if conditions.is_empty() => allowed.push(*number),
            rules => special(&mut program, *number, rules, profile.default)?,
        }
    }
    for (low, high) in ranges(&allowed) {
        program.extend([
            jump(JUMP_GREATER, high, 3, 0),
            jump(JUMP_GREATER_OR_EQUAL, low, 0, 1),
            ret(Action::Allow),
            deny,
        ]);
    }
    program.push(deny);
    if program.len() > INSTRUCTIONS_MAX {
        return Err("seccomp profile is too large".to_owned());
    }
    Ok(program)
}

/// Numbers in a row as one.
fn ranges(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == *number => *high = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}

/// The rules of a system call that is not simply allowed.
fn special(program: &mut Vec<Instruction>, number: u32, rules: &[&Rule], default: Action) -> Result<(), String> {
    let mut body = Vec::new();
    for rule in rules {
        let mut part = rule.conditions.iter().flat_map(condition).collect::<Vec<_>>();
        part.push(ret(rule.action));
        let length = part.len();
        for (at, step) in part.iter_mut().enumerate() {
            let distance = u8::try_from(length - at - 1).map_err(|_| "seccomp rule has too many conditions")?;
            for target in [&mut step.jump_true, &mut step.jump_false] {
                if *target == FAIL {
                    *target = distance;
                }
            }
        }
        body.append(&mut part);
    }
    body.push(ret(default));
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    program.push(jump(JUMP_EQUAL, number, 1, 0));
    program.push(plain(JUMP, length));
    program.append(&mut body);
    Ok(())
}

/// Goes on behind its last instruction when the condition holds, else jumps to [`FAIL`].
fn condition(condition: &Condition) -> Vec<Instruction> {
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (load_low, load_high) = (plain(LOAD, at), plain(LOAD, at + 4));
    match condition.compare {
        Compare::Equal(value) => {
            vec![load_high, jump(JUMP_EQUAL, high(value), 0, FAIL), load_low, jump(JUMP_EQUAL, low(value), 0, FAIL)]
        }
        Compare::NotEqual(value) => {
            vec![load_high, jump(JUMP_EQUAL, high(value), 0, 2), load_low, jump(JUMP_EQUAL, low(value), FAIL, 0)]
        }
        Compare::Masked(mask, value) => vec![
            load_high,
            plain(AND, high(mask)),
            jump(JUMP_EQUAL, high(value), 0, FAIL),
            load_low,
            plain(AND, low(mask)),
            jump(JUMP_EQUAL, low(value), 0, FAIL),
        ],
        Compare::Greater(value) => above(load_high, load_low, value, JUMP_GREATER),
        Compare::GreaterOrEqual(value) => above(load_high, load_low, value, JUMP_GREATER_OR_EQUAL),
        Compare::Less(value) => below(load_high, load_low, value, JUMP_GREATER_OR_EQUAL),
        Compare::LessOrEqual(value) => below(load_high, load_low, value, JUMP_GREATER),
    }
}

fn above(load_high: Instruction, load_low: Instruction, value: u64, last: u16) -> Vec<Instruction> {
    vec![
        load_high,
        jump(JUMP_GREATER, high(value), 3, 0),
        jump(JUMP_EQUAL, high(value), 0, FAIL),
        load_low,
        jump(last, low(value), 0, FAIL),
    ]
}

fn below(load_high: Instruction, load_low: Instruction, value: u64, last: u16) -> Vec<Instruction> {
    vec![
        load_high,
        jump(JUMP_GREATER, high(value), FAIL, 0),
        jump(JUMP_EQUAL, high(value), 0, 2),
        load_low,
        jump(last, low(value), FAIL, 0),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn ret(action: Action) -> Instruction {
    let value = match action {
        Action::Allow => 0x7fff_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Kill => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Log => 0x7ffc_0000,
        Action::Trace(data) => 0x7ff0_0000 | u32::from(data),
    };
    plain(RETURN, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = vec![number, OWN_ARCHITECTURE, 0, 0];
        data.extend(arguments.iter().flat_map(|argument| [low(*argument), high(*argument)]));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, k } = program[at];
            at += 1;
            let condition = match code {
                LOAD => {
                    accumulator = data[k as usize / 4];
                    continue;
                }
                AND => {
                    accumulator &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => accumulator == k,
                JUMP_GREATER => accumulator > k,
                JUMP_GREATER_OR_EQUAL => accumulator >= k,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if condition { jump_true } else { jump_false });
        }
    }

    fn rule(number: u32, conditions: &[(u8, Compare)], action: Action) -> Rule {
        let conditions =
            conditions.iter().map(|(argument, compare)| Condition { argument: *argument, compare: *compare });
        Rule { number, conditions: conditions.collect(), action }
    }

    #[test]
    fn every_comparison_decides_as_it_says() {
        let big = 0x1_0000_0005_u64;
        let around = [0, big - 1, big, big + 1, 5, u64::MAX];
        let cases: [(Compare, fn(u64, u64) -> bool); 6] = [
            (Compare::Equal(big), |a, b| a == b),
            (Compare::NotEqual(big), |a, b| a != b),
            (Compare::Greater(big), |a, b| a > b),
            (Compare::GreaterOrEqual(big), |a, b| a >= b),
            (Compare::Less(big), |a, b| a < b),
            (Compare::LessOrEqual(big), |a, b| a <= b),
        ];
        for (compare, expected) in cases {
            let rules = vec![rule(7, &[(2, compare)], Action::Allow)];
            let program = compile(&Profile { default: Action::Errno(1), rules }).unwrap();
            for value in around {
                let allowed = run(&program, 7, [0, 0, value, 0, 0, 0]) == 0x7fff_0000;
                assert_eq!(allowed, expected(value, big), "{compare:?} {value:#x}");
            }
        }
    }

    #[test]
    fn rules_are_tried_in_order() {
        let rules = vec![
            rule(1, &[], Action::Allow),
            rule(2, &[], Action::Allow),
            rule(4, &[(0, Compare::Masked(0xf0, 0x10)), (1, Compare::Equal(3))], Action::Allow),
            rule(4, &[(0, Compare::Equal(9))], Action::Log),
            rule(5, &[], Action::Errno(38)),
        ];
        let program = compile(&Profile { default: Action::Errno(1), rules }).unwrap();
        let check = |number, first, second, expected| {
            assert_eq!(
                run(&program, number, [first, second, 0, 0, 0, 0]),
                ret(expected).k,
                "{number} {first} {second}"
            );
        };
        check(0, 0, 0, Action::Errno(1));
        check(1, 0, 0, Action::Allow);
        check(2, 0, 0, Action::Allow);
        check(3, 0, 0, Action::Errno(1));
        check(4, 0x1f, 3, Action::Allow);
        check(4, 0x1f, 4, Action::Errno(1));
        check(4, 9, 3, Action::Log);
        check(5, 0, 0, Action::Errno(38));
        check(6, 0, 0, Action::Errno(1));
        check(X32 + 1, 0, 0, Action::Errno(38));
    }
}
