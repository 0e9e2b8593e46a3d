//! The agent: one process a pod or machine, which starts a rank process a GPU and answers for them.
//!
//! It hosts the store of the rendezvous on node 0 ([`topology`] says who that is), relays the ranks' output,
//! keeps the [`RunStatus`] that `/metrics` and `/progress` show, ends the others when one rank fails
//! ([`supervise()`]), and says with one exit code and one [`termination`] message how it went ([`outcome`]).

pub mod http;
pub mod local;
pub mod outcome;
pub mod reap;
pub mod rendezvous;
pub mod status;
pub mod supervise;
pub mod termination;
pub mod topology;

pub use outcome::Outcome;
pub use status::RunStatus;
pub use supervise::{Spec, supervise};
pub use topology::Topology;
