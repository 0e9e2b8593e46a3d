//! How a stage went, decided from how its ranks ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::error::ExitCode;
use crate::telemetry::event::StageResult;

/// How one rank ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its global rank.
    pub rank: usize,
    /// Its exit code, or `None` after a signal.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its last word.
    pub message: Option<String>,
    /// The field or file that is about.
    pub subject: Option<String>,
    /// Whether it ended before the agent asked anyone to.
    pub of_itself: bool,
}

impl Ending {
    /// Reads a wait status.
    pub fn new(rank: usize, status: ExitStatus, of_itself: bool) -> Self {
        Self {
            rank,
            code: status.code().and_then(|c| u8::try_from(c).ok()),
            signal: status.signal(),
            message: None,
            subject: None,
            of_itself,
        }
    }

    /// Is this a rank that did what it should?
    pub fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// The code as the agent may report it: what no contract names is temporary.
    fn exit_code(&self) -> ExitCode {
        match self.code.map(ExitCode::from_code) {
            Some(ExitCode::Crash(_)) | None => ExitCode::Temporary,
            Some(code) => code,
        }
    }

    /// Did it end by a signal or by a code that no contract names?
    fn crashed(&self) -> bool {
        self.code.is_none_or(|code| matches!(ExitCode::from_code(code), ExitCode::Crash(_)))
    }

    fn text(&self) -> String {
        let rank = self.rank;
        match (&self.message, self.signal, self.code) {
            (Some(message), _, _) => message.clone(),
            (None, Some(9), _) => {
                format!("rank {rank} was killed by signal 9 (SIGKILL); if nobody did, it ran out of memory")
            }
            (None, Some(signal), _) => format!("rank {rank} crashed by signal {signal}"),
            (None, None, Some(code)) => format!("rank {rank} ended with the unexpected code {code}"),
            (None, None, None) => format!("rank {rank} ended in an unknown way"),
        }
    }
}

/// How a stage went on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The agent's exit code.
    pub code: ExitCode,
    /// One line for the user; empty when all is well.
    pub message: String,
    /// The field or file the message is about.
    pub subject: Option<String>,
    /// Rank 0's results, where it runs on this node.
    pub result: StageResult,
}

impl Outcome {
    /// Decides from all endings: the most specific code among ranks that ended of themselves; of equal ones a crash,
    /// which is the cause where others only lost a peer; then the first rank's. `asked` says that the agent itself was told to stop, so every ending counts.
    pub fn of(endings: &[Ending], asked: bool, result: StageResult) -> Self {
        let telling = endings
            .iter()
            .filter(|e| asked || e.of_itself)
            .max_by_key(|e| (e.exit_code().specificity(), e.crashed(), std::cmp::Reverse(e.rank)));
        match telling.filter(|e| !e.is_done()) {
            Some(ending) => {
                Self { code: ending.exit_code(), message: ending.text(), subject: ending.subject.clone(), result }
            }
            None if asked && result == StageResult::default() && endings.is_empty() => Self {
                code: ExitCode::Temporary,
                message: "stopped by SIGTERM before the ranks were started".into(),
                subject: None,
                result,
            },
            None => Self { code: ExitCode::Done, message: String::new(), subject: None, result },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(rank: usize, code: u8, of_itself: bool) -> Ending {
        let message = Some(format!("rank {rank} says {code}"));
        Ending { rank, code: Some(code), signal: None, message, subject: None, of_itself }
    }

    fn killed(rank: usize, signal: i32) -> Ending {
        Ending { rank, code: None, signal: Some(signal), message: None, subject: None, of_itself: true }
    }

    fn code(endings: &[Ending], asked: bool) -> u8 {
        Outcome::of(endings, asked, StageResult::default()).code.code()
    }

    #[test]
    fn the_most_specific_code_wins() {
        for (endings, asked, expected) in [
            (vec![ending(0, 0, true), ending(1, 0, true)], false, 0),
            (vec![ending(0, 75, true), ending(1, 65, true)], false, 65),
            (vec![ending(0, 85, true), ending(1, 75, true)], true, 85),
            (vec![ending(0, 86, true), ending(1, 85, true)], true, 86),
            // A rank that lost its peer is the consequence; the crash is what counts, as 75.
            (vec![ending(0, 75, false), killed(1, 11)], false, 75),
            (vec![ending(0, 134, true)], false, 75),
            // What a rank says after we ended it tells nothing.
            (vec![ending(0, 85, false), ending(1, 75, true)], false, 75),
        ] {
            assert_eq!(code(&endings, asked), expected, "{endings:?}");
        }
    }

    #[test]
    fn a_crash_explains_the_peers_that_lost_it() {
        let endings = [ending(0, 75, true), killed(1, 11), ending(2, 75, true)];
        let outcome = Outcome::of(&endings, false, StageResult::default());
        assert_eq!(outcome.code.code(), 75);
        assert!(outcome.message.contains("rank 1 crashed by signal 11"), "{}", outcome.message);
    }

    #[test]
    fn a_signal_is_named_with_its_rank() {
        let outcome = Outcome::of(&[killed(3, 9)], false, StageResult::default());
        assert!(outcome.message.contains("rank 3") && outcome.message.contains("SIGKILL"), "{}", outcome.message);
    }
}
