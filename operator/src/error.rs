//! Errors of the operator itself. A variant's reason is the label in metrics and the reason in Events and conditions.

/// The reason of a name that another object has.
pub const NAME_TAKEN: &str = "NameTaken";

/// An error of one reconciliation, or of the operator's start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a request, or did not answer.
    #[error("cannot {action} {kind} {name}: {}", message_of(source))]
    Api {
        /// `create`, `apply`, `delete` …
        action: &'static str,
        /// The kind of object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// The server's answer.
        source: kube::Error,
    },
    /// An object with the name of one of the run's exists and does not belong to the run.
    #[error("{kind} {name} already exists and is not this run's: {owner}; delete it, or give the run another name")]
    NameTaken {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// No API server is configured.
    #[error("no Kubernetes API server is configured: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Configuration(String),
    /// The lease of leader election cannot be used.
    #[error("leader election failed: {0}; check that the service account may get, create and patch leases in {1}")]
    Lease(String, String),
    /// The HTTP server cannot listen.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// A bug: an object that the operator made, or that an API server should have completed, is malformed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The reason in metrics, Events and conditions, one of a bounded set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => match status.code {
                403 if status.message.contains("exceeded quota") => "QuotaExceeded",
                401 | 403 => "Forbidden",
                404 => "NotFound",
                409 => "Conflict",
                422 => "Invalid",
                429 => "TooManyRequests",
                _ => "ServerError",
            },
            Self::Api { .. } => "Unreachable",
            Self::NameTaken { .. } => NAME_TAKEN,
            Self::Configuration(_) => "Configuration",
            Self::Lease(..) => "Lease",
            Self::Listen(..) => "Listen",
            Self::Internal(_) => "Internal",
        }
    }
}

impl From<crate::api::MissingMetadata> for Error {
    fn from(missing: crate::api::MissingMetadata) -> Self {
        Self::Internal(missing.to_string())
    }
}

fn message_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
