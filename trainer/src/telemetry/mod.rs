//! What ranks report while they run.
//!
//! Every rank sends [`event`]s through its [`sink`] to the agent, which turns them into [`metrics`] and a [`progress`]
//! document and shows them on a terminal ([`display`]). Rank 0 also keeps them in the run's output, as the
//! [`journal`]. What is measured is defined once, in the [`metric_table`]. An agent also sends it to a tracker, if the run
//! names one ([`track`]).

pub mod display;
pub mod encoder_kind;
pub mod event;
pub mod journal;
pub mod metric;
pub mod metric_table;
pub mod metrics;
pub mod progress;
pub mod sink;
pub mod track;
pub mod values;

pub use encoder_kind::EncoderKind;
pub use event::Event;
pub use metrics::Metrics;
pub use progress::ProgressTracker;
pub use sink::Sink;
