//! Priority and fairness: which request is worked on now, which waits, which is turned away.
//!
//! [`Config::read`] makes FlowSchema and PriorityLevelConfiguration objects comparable with requests; [`Config::classify`]
//! names the schema and the flow of one; [`Work::estimate`] says what it costs; [`Flow`] keeps the seats of every priority
//! level, queues by flow where they are taken, and lets levels borrow what others do not use. Time is an argument, so that
//! simulations decide about fairness in tests. Only queues that hold something exist: a level with ten million queues costs
//! nothing. It never waits, and it knows nothing of HTTP. Source: KEP-1040, `k8s.io/apiserver/pkg/util/flowcontrol`.

mod classify;
mod config;
mod demand;
mod drops;
mod flow;
mod level;
mod share;
mod work;

pub use classify::{Classified, Request};
pub use config::{Config, Distinguisher, LevelSpec, Response, Schema, condition};
pub use drops::Drops;
pub use flow::{Counts, Flow, LevelReport, QueueReport, Rejected, WaitingReport};
pub use level::Ticket;
pub use work::{Load, Work};
