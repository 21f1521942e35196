//! Maintenance tasks of the repository.

fn main() {}
