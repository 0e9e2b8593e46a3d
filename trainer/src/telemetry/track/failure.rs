//! Why something was not sent.

use crate::error::Error;

/// Why something was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server, or the run's output, did not answer or is overloaded: worth another try.
    Unreachable(String),
    /// The server answered that it will not do this, whatever the number of tries.
    Refused {
        /// The HTTP status; 0 if none was the reason.
        status: u16,
        /// MLflow's name of the error, as in `RESOURCE_DOES_NOT_EXIST`; empty if the answer has none.
        code: String,
        /// One line for the user.
        message: String,
    },
}

impl Failure {
    /// A refusal for another reason than an HTTP status.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { status: 0, code: String::new(), message: message.into() }
    }

    /// One line for the user.
    pub fn message(&self) -> &str {
        match self {
            Self::Unreachable(message) | Self::Refused { message, .. } => message,
        }
    }
}

impl From<Error> for Failure {
    /// A failure of the run's output.
    fn from(error: Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}
