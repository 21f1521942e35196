//! The shim alone, for tests: a test program has a `main` of its own.

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    std::process::exit(coracle_runtime::personality(&arguments).unwrap_or(2));
}
