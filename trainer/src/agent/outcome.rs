//! How a stage went, decided from how its ranks ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use simsiam_contract::{ExitCode, FailureReason, StageResult};

use crate::error::Error;

/// How one rank ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankExit {
    /// Its global rank.
    pub rank: usize,
    /// Its exit code, or `None` after a signal.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it failed, as it reported.
    pub reason: Option<FailureReason>,
    /// Its error message, as it reported.
    pub message: Option<String>,
    /// The field or file that the message is about.
    pub subject: Option<String>,
    /// The last lines that it printed on standard error, if it reported no message.
    pub last_lines: Vec<String>,
    /// Whether it ended on its own, before the agent stopped any rank.
    pub on_its_own: bool,
}

impl RankExit {
    /// Reads a wait status.
    pub fn new(rank: usize, status: ExitStatus, on_its_own: bool) -> Self {
        Self {
            rank,
            code: status.code().and_then(|c| u8::try_from(c).ok()),
            signal: status.signal(),
            reason: None,
            message: None,
            subject: None,
            last_lines: Vec::new(),
            on_its_own,
        }
    }

    /// Whether the rank finished its stage.
    pub fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// The code that the agent reports for it: a crash is temporary.
    fn exit_code(&self) -> ExitCode {
        match self.code.map(ExitCode::from_code) {
            Some(ExitCode::Crash(_)) | None => ExitCode::Temporary,
            Some(code) => code,
        }
    }

    /// Whether it ended by a signal or by a code that is not part of the contract.
    fn crashed(&self) -> bool {
        self.code.is_none_or(|code| matches!(ExitCode::from_code(code), ExitCode::Crash(_)))
    }

    /// The reason that the agent reports for it, which agrees with [`exit_code`](Self::exit_code).
    fn reason(&self) -> FailureReason {
        match &self.reason {
            Some(reason) if !self.crashed() => reason.clone(),
            _ => self.exit_code().into(),
        }
    }

    fn text(&self) -> String {
        match self.last_lines.as_slice() {
            [] => self.cause(),
            lines => format!("{}; its last lines: {}", self.cause(), lines.join(" | ")),
        }
    }

    fn cause(&self) -> String {
        let rank = self.rank;
        match (&self.message, self.signal, self.code) {
            (Some(message), _, _) => message.clone(),
            (None, Some(9), _) => format!("rank {rank} was killed by SIGKILL, probably by the OOM killer"),
            (None, Some(signal), _) => format!("rank {rank} crashed with signal {signal}"),
            (None, None, Some(code)) => format!("rank {rank} exited with the unexpected code {code}"),
            (None, None, None) => format!("rank {rank} ended for an unknown reason"),
        }
    }
}

/// How a stage ended on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The agent's exit code.
    pub code: ExitCode,
    /// Why it ended, in one word.
    pub reason: FailureReason,
    /// One line for the user; empty when all is well.
    pub message: String,
    /// The field or file the message is about.
    pub subject: Option<String>,
    /// Rank 0's results, where it runs on this node.
    pub result: StageResult,
}

impl Outcome {
    /// Decides from the endings of all ranks.
    ///
    /// The most specific code among ranks that ended on their own wins; of equal ones a crash, which is the cause where
    /// others only lost a peer; then the lowest rank's. If the agent itself was stopped, every ending counts.
    pub fn of(endings: &[RankExit], stopped: bool, result: StageResult) -> Self {
        let cause = endings
            .iter()
            .filter(|e| stopped || e.on_its_own)
            .max_by_key(|e| (e.exit_code().specificity(), e.crashed(), std::cmp::Reverse(e.rank)));
        match cause.filter(|e| !e.is_done()) {
            Some(ending) => Self {
                code: ending.exit_code(),
                reason: ending.reason(),
                message: ending.text(),
                subject: ending.subject.clone(),
                result,
            },
            None if stopped && result == StageResult::default() && endings.is_empty() => {
                Self::temporary("stopped by SIGTERM before the ranks were started".into(), result)
            }
            None => {
                let (code, reason) = (ExitCode::Done, FailureReason::Done);
                Self { code, reason, message: String::new(), subject: None, result }
            }
        }
    }

    /// `Ok` if all is done, else the error of the stage.
    pub fn into_result(self) -> Result<(), Error> {
        let Self { code, reason, message, subject, .. } = self;
        if code == ExitCode::Done { Ok(()) } else { Err(Error::Stage { code, reason, message, subject }) }
    }

    /// A failure that may pass by itself (75).
    pub fn temporary(message: String, result: StageResult) -> Self {
        Self { code: ExitCode::Temporary, reason: FailureReason::Temporary, message, subject: None, result }
    }
}

impl From<&Error> for Outcome {
    /// The outcome of an agent that failed before its ranks ran.
    fn from(error: &Error) -> Self {
        Self {
            code: error.exit_code(),
            reason: error.reason(),
            message: error.to_string(),
            subject: error.subject(),
            result: StageResult::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(rank: usize, code: u8, on_its_own: bool) -> RankExit {
        let (reason, message) = (Some(ExitCode::from_code(code).into()), Some(format!("rank {rank} says {code}")));
        RankExit {
            rank,
            code: Some(code),
            signal: None,
            reason,
            message,
            subject: None,
            last_lines: Vec::new(),
            on_its_own,
        }
    }

    fn killed(rank: usize, signal: i32) -> RankExit {
        let (reason, message, subject) = (None, None, None);
        RankExit {
            rank,
            code: None,
            signal: Some(signal),
            reason,
            message,
            subject,
            last_lines: Vec::new(),
            on_its_own: true,
        }
    }

    fn code(endings: &[RankExit], stopped: bool) -> u8 {
        Outcome::of(endings, stopped, StageResult::default()).code.code()
    }

    #[test]
    fn outcome_of_several_codes_is_the_most_specific() {
        for (endings, stopped, expected) in [
            (vec![ending(0, 0, true), ending(1, 0, true)], false, 0),
            (vec![ending(0, 75, true), ending(1, 65, true)], false, 65),
            (vec![ending(0, 85, true), ending(1, 75, true)], true, 85),
            (vec![ending(0, 86, true), ending(1, 85, true)], true, 86),
            // A rank that lost its peer is the consequence; the crash is what counts, as 75.
            (vec![ending(0, 75, false), killed(1, 11)], false, 75),
            (vec![ending(0, 134, true)], false, 75),
            // How a rank ends after the agent stopped it explains nothing.
            (vec![ending(0, 85, false), ending(1, 75, true)], false, 75),
        ] {
            assert_eq!(code(&endings, stopped), expected, "{endings:?}");
        }
    }

    #[test]
    fn outcome_of_a_crash_and_lost_peers_names_the_crash() {
        let endings = [ending(0, 75, true), killed(1, 11), ending(2, 75, true)];
        let outcome = Outcome::of(&endings, false, StageResult::default());
        assert_eq!(outcome.code.code(), 75);
        assert!(outcome.message.contains("rank 1 crashed with signal 11"), "{}", outcome.message);
    }

    #[test]
    fn outcome_of_a_signal_names_signal_and_rank() {
        let outcome = Outcome::of(&[killed(3, 9)], false, StageResult::default());
        assert!(outcome.message.contains("rank 3") && outcome.message.contains("SIGKILL"), "{}", outcome.message);
    }

    #[test]
    fn outcome_of_a_crash_has_the_ranks_last_lines() {
        let last_lines = vec!["NCCL watchdog".to_owned(), "terminate called".to_owned()];
        let outcome = Outcome::of(&[RankExit { last_lines, ..killed(2, 6) }], false, StageResult::default());
        assert_eq!(outcome.message, "rank 2 crashed with signal 6; its last lines: NCCL watchdog | terminate called");
    }

    #[test]
    fn outcome_reason_is_the_ranks_unless_it_crashed() {
        let collapsed = RankExit { reason: Some(FailureReason::Collapsed), ..ending(0, 86, true) };
        let outcome = Outcome::of(&[collapsed], false, StageResult::default());
        assert_eq!((outcome.code, outcome.reason), (ExitCode::Diverged, FailureReason::Collapsed));
        let crashed = RankExit { reason: Some(FailureReason::Crashed), ..ending(0, 1, true) };
        assert_eq!(Outcome::of(&[crashed], false, StageResult::default()).reason, FailureReason::Temporary);
    }
}
