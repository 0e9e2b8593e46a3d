//! Exit codes of agents and ranks.

/// How a `simsiam` process ended, by its exit code (those of BSD's `sysexits.h` where one fits).
///
/// A supervisor decides by it: [`Usage`](Self::Usage), [`Data`](Self::Data), [`Config`](Self::Config) and
/// [`Diverged`](Self::Diverged) end a run, [`Temporary`](Self::Temporary) and [`Crash`](Self::Crash) are retried and
/// counted, [`Preempted`](Self::Preempted) is retried without being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitCode {
    /// 0: the stage is done.
    Done,
    /// 64: bad command line or environment.
    Usage,
    /// 65: bad data: no images, an unreadable image or shard, an incompatible checkpoint.
    Data,
    /// 75: temporary: a peer was lost, rendezvous timed out, storage is unreachable.
    Temporary,
    /// 78: bad configuration: a field of the run cannot be honoured.
    Config,
    /// 85: SIGTERM arrived and a checkpoint was written in response.
    Preempted,
    /// 86: the loss is not finite, or the representation collapsed for longer than allowed.
    Diverged,
    /// Any other code, as a shell reports it (128 + signal after a signal).
    Crash(u8),
}

impl ExitCode {
    /// The number that a process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Data => 65,
            Self::Temporary => 75,
            Self::Config => 78,
            Self::Preempted => 85,
            Self::Diverged => 86,
            Self::Crash(code) => code,
        }
    }

    /// The meaning of the number that a process exited with.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            64 => Self::Usage,
            65 => Self::Data,
            75 => Self::Temporary,
            78 => Self::Config,
            85 => Self::Preempted,
            86 => Self::Diverged,
            other => Self::Crash(other),
        }
    }

    /// Whether the same attempt would fail again: a supervisor must not retry it.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Usage | Self::Data | Self::Config | Self::Diverged)
    }

    /// How much a code explains, from 0: of the codes of several ranks the agent reports the most specific.
    pub const fn specificity(self) -> u8 {
        match self {
            Self::Usage | Self::Config | Self::Data | Self::Diverged => 3,
            Self::Preempted => 2,
            Self::Temporary | Self::Crash(_) => 1,
            Self::Done => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_every_number_round_trips() {
        for code in 0..=255u8 {
            assert_eq!(ExitCode::from_code(code).code(), code);
        }
    }

    #[test]
    fn specificity_of_permanent_error_is_highest() {
        assert!(ExitCode::Config.specificity() > ExitCode::Preempted.specificity());
        assert!(ExitCode::Preempted.specificity() > ExitCode::Crash(137).specificity());
        assert!(ExitCode::Crash(137).specificity() > ExitCode::Done.specificity());
    }

    #[test]
    fn permanent_codes_are_those_that_end_a_run() {
        let permanent: Vec<u8> = (0..=255).filter(|code| ExitCode::from_code(*code).is_permanent()).collect();
        assert_eq!(permanent, [64, 65, 78, 86]);
    }
}
