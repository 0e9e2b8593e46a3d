//! Classifies what a storage operation failed with.

use std::error::Error as StdError;
use std::io;

/// Why a storage operation failed, as a caller has to react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// The object or folder does not exist.
    Missing,
    /// Object storage refuses the credentials, or they permit too little. It may pass: tokens are renewed, policies changed.
    Denied,
    /// Impossible as configured: local permissions, a missing bucket, an invalid name. Retrying does not help.
    Refused,
    /// The file system is mounted read-only.
    ReadOnly,
    /// No space left, or a quota is used up.
    Full,
    /// No answer, or a server error, for as long as [`retry_timeout`](crate::storage::StorageOptions::retry_timeout) allows.
    /// Retrying later may help.
    Unavailable,
}

impl StorageErrorKind {
    /// The kind of a local file operation's error.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::NotFound => Self::Missing,
            K::PermissionDenied | K::AlreadyExists | K::NotADirectory | K::IsADirectory => Self::Refused,
            K::InvalidInput | K::InvalidFilename => Self::Refused,
            K::ReadOnlyFilesystem => Self::ReadOnly,
            K::StorageFull | K::QuotaExceeded => Self::Full,
            _ => Self::Unavailable,
        }
    }

    /// The kind of an object store's error: by its type, by the `io::Error` that caused it, and only where neither says
    /// enough by its text.
    pub(crate) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        if is_missing_bucket(error) {
            return Self::Refused;
        }
        match error {
            E::NotFound { .. } => Self::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied,
            E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => Self::Refused,
            E::UnknownConfigurationKey { .. } => Self::Refused,
            E::Generic { store: LOCAL, source } => io_cause(&**source).map_or(Self::Unavailable, Self::of_io),
            E::Generic { .. } if is_denied_request(error) => Self::Denied,
            E::Generic { .. } if is_refused_request(error) => Self::Refused,
            _ => Self::Unavailable,
        }
    }
}

/// The name under which `object_store`'s local file system reports errors.
const LOCAL: &str = "LocalFileSystem";

/// The operating system's error among the causes of `error`.
fn io_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

// The next functions are the only places where the text of an error decides. `object_store` 0.14 keeps the type that
// carries an HTTP status and body private, and returns both cases as other variants than they are.

/// Whether the bucket itself does not exist: the same variant as for a missing object, or `Generic` from a listing.
pub(crate) fn is_missing_bucket(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::NotFound { .. } | E::Generic { .. }) && with_causes(error).contains("NoSuchBucket")
}

/// Whether a request was refused for its credentials. S3 answers an expired token with 400.
fn is_denied_request(error: &object_store::Error) -> bool {
    let text = with_causes(error);
    matches!(status_in(&text), Some(401 | 403)) || text.contains("<Code>ExpiredToken</Code>")
}

fn status_in(text: &str) -> Option<u16> {
    text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok())
}

/// Whether a request was refused for good: `Generic` for a listing, unlike all other requests, and for every status that
/// is not one of those with a variant of their own. A request that is malformed or unknown to the server stays so; the
/// statuses of time and load (408, 409, 425, 429) pass.
fn is_refused_request(error: &object_store::Error) -> bool {
    let text = with_causes(error);
    status_in(&text)
        .is_some_and(|status| matches!(status, 300..=499) && !matches!(status, 404 | 408 | 409 | 412 | 425 | 429))
        || text.contains("Got invalid list response")
}

/// What to do about a local folder that cannot be used.
pub(crate) fn advice(kind: StorageErrorKind) -> &'static str {
    match kind {
        StorageErrorKind::Missing | StorageErrorKind::Denied | StorageErrorKind::Unavailable => "",
        StorageErrorKind::Refused | StorageErrorKind::ReadOnly => "; name a folder that is writable",
        StorageErrorKind::Full => "; free some space and start the run again",
    }
}

/// An error with its causes, each once.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::Error as E;

    /// What `object_store` wraps an operating system's error in.
    #[derive(Debug, thiserror::Error)]
    #[error("Unable to create file: {source}")]
    struct Wrapped {
        source: io::Error,
    }

    fn local(errno: i32) -> E {
        E::Generic { store: LOCAL, source: Box::new(Wrapped { source: io::Error::from_raw_os_error(errno) }) }
    }

    fn remote(text: &str) -> E {
        E::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn kind_of_each_error_matches_table() {
        use StorageErrorKind::{Denied, Full, Missing, ReadOnly, Refused, Unavailable};
        let path = || "a/b".to_owned();
        let table = [
            (local(libc::ENOENT), Missing),
            (local(libc::EACCES), Refused),
            (local(libc::EPERM), Refused),
            (local(libc::ENOTDIR), Refused),
            (local(libc::EROFS), ReadOnly),
            (local(libc::ENOSPC), Full),
            (local(libc::EDQUOT), Full),
            (local(libc::EIO), Unavailable),
            (local(libc::ESTALE), Unavailable),
            (local(libc::EMFILE), Unavailable),
            (E::NotFound { path: path(), source: "404".into() }, Missing),
            (E::NotFound { path: path(), source: "<Code>NoSuchBucket</Code>".into() }, Refused),
            (remote("Server returned non-2xx status code: 404 Not Found: <Code>NoSuchBucket</Code>"), Refused),
            (remote("Server returned non-2xx status code: 403 Forbidden: "), Denied),
            (remote("Server returned non-2xx status code: 401 Unauthorized: "), Denied),
            (remote("Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>"), Denied),
            (remote("Server returned non-2xx status code: 400 Bad Request: <Code>InvalidBucketName</Code>"), Refused),
            (remote("Server returned non-2xx status code: 301 Moved Permanently: "), Refused),
            (remote("Server returned non-2xx status code: 429 Too Many Requests: "), Unavailable),
            (remote("Server returned non-2xx status code: 408 Request Timeout: "), Unavailable),
            (remote("Got invalid list response: unknown character"), Refused),
            (remote("Server returned non-2xx status code: 503 Service Unavailable: "), Unavailable),
            (remote("operation timed out"), Unavailable),
            (remote("No space left on device (os error 28)"), Unavailable),
            (E::PermissionDenied { path: path(), source: "403".into() }, Denied),
            (E::Unauthenticated { path: path(), source: "401".into() }, Denied),
            (E::InvalidPath { source: object_store::path::Error::EmptySegment { path: "a//b".into() } }, Refused),
            (E::NotSupported { source: "no".into() }, Refused),
            (E::UnknownConfigurationKey { store: "S3", key: "x".into() }, Refused),
            (E::Precondition { path: path(), source: "412".into() }, Unavailable),
            (E::AlreadyExists { path: path(), source: "409".into() }, Unavailable),
        ];
        for (error, kind) in table {
            assert_eq!(StorageErrorKind::of(&error), kind, "{error:?}");
        }
    }

    #[test]
    fn causes_are_listed_once_each() {
        let error = local(libc::EROFS);
        let text = with_causes(&error);
        assert_eq!(text.matches("Read-only file system").count(), 1, "{text}");
    }
}
