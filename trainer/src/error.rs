//! Everything that can go wrong, as messages that a user can act on, with the exit code of each.

use std::path::PathBuf;

pub use simsiam_contract::ExitCode;
use simsiam_contract::FailureReason;
use simsiam_data::storage::StorageErrorKind;

/// An error as the trainer reports it to a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the environment is wrong or contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// Two parts of this program disagree: a defect of this program, or a process started in an unexpected way.
    #[error("internal error: {0}")]
    Internal(String),
    /// The system refused a thread, a signal handler or another resource.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as in `start a thread`.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A field of the run cannot be honoured.
    #[error("{field}: {message}")]
    Config {
        /// Path of the field, as in `spec.pretrain.batchSize`.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The storage of a field's address refuses the credentials, or they permit too little.
    #[error("{field}: {message}")]
    AccessDenied {
        /// Path of the field.
        field: String,
        /// The storage's error.
        message: String,
    },
    /// The run file was refused.
    #[error(transparent)]
    Recipe(#[from] simsiam_recipe::Error),
    /// Images could not be used.
    #[error("{}{_0}", field_prefix(_0))]
    Data(#[from] simsiam_data::Error),
    /// A checkpoint does not belong to this run.
    #[error("checkpoint {uri}: {message}")]
    Checkpoint {
        /// Its address.
        uri: String,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// The output cannot be read or written at the moment.
    #[error("storage {uri}: {message}")]
    Storage {
        /// The object or folder.
        uri: String,
        /// The storage's error, and what to do.
        message: String,
    },
    /// The tracker cannot be reached, in the command that does nothing else.
    #[error("spec.track.mlflow.uri: {uri} cannot be reached: {message}")]
    Tracker {
        /// Its address.
        uri: String,
        /// What happened.
        message: String,
    },
    /// Node 0 could not be reached, or not every rank arrived.
    #[error("rendezvous at {address}: {message}")]
    Rendezvous {
        /// `host:port` of node 0.
        address: String,
        /// What happened, and what to do.
        message: String,
    },
    /// A collective failed, usually because a peer is gone.
    #[error("lost contact with the other ranks during {during}: {message}")]
    PeerLost {
        /// The step or operation in progress.
        during: String,
        /// c10d's error.
        message: String,
    },
    /// SIGTERM arrived; a checkpoint was written in response.
    #[error("stopped by SIGTERM after step {step}; the checkpoint {uri} was written")]
    Preempted {
        /// Finished optimiser steps.
        step: u64,
        /// The checkpoint.
        uri: String,
    },
    /// SIGTERM arrived and no checkpoint could be written.
    #[error("stopped by SIGTERM before a checkpoint could be written")]
    Terminated,
    /// The loss is not finite.
    #[error("the loss became {loss} at step {step} (epoch {epoch}){found}; lower {field} or use precision fp32")]
    NotFinite {
        /// Mean loss over the ranks.
        loss: f64,
        /// The step at which it was found.
        step: u64,
        /// The epoch in which it was found.
        epoch: u64,
        /// The field that is the usual cause.
        field: &'static str,
        /// The place where such a value first appeared, after a colon; empty if it is unknown.
        found: String,
    },
    /// The representation collapsed for longer than `spec.pretrain.collapse.patienceSteps`.
    #[error(
        "the representation collapsed: output std {std:.5} stayed below {bound:.5} for {steps} steps (healthy is near {healthy:.5})"
    )]
    Collapsed {
        /// Mean per-channel standard deviation of z/‖z‖.
        std: f64,
        /// The bound that it stayed below.
        bound: f64,
        /// 1/√dim.
        healthy: f64,
        /// For this many steps.
        steps: u64,
    },
    /// A frozen tensor changed: a defect of this program.
    #[error(
        "the frozen backbone changed during linear classification: {name} no longer has its initial values, so the accuracy is not that of the checkpoint and is not reported (please report this as a bug)"
    )]
    BackboneChanged {
        /// The first such tensor.
        name: String,
    },
    /// A rank reported the error to its agent, which reports it to the user.
    #[error("already reported to the agent")]
    AlreadyReported(ExitCode),
    /// A stage failed, as its agent found or as rank 0 reported to the other ranks.
    #[error("{message}")]
    Stage {
        /// The exit code.
        code: ExitCode,
        /// Why, in one word.
        reason: FailureReason,
        /// The message of the rank that failed first.
        message: String,
        /// The field or file that the message is about.
        subject: Option<String>,
    },
    /// A data set has images or shards that cannot be used.
    #[error("{uri}: {faults} unusable files in a data set of {images} images; they are listed above")]
    Faults {
        /// The data set.
        uri: String,
        /// Images and shards that cannot be used.
        faults: usize,
        /// Images in all.
        images: usize,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// Our shim over libtorch refused an operation.
    #[error(transparent)]
    Ext(#[from] tch_ext::Error),
}

impl Error {
    /// A refused field.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { field: field.into(), message: message.into() }
    }

    /// A field that is not given, and what needs it, as in `the knn stage`.
    pub fn missing(field: impl Into<String>, needed_by: &str) -> Self {
        Self::config(field, format!("missing; {needed_by} needs it"))
    }

    /// A failed file operation: `action` is a verb, as in `read`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// A resource that the system refused: `action` is what was tried, as in `start a thread`.
    pub fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// The code that a process exits with after this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::Usage,
            Self::Config { .. } | Self::AccessDenied { .. } | Self::Recipe(_) => ExitCode::Config,
            Self::Data(e) => data_exit_code(e),
            Self::Checkpoint { .. } | Self::Faults { .. } => ExitCode::Data,
            Self::AlreadyReported(code) => *code,
            Self::System { .. }
            | Self::Storage { .. }
            | Self::Tracker { .. }
            | Self::Rendezvous { .. }
            | Self::PeerLost { .. }
            | Self::Terminated => ExitCode::Temporary,
            Self::Ext(e) if e.is_temporary() => ExitCode::Temporary,
            Self::Ext(tch_ext::Error::NoCuda { .. }) => ExitCode::Config,
            Self::Internal(_) | Self::Torch(_) | Self::Ext(_) | Self::BackboneChanged { .. } => ExitCode::Crash(1),
            Self::Preempted { .. } => ExitCode::Preempted,
            Self::NotFinite { .. } | Self::Collapsed { .. } => ExitCode::Diverged,
            Self::Stage { code, .. } => *code,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => ExitCode::Config,
                _ => ExitCode::Temporary,
            },
        }
    }

    /// Why a process ends after this error. Finer than the exit code, which is the same for both ways to diverge.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Collapsed { .. } => FailureReason::Collapsed,
            Self::AccessDenied { .. } => FailureReason::AccessDenied,
            Self::Data(simsiam_data::Error::Storage { kind: StorageErrorKind::Denied, .. }) => {
                FailureReason::AccessDenied
            }
            Self::Stage { reason, .. } => reason.clone(),
            other => other.exit_code().into(),
        }
    }

    /// The field or file that the message is about, for the termination message.
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::Config { field, .. } | Self::AccessDenied { field, .. } => Some(field.clone()),
            Self::Stage { subject, .. } => subject.clone(),
            Self::Tracker { .. } => Some("spec.track.mlflow.uri".into()),
            Self::Checkpoint { uri, .. } | Self::Storage { uri, .. } => Some(uri.clone()),
            Self::Io { path, .. } => Some(path.display().to_string()),
            Self::Data(e) => data_subject(e),
            Self::Recipe(e) => recipe_subject(e),
            _ => None,
        }
    }
}

/// Separates bad data from a bad configuration and from faults of the machine or the network.
fn data_exit_code(error: &simsiam_data::Error) -> ExitCode {
    use simsiam_data::Error as E;
    match error {
        E::Storage { kind, .. } => match kind {
            StorageErrorKind::Missing => ExitCode::Data,
            StorageErrorKind::Denied | StorageErrorKind::Refused | StorageErrorKind::ReadOnly => ExitCode::Config,
            StorageErrorKind::Full | StorageErrorKind::Unavailable => ExitCode::Temporary,
        },
        E::Option { .. } | E::Selection { .. } => ExitCode::Config,
        E::Worker { .. } => ExitCode::Temporary,
        E::Io { .. } if !error.is_bad_image() => ExitCode::Temporary,
        _ => ExitCode::Data,
    }
}

/// The field of the run that sets an option of the data crate.
fn field_of(option: &str) -> Option<&'static str> {
    match option {
        "max_corrupt" => Some("spec.dataset.maxCorrupt"),
        "threads" => Some("spec.dataset.loaderThreads"),
        "batch" => Some("spec.pretrain.batchSize"),
        "crop_size" | "crop" => Some("spec.pretrain.augment.cropSize"),
        "resize" => Some("spec.pretrain.augment.evalResize"),
        "quality" => Some("spec.dataset.pack.quality"),
        _ => None,
    }
}

/// The field that an error of the data crate is about, as the start of its message.
fn field_prefix(error: &simsiam_data::Error) -> String {
    error.option_name().and_then(field_of).map_or_else(String::new, |field| format!("{field}: "))
}

fn recipe_subject(error: &simsiam_recipe::Error) -> Option<String> {
    use simsiam_recipe::Error as E;
    match error {
        E::Read { path, .. } => Some(path.display().to_string()),
        E::TooLarge { origin, .. } | E::Yaml { origin, .. } => Some(origin.clone()),
        E::Invalid { violations, .. } => violations.first().map(|v| v.path.clone()),
        _ => None,
    }
}

fn data_subject(error: &simsiam_data::Error) -> Option<String> {
    use simsiam_data::Error as E;
    match error {
        E::Io { path, .. } | E::NotAFolder { path } => Some(path.display().to_string()),
        E::Storage { uri, .. } | E::Shard { uri, .. } | E::Selection { uri, .. } => Some(uri.clone()),
        E::EmptyFolder { location }
        | E::NoImages { location, .. }
        | E::MixedLayout { location, .. }
        | E::UnknownClass { location, .. }
        | E::Scheme { location, .. } => Some(location.clone()),
        E::Decode { name, .. } | E::TooLarge { name, .. } | E::NothingReadable { name, .. } => Some(name.clone()),
        _ => error.option_name().map(|option| field_of(option).unwrap_or(option).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_a_stale_mount_is_temporary_and_of_a_missing_folder_bad_data() {
        let failed = |errno| {
            let source = std::io::Error::from_raw_os_error(errno);
            Error::from(simsiam_data::Error::Io { path: "/data/a.jpg".into(), action: "read", source })
        };
        for (errno, code) in
            [(nix::libc::ESTALE, 75), (nix::libc::EIO, 75), (nix::libc::EMFILE, 75), (nix::libc::ENOENT, 65)]
        {
            assert_eq!(failed(errno).exit_code().code(), code, "{}", failed(errno));
        }
        assert_eq!(failed(nix::libc::EIO).subject().as_deref(), Some("/data/a.jpg"));
        assert_eq!(Error::from(simsiam_data::Error::Worker { what: "died".into() }).exit_code().code(), 75);
    }

    #[test]
    fn reason_of_a_collapse_differs_from_that_of_a_loss_that_is_not_finite() {
        let collapsed = Error::Collapsed { std: 0.0, bound: 0.1, healthy: 0.5, steps: 10 };
        let diverged =
            Error::NotFinite { loss: f64::NAN, step: 1, epoch: 0, field: "spec.pretrain.lr", found: String::new() };
        assert_eq!((collapsed.exit_code(), collapsed.reason()), (ExitCode::Diverged, FailureReason::Collapsed));
        assert_eq!((diverged.exit_code(), diverged.reason()), (ExitCode::Diverged, FailureReason::Diverged));
    }
}
