//! What a run tells of itself: [`event`]s from every rank to its agent, which keeps [`metrics`] and a
//! [`progress`] document, serves both over [`http`], and draws them on a terminal ([`display`]). Rank 0 keeps them
//! in the run's output as well, as the [`journal`].

pub mod display;
pub mod event;
pub mod journal;
pub mod metrics;
pub mod progress;

pub use event::{Event, Sink};
pub use metrics::Metrics;
pub use progress::Progress;
