//! Why a process ended.

use crate::ExitCode;
use crate::lenient::open_enum;

open_enum! {
    /// Why an agent ended, in one word: for logs, Events, conditions and the termination message.
    ///
    /// Finer than [`ExitCode`], which decides what happens next: 86 is both [`Diverged`](Self::Diverged) and
    /// [`Collapsed`](Self::Collapsed).
    FailureReason {
        /// It did not fail.
        Done = "Done",
        /// Bad command line or environment (64).
        BadUsage = "BadUsage",
        /// Bad data (65).
        BadData = "BadData",
        /// A peer or the storage was lost (75).
        Temporary = "Temporary",
        /// A field of the run cannot be honoured (78).
        BadConfiguration = "BadConfiguration",
        /// The storage refuses the credentials or permits too little (78).
        AccessDenied = "AccessDenied",
        /// SIGTERM arrived and a checkpoint was written (85).
        Preempted = "Preempted",
        /// The loss is not finite (86).
        Diverged = "Diverged",
        /// The representation collapsed for longer than allowed (86).
        Collapsed = "Collapsed",
        /// A signal, or an exit code that is not part of the contract.
        Crashed = "Crashed",
    }
}

impl From<ExitCode> for FailureReason {
    /// The reason that an exit code alone gives.
    fn from(code: ExitCode) -> Self {
        match code {
            ExitCode::Done => Self::Done,
            ExitCode::Usage => Self::BadUsage,
            ExitCode::Data => Self::BadData,
            ExitCode::Temporary => Self::Temporary,
            ExitCode::Config => Self::BadConfiguration,
            ExitCode::Preempted => Self::Preempted,
            ExitCode::Diverged => Self::Diverged,
            ExitCode::Crash(_) => Self::Crashed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_of_known_name_round_trips() {
        for reason in FailureReason::KNOWN {
            assert_eq!(&FailureReason::from(reason.name()), reason);
        }
    }

    #[test]
    fn reason_of_unknown_name_is_kept() {
        let reason: FailureReason = serde_json::from_str(r#""GpuLost""#).unwrap();
        assert_eq!(reason, FailureReason::Other("GpuLost".into()));
        assert_eq!(serde_json::to_string(&reason).unwrap(), r#""GpuLost""#);
    }
}
