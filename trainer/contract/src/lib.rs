//! The contract between the trainer and whatever supervises it: the operator, a script, or another scheduler.
//!
//! Every document, name and number that crosses the process boundary is defined here once and used by both sides:
//!
//! - [`ExitCode`] and [`FailureReason`]: how a process ended, and why;
//! - [`TerminationMessage`]: the JSON document that an agent leaves when it exits;
//! - [`Progress`] and [`RankPhase`]: the JSON document that a running agent serves at `/progress`;
//! - [`StageResult`]: what a finished stage measured;
//! - [`WorkerCommand`]: the command line that starts an agent on a node;
//! - [`names`]: ports, paths, environment variables, labels and annotations.
//!
//! Trainer and operator may be of different versions. A reader therefore keeps names that it does not know
//! ([`FailureReason::Other`], [`RankPhase::Other`]), ignores fields that it does not know, and treats a field that it
//! cannot read as absent. The files in `tests/golden` hold the wire format, so that a change to it shows in review.
//!
//! ```
//! use simsiam_contract::{ExitCode, FailureReason, TerminationMessage};
//!
//! let text = r#"{"code": 86, "reason": "Collapsed", "message": "output std 0.0001", "stage": "pretrain", "step": 40}"#;
//! let message = TerminationMessage::parse(text);
//! assert_eq!(ExitCode::from_code(message.code.unwrap()), ExitCode::Diverged);
//! assert_eq!(message.reason, Some(FailureReason::Collapsed));
//! ```

mod exit_code;
mod lenient;
pub mod names;
mod progress;
mod reason;
mod result;
mod termination;
mod worker;

pub use exit_code::ExitCode;
pub use progress::{Checkpoint, Progress, RankPhase};
pub use reason::FailureReason;
pub use result::{ClassifierScore, Exported, KnnScore, StageResult, headline};
pub use termination::TerminationMessage;
pub use worker::WorkerCommand;
