//! The binary: picks the personality by subcommand and runs it.
//!
//! Containers start through this same file: the runtime runs it again as shim and as the first process of a container.
//! Those personalities are looked at before anything else, so that they never pay for what only the server needs.

/// As `println!`, but nobody who reads it is no reason to end.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod api_flags;
mod demo;
mod registries;
mod reset;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Coracle is Kubernetes in one binary: `coracle up` runs a whole cluster.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Command {
    /// Runs a whole cluster in the foreground.
    Up(up::Options),
    /// Stops every pod and removes everything that Coracle did to this host.
    Reset(reset::Options),
    /// Measures an API server, this one or any other.
    #[command(subcommand)]
    Bench(coracle_bench::Bench),
    #[command(flatten)]
    Cli(coracle_cli::Command),
    /// The web application of `up --demo`.
    #[command(hide = true)]
    DemoWeb(demo::WebOptions),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(code) = coracle_runtime::personality(&arguments) {
        return ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1));
    }
    let arguments = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return unread(&arguments, &error),
    };
    if let Command::Cli(_) = arguments.command {
        // Who asked to see something may go before all of it is shown: `| head`.
        coracle_host::process::end_with_reader();
    }
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            // kubectl's own words stay as they are.
            let as_it_is = text.starts_with("error:")
                || text.starts_with("Error from server")
                || text.starts_with("the server doesn't have");
            eprintln!("{}{text}", if as_it_is { "" } else { "coracle: " });
            ExitCode::FAILURE
        }
    }
}

/// kubectl has its own words for a flag that it does not know, and another exit code.
fn unread(arguments: &[String], error: &clap::Error) -> ExitCode {
    let kubectl = arguments.get(1).is_some_and(|word| word == "kubectl");
    let flag = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string);
    match flag {
        Some(flag) if kubectl && error.kind() == clap::error::ErrorKind::UnknownArgument && flag.starts_with('-') => {
            let verb = arguments.get(2).map(String::as_str).unwrap_or_default();
            let what = match flag.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
                Some(short) => {
                    format!("unknown shorthand flag: '{}' in {flag}", short.chars().next().unwrap_or_default())
                }
                None => format!("unknown flag: {flag}"),
            };
            eprintln!("Error: {what}\nSee 'kubectl {verb} --help' for usage.");
            ExitCode::FAILURE
        }
        _ => error.exit(),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Up(options) => up::run(options).await,
            Command::Reset(options) => reset::run(options).await,
            Command::Bench(bench) => coracle_bench::run(bench).await.map(|()| ExitCode::SUCCESS),
            Command::Cli(command) => coracle_cli::run(command).await,
            Command::DemoWeb(options) => demo::serve(options).await.map(|()| ExitCode::SUCCESS),
        }
    })
}
