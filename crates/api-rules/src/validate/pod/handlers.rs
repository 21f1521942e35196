//! Probes and lifecycle hooks.

use coracle_api_meta::Value;

use crate::at::{At, Errors};
use crate::formats::{http_header_name, port_name, port_number};

/// A port by number or by name.
pub(crate) fn port(port: &At<'_>, errors: &mut Errors) {
    match port.value() {
        Value::String(name) => port.invalid_all(errors, port_name(name)),
        _ => {
            for text in port_number(port.int()) {
                port.invalid_as(errors, port.int(), text);
            }
        }
    }
}

const PROBE_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

fn handler(handler: &At<'_>, kinds: &[&'static str], grace: Option<i64>, errors: &mut Errors) {
    let given: Vec<&'static str> = kinds.iter().copied().filter(|kind| handler.has(kind)).collect();
    for (index, kind) in given.iter().enumerate() {
        let action = handler.get(kind);
        if index > 0 {
            action.forbidden(errors, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                if action.get("command").is_empty() {
                    action.get("command").required(errors, "");
                }
            }
            "httpGet" => http_get(&action, errors),
            "sleep" => sleep(&action, grace, errors),
            _ => port(&action.get("port"), errors),
        }
    }
    if given.is_empty() {
        handler.required(errors, "must specify a handler type");
    }
}

fn http_get(get: &At<'_>, errors: &mut Errors) {
    if get.text("path").is_empty() {
        get.get("path").required(errors, "");
    }
    port(&get.get("port"), errors);
    get.get("scheme").one_of(errors, &["HTTP", "HTTPS"]);
    let headers = get.get("httpHeaders");
    for header in headers.items() {
        for text in http_header_name(header.text("name")) {
            headers.invalid_as(errors, header.text("name"), text);
        }
    }
}

fn sleep(sleep: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    let seconds = sleep.number("seconds");
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let text = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        sleep.invalid_as(errors, seconds, text);
    }
}

fn probe(probe: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    handler(probe, PROBE_HANDLERS, grace, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.get(field).non_negative(errors);
    }
    let own = probe.get("terminationGracePeriodSeconds");
    if own.exists() && own.int() <= 0 {
        own.invalid(errors, "must be greater than 0");
    }
}

pub(crate) fn probes(container: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let found = container.get(field);
        if !found.exists() {
            continue;
        }
        probe(&found, grace, errors);
        if field == "readinessProbe" {
            let own = found.get("terminationGracePeriodSeconds");
            if own.exists() {
                own.invalid(errors, "must not be set for readinessProbes");
            }
        } else if found.number("successThreshold") != 1 {
            found.get("successThreshold").invalid_as(errors, found.number("successThreshold"), "must be 1");
        }
    }
}

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

pub(crate) fn lifecycle(lifecycle: &At<'_>, grace: Option<i64>, system: &At<'_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"].map(|field| lifecycle.get(field)).iter().filter(|hook| hook.exists()) {
        handler(hook, HOOK_HANDLERS, grace, errors);
    }
    let signal = lifecycle.get("stopSignal");
    if !signal.exists() {
        return;
    }
    match system.text("name") {
        _ if !system.exists() => signal.forbidden(errors, "may not be set for containers with empty `spec.os.name`"),
        "windows" => signal.one_of(errors, &["SIGKILL", "SIGTERM"]),
        "linux" => signal.one_of(errors, SIGNALS),
        _ => {}
    }
}
