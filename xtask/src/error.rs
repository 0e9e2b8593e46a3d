//! What can go wrong in a developer command, with what to do about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An error of a developer command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, made or moved.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `make` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// The system's word.
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
    /// System packages are missing and may not be installed from here.
    #[error(
        "missing on this machine: {}\nThis account may not install packages. Have this line run once, then repeat:\n\n    {line}\n",
        missing.join(", ")
    )]
    Packages {
        /// What is missing.
        missing: Vec<String>,
        /// The line that installs it.
        line: String,
    },
    /// pip did not bring a wheel.
    #[error(
        "pip did not bring {package}:\n{said}\nIs the package index reachable (`{python} -m pip download {package}`)? \
         A proxy or mirror goes into pip's own configuration. Or set LIBTORCH to a libtorch {version} that you have.",
        version = crate::pins::LIBTORCH_VERSION
    )]
    Download {
        /// `name==version`.
        package: String,
        /// The Python that ran pip.
        python: &'static str,
        /// The last lines pip wrote.
        said: String,
    },
    /// A downloaded wheel is not the one we know.
    #[error(
        "{package}: SHA-256 of the downloaded file is {found}, expected {expected}. The file was not used; \
         a mirror that rebuilds wheels cannot be used, set LIBTORCH instead"
    )]
    Checksum {
        /// `name==version`.
        package: String,
        /// The sum in our source.
        expected: String,
        /// The sum of the file.
        found: String,
    },
    /// A wheel is not a readable zip file, or lacks a file that we need.
    #[error("{package}: {what}")]
    Wheel {
        /// `name==version`.
        package: String,
        /// What is wrong.
        what: String,
    },
    /// A libtorch of another version, or an incomplete one.
    #[error("{origin} leads to {}: {problem}. {advice}", path.display())]
    Libtorch {
        /// `LIBTORCH` or `.libtorch`.
        origin: &'static str,
        /// The folder looked at.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// Something that this command needs is not so; the text says what and what to do.
    #[error("{0}")]
    Refused(String),
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] simsiam_cache::Error),
    /// The cluster for tests.
    #[error(transparent)]
    Cluster(#[from] simsiam_cluster::Error),
    /// Steps of `cargo xtask test` failed; the table above the message has the details.
    #[error("failed: {}", .0.join(", "))]
    Steps(Vec<String>),
}

impl Error {
    /// An I/O error's constructor for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// 64 where the person has to change something about the machine or the command, otherwise 1.
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

/// A developer command's result.
pub type Result<T> = std::result::Result<T, Error>;
