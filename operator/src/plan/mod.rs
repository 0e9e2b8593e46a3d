//! What to do next: a pure function of a run, of its observed children and of the time.
//!
//! A run goes through its stages, each in one or more attempts, each attempt one Job. An attempt's number and its end are
//! written to the status before anything is done about them, and a status is only written over the version that was
//! planned from. So no attempt is created or counted twice, however stale the caches are and wherever the operator is
//! stopped.
//!
//! [`plan()`] decides what the run needs; `attempt` takes its current stage a step further; `classify` says how an
//! attempt ended, `budget` whether another may follow; `cleanup`, `conditions`, `display`, `finish`, `missing`,
//! `results` and `summary` do one thing each.

mod attempt;
mod budget;
mod classify;
mod cleanup;
mod conditions;
mod decide;
mod display;
mod finish;
mod missing;
mod planner;
mod results;
mod summary;
mod time;
mod types;

pub use budget::RestartKind;
pub use classify::{AttemptOutcome, BAD_STARTS, ExitCause, classify_exit};
pub use conditions::{set_reconciled, unreadable_status};
pub use decide::plan;
pub use types::{Action, EventKind, Input, Plan, PlannedEvent};
