//! What can go wrong with the cache, with what to do about it.

use std::path::{Path, PathBuf};

/// An error of the cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, made or moved.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `make`, `remove` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Nothing says where the cache is.
    #[error("none of SIMSIAM_CACHE, XDG_CACHE_HOME and HOME is set: set SIMSIAM_CACHE to a folder")]
    NoFolder,
    /// The disk has no room for what is to be kept.
    #[error(
        "{} has {:.1} GB free and {:.1} GB are needed: free some, or set SIMSIAM_CACHE to a folder on a larger disk",
        path.display(), *free as f64 / 1e9, *needed as f64 / 1e9
    )]
    Full {
        /// The folder asked for, or the nearest above it that exists.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Needed bytes.
        needed: u64,
    },
}

impl Error {
    /// An I/O error's constructor for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// The cache's result.
pub type Result<T> = std::result::Result<T, Error>;
