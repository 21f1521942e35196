//! Upstream's `SetDefaults_*` and the defaults of its generated code, kind by kind. Each is idempotent.
//!
//! They also write what Go always writes (`resources: {}`, `strategy: {}`, `status: {}`), since controllers compare the bytes.

pub mod apps;
pub mod batch;
pub mod core;
pub mod other;
pub mod pod;
