//! Work that one rank does for all: rank 0 alone, with its outcome on every rank.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use simsiam_contract::FailureReason;

use crate::dist::rank::Rank;
use crate::error::{Error, ExitCode};

/// An error as it travels between ranks.
#[derive(Serialize, Deserialize)]
struct Failure {
    code: u8,
    reason: FailureReason,
    message: String,
    subject: Option<String>,
}

impl Failure {
    fn of(error: &Error) -> Self {
        let (reason, subject) = (error.reason(), error.subject());
        Self { code: error.exit_code().code(), reason, message: error.to_string(), subject }
    }

    fn into_error(self) -> Error {
        let Self { code, reason, message, subject } = self;
        Error::Stage { code: ExitCode::from_code(code), reason, message, subject }
    }
}

impl Rank {
    /// Runs `work` on rank 0 and returns its outcome on every rank. `during` names the operation.
    ///
    /// All ranks must make the same calls in the same order. Code that reads or lists shared storage belongs in here: two
    /// ranks that read it independently could get different results.
    ///
    /// # Errors
    /// Rank 0 returns the error of `work`; the others return [`Error::Stage`] with its exit code and message, so that no
    /// rank waits for a peer that has failed. [`Error::PeerLost`] if rank 0 does not answer.
    pub fn on_rank_0<T: Serialize + DeserializeOwned>(
        &self,
        during: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.is_first() {
            return self.broadcast_object::<Result<T, Failure>>(during, None)?.map_err(Failure::into_error);
        }
        match work() {
            Ok(value) => self.broadcast_object(during, Some(Ok::<T, Failure>(value)))?.map_err(Failure::into_error),
            Err(error) => {
                // The error of `work` is the cause, whether or not the others can still be reached.
                if let Err(unsent) = self.broadcast_object(during, Some(Err::<T, Failure>(Failure::of(&error)))) {
                    tracing::warn!("the other ranks were not informed: {unsent}");
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::testing;

    #[test]
    fn value_of_rank_0_is_returned_on_every_rank() {
        let got = testing::on_each_rank(2, |rank| rank.on_rank_0("a test", || Ok(rank.info.rank + 7)).unwrap());
        assert_eq!(got, [7, 7]);
    }

    #[test]
    fn error_on_rank_0_reaches_every_rank_with_its_exit_code() {
        let failed = || Err::<(), _>(Error::Checkpoint { uri: "s3://b/c".into(), message: "is damaged".into() });
        let got = testing::on_each_rank(2, |rank| {
            let error = rank.on_rank_0("a test", failed).unwrap_err();
            assert_eq!(rank.is_first(), matches!(error, Error::Checkpoint { .. }), "{error:?}");
            (error.exit_code(), error.reason(), error.to_string(), error.subject())
        });
        let (message, subject) = ("checkpoint s3://b/c: is damaged".to_owned(), Some("s3://b/c".to_owned()));
        let expected = (ExitCode::Data, FailureReason::BadData, message, subject);
        assert_eq!(got, [expected.clone(), expected]);
    }

    #[test]
    fn work_on_a_rank_alone_needs_no_peers() {
        assert_eq!(Rank::alone(1).unwrap().on_rank_0("a test", || Ok(1)).unwrap(), 1);
    }
}
