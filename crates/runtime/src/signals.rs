//! Signals by name, as images and pods write them.

/// Names without `SIG`, by number from 1. Source: signal(7), x86 and ARM.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The first and the last real-time signal, as C libraries count.
const REAL_TIME: (i32, i32) = (34, 64);

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
pub(crate) fn number(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = name.parse::<i32>() {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => REAL_TIME.0 + offset(rest)?,
        (_, Some(rest)) => REAL_TIME.1 + offset(rest)?,
        _ => return None,
    };
    (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number)
}

/// The full name for status: `SIGTERM` when nothing is asked for.
pub(crate) fn name(text: &str) -> String {
    let Some(number) = number(text) else { return "SIGTERM".to_owned() };
    let listed = usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at));
    match listed {
        Some(name) => format!("SIG{name}"),
        None if number == REAL_TIME.0 => "SIGRTMIN".to_owned(),
        None if number == REAL_TIME.1 => "SIGRTMAX".to_owned(),
        None => format!("SIGRTMIN+{}", number - REAL_TIME.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let numbers = ["SIGTERM", "quit", "9", "SIGRTMIN+3", "SIGRTMAX", "SIGNOPE", "99"].map(number);
        assert_eq!(numbers, [Some(15), Some(3), Some(9), Some(37), Some(64), None, None]);
        assert_eq!(["", "3", "SIGRTMIN+3"].map(name), ["SIGTERM", "SIGQUIT", "SIGRTMIN+3"]);
        assert_eq!(number("SYS"), Some(libc::SIGSYS));
    }
}
