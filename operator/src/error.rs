//! What can go wrong in the operator itself. A variant's name is the reason in metrics, Events and conditions.

/// An error of one reconciliation, or of the operator's start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An API server did not do what was asked.
    #[error("cannot {action} {kind} {name}: {}", words(source))]
    Api {
        /// `create`, `apply`, `delete` …
        action: &'static str,
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the server said.
        source: kube::Error,
    },
    /// No way to the API server is configured.
    #[error("no Kubernetes API server is configured: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Configuration(String),
    /// The leases of leader election could not be used.
    #[error("leader election: {0}; may the service account get, create and patch leases in {1}?")]
    Lease(String, String),
    /// A socket could not be had.
    #[error("cannot serve on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// A bug: something of the operator's own making is malformed.
    #[error("internal: {0}")]
    Internal(String),
}

impl Error {
    /// One word for metrics, Events and conditions: a bounded set.
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
            Self::Configuration(_) => "Configuration",
            Self::Lease(..) => "Lease",
            Self::Listen(..) => "Listen",
            Self::Internal(_) => "Internal",
        }
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
