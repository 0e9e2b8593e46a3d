//! Errors of the cache, with remedies.

use std::path::{Path, PathBuf};

/// A file or folder could not be read, written, created, moved or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct IoError {
    /// The failed action: `read`, `write`, `create` …
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: std::io::Error,
}

impl IoError {
    /// Returns a constructor of this error for `map_err`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

/// An error of the cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, created or moved.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No variable names the folder of the cache.
    #[error("none of SIMSIAM_CACHE, XDG_CACHE_HOME and HOME is set: set SIMSIAM_CACHE to a folder")]
    NoFolder,
    /// The disk has too little free space.
    #[error(
        "{} has {:.1} GB free, but {:.1} GB are needed: free some space, or set SIMSIAM_CACHE to a folder on a larger disk",
        path.display(), *free as f64 / 1e9, *needed as f64 / 1e9
    )]
    Full {
        /// The requested folder, or its nearest existing parent.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Needed bytes.
        needed: u64,
    },
}

impl Error {
    /// Returns a constructor of [`Error::Io`] for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let failed = IoError::at(action, path);
        move |source| Self::Io(failed(source))
    }
}

/// Result of a cache operation.
pub type Result<T> = std::result::Result<T, Error>;
