//! kubectl-compatible and container-engine commands.
