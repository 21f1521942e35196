//! Profiles in files. Source: OCI runtime specification, config-linux "Seccomp".

use serde::Deserialize;

use super::{Action, Compare, Condition, Profile, Rule, numbers};

const EPERM: u16 = 1;
const ARGUMENTS_MAX: u32 = 6;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Reads a profile. System calls that this machine does not have are left out, as elsewhere.
pub(super) fn parse(text: &[u8]) -> Result<Profile, String> {
    let file: File = serde_json::from_slice(text).map_err(|error| format!("decode seccomp profile failed: {error}"))?;
    let default = action(&file.default_action, file.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in &file.syscalls {
        let action = action(&entry.action, entry.errno_ret)?;
        let conditions = entry.args.iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
        for number in entry.names.iter().filter_map(|name| numbers::number(name)) {
            rules.extend(alternatives(&conditions).into_iter().map(|conditions| Rule { number, conditions, action }));
        }
    }
    // Rules without conditions come last for their call, or they would hide the others.
    rules.sort_by_key(|rule| rule.conditions.is_empty());
    Ok(Profile { default, rules })
}

/// Several conditions on one argument are alternatives, on several arguments they hold together. Source: runc
/// `libcontainer/seccomp` `matchCall`.
fn alternatives(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let mut seen = std::collections::BTreeSet::new();
    let repeated = conditions.iter().any(|condition| !seen.insert(condition.argument));
    if repeated { conditions.iter().map(|condition| vec![*condition]).collect() } else { vec![conditions.to_vec()] }
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    let Argument { index, value, value_two, op } = argument;
    let compare = match op.as_str() {
        "SCMP_CMP_EQ" => Compare::Equal(*value),
        "SCMP_CMP_NE" => Compare::NotEqual(*value),
        "SCMP_CMP_MASKED_EQ" => Compare::Masked(*value, *value_two),
        "SCMP_CMP_GT" => Compare::Greater(*value),
        "SCMP_CMP_GE" => Compare::GreaterOrEqual(*value),
        "SCMP_CMP_LT" => Compare::Less(*value),
        "SCMP_CMP_LE" => Compare::LessOrEqual(*value),
        other => return Err(format!("string {other} is not a valid operator for seccomp")),
    };
    let argument = u8::try_from(*index).ok().filter(|_| *index < ARGUMENTS_MAX);
    let argument = argument.ok_or_else(|| format!("seccomp argument index {index} is out of range"))?;
    Ok(Condition { argument, compare })
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::Kill,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        other => return Err(format!("string {other} is not a valid action for seccomp")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let text =
            br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["write"], "action": "SCMP_ACT_LOG", "args": [
                    {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#;
        let profile = parse(text).unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        let shown = profile.rules.iter().map(|rule| (rule.number, rule.conditions.len(), rule.action));
        let (read, write) = (numbers::number("read").unwrap(), numbers::number("write").unwrap());
        let expected = [(write, 1, Action::Log), (write, 1, Action::Log), (read, 0, Action::Allow)];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        assert!(parse(b"{}").is_err());
        assert!(parse(br#"{"defaultAction": "SCMP_ACT_DANCE"}"#).is_err());
    }
}
