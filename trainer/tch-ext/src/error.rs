//! The crate's error type and the convention by which the shim's functions report theirs.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use crate::ffi;

/// What can go wrong. `op` is the operation that was asked for, `message` what libtorch said about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator refused its arguments or failed.
    #[error("{op}: {message}")]
    Torch {
        /// The operation.
        op: &'static str,
        /// libtorch's message.
        message: String,
    },
    /// A peer is gone or a connection broke; a restart of all ranks may cure it.
    #[error("{op}: a peer was lost: {message}")]
    PeerLost {
        /// The operation.
        op: &'static str,
        /// libtorch's message.
        message: String,
    },
    /// Peers did not answer in time.
    #[error("{op}: no answer within the time limit: {message}")]
    Timeout {
        /// The operation.
        op: &'static str,
        /// libtorch's message.
        message: String,
    },
    /// The process group was aborted by another thread.
    #[error("{op}: the process group was aborted")]
    Aborted {
        /// The operation.
        op: &'static str,
    },
    /// The store at `host:port` could not be reached.
    #[error("could not reach the store at {host}:{port} within {timeout:?}: {message}")]
    StoreUnreachable {
        /// The host that was asked for.
        host: String,
        /// The TCP port that was asked for.
        port: u16,
        /// How long it was tried.
        timeout: Duration,
        /// libtorch's message.
        message: String,
    },
    /// The store's server could not listen: another process uses the port.
    #[error("port {port} is in use by another process; choose another master port, or end that process")]
    PortInUse {
        /// The TCP port.
        port: u16,
    },
    /// Parameters took no part in the forward pass, so their gradients could not be averaged.
    #[error("these parameters got no gradient in this step: {}; every parameter given to the reducer must be used", names.join(", "))]
    UnusedParameters {
        /// Their names.
        names: Vec<String>,
    },
    /// An earlier error left the reducer between two steps; it can not be used any further.
    #[error("{op}: an earlier step of this reducer failed; build a new one")]
    ReducerBroken {
        /// The operation.
        op: &'static str,
    },
    /// An argument that this crate checks itself.
    #[error("{op}: {message}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// What is wrong and what was expected.
        message: String,
    },
    /// No memory left on the host or the device.
    #[error("{op}: out of memory: {message}")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
        /// libtorch's message.
        message: String,
    },
    /// CUDA or its shim is not loaded (see [`crate::load_cuda`]).
    #[error("{op}: CUDA is not available: {reason}")]
    NoCuda {
        /// The operation.
        op: &'static str,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whether a restart of the job may cure it: a lost peer, a time-out, an abort, an unreachable store.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Error::PeerLost { .. } | Error::Timeout { .. } | Error::Aborted { .. } | Error::StoreUnreachable { .. }
        )
    }

    pub(crate) fn argument(op: &'static str, message: impl Into<String>) -> Self {
        Error::Argument { op, message: message.into() }
    }
}

impl From<Error> for tch::TchError {
    fn from(error: Error) -> Self {
        tch::TchError::Torch(error.to_string())
    }
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Calls a function of the shim with a place for its message and turns its code into a result.
pub(crate) fn check(op: &'static str, call: impl FnOnce(*mut *mut c_char) -> i32) -> Result<()> {
    let mut message: *mut c_char = std::ptr::null_mut();
    let code = call(&mut message);
    let message = take_text(message);
    match code {
        0 => Ok(()),
        2 => Err(Error::PeerLost { op, message }),
        3 => Err(Error::Timeout { op, message }),
        5 => Err(Error::OutOfMemory { op, message }),
        6 => Err(Error::Aborted { op }),
        _ => Err(Error::Torch { op, message }),
    }
}

/// Takes over a malloc'ed C string of the shim; a null pointer is an empty string.
pub(crate) fn take_text(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the shim returns either null or a NUL-terminated string from `strdup`, which is ours now.
    let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().trim_end().to_owned();
    // SAFETY: as above; it is freed exactly once, here.
    unsafe { ffi::tchx_free(text.cast()) };
    owned
}
