//! Errors of developer commands, with remedies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An error of a developer command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, created or moved.
    #[error(transparent)]
    Io(#[from] simsiam_cache::IoError),
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// System packages are missing and this account may not install them.
    #[error(
        "missing on this machine: {}\nThis account may not install packages. Run this line once as root, then repeat the command:\n\n    {line}\n",
        missing.join(", ")
    )]
    Packages {
        /// What is missing.
        missing: Vec<String>,
        /// The line that installs it.
        line: String,
    },
    /// pip failed to download a wheel.
    #[error(
        "pip could not download {package}:\n{said}\nCheck that the package index is reachable (`{python} -m pip download \
         {package}`); configure proxies and mirrors in pip. Or set LIBTORCH to an existing libtorch {version}.",
        version = crate::pins::LIBTORCH_VERSION
    )]
    Download {
        /// `name==version`.
        package: String,
        /// The Python that ran pip.
        python: &'static str,
        /// The last lines of pip's output.
        said: String,
    },
    /// A downloaded wheel has another checksum than the pinned one.
    #[error(
        "{package}: checksum mismatch: SHA-256 is {found}, expected {expected}. The file was not used. Mirrors that rebuild \
         wheels are not supported; set LIBTORCH instead"
    )]
    Checksum {
        /// `name==version`.
        package: String,
        /// The pinned checksum.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A wheel is not a readable zip file, or lacks a required file.
    #[error("{package}: {what}")]
    Wheel {
        /// `name==version`.
        package: String,
        /// What is wrong.
        what: String,
    },
    /// A libtorch has another version or is incomplete.
    #[error("{origin} points to {}: {problem}. {advice}", path.display())]
    Libtorch {
        /// `LIBTORCH` or `.libtorch`.
        origin: &'static str,
        /// The folder it points to.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// A precondition of the command is not met; the text names it and the remedy.
    #[error("{0}")]
    Refused(String),
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] simsiam_cache::Error),
    /// An error of the test cluster.
    #[error(transparent)]
    Cluster(#[from] simsiam_cluster::Error),
    /// Steps of `cargo xtask test` failed; the table above the message contains the details.
    #[error("failed: {}", .0.join(", "))]
    Steps(Vec<String>),
}

impl Error {
    /// Returns a constructor of [`Error::Io`] for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let failed = simsiam_cache::IoError::at(action, path);
        move |source| Self::Io(failed(source))
    }

    /// Returns 64 if the user must change the machine or the command, otherwise 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Packages { .. } | Self::Libtorch { .. } | Self::Refused(_) => ExitCode::from(64),
            Self::Cache(simsiam_cache::Error::NoFolder | simsiam_cache::Error::Full { .. }) => ExitCode::from(64),
            Self::Cluster(simsiam_cluster::Error::Impossible(_) | simsiam_cluster::Error::Running { .. }) => {
                ExitCode::from(64)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Result of a developer command.
pub type Result<T> = std::result::Result<T, Error>;
