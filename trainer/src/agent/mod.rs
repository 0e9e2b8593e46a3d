//! The agent: one process per pod or machine, which starts one rank per GPU and supervises them.
//!
//! [`node`] runs one stage on one node, [`local`] a whole run on this machine. The agent hosts the rendezvous store if
//! it is node 0's ([`topology`]), relays the ranks' output, keeps the [`RunStatus`] that [`http`] serves, stops all
//! ranks when one fails ([`supervise()`]), and reports the [`outcome`] by one exit code and one [`termination`] message. That
//! of node 0 also reports to an experiment tracker, if the run names one ([`tracking`]).

pub mod http;
pub mod local;
pub mod node;
pub mod outcome;
pub mod reap;
pub mod rendezvous;
pub mod run_result;
pub mod status;
pub mod supervise;
pub mod termination;
pub mod timeouts;
pub mod topology;
pub mod tracking;

pub use outcome::Outcome;
pub use status::RunStatus;
pub use supervise::{NodeStage, supervise};
pub use timeouts::Timeouts;
pub use topology::Topology;
