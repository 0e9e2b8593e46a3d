//! Checkpoints: one directory each, valid if and only if it has a manifest and every digest in it matches.
//!
//! `checkpoints/step-000012345-a<attempt>/` holds `model.safetensors`, `optimizer.safetensors`, `state.json`
//! and, written last, `manifest.json` with size and SHA-256 of the others. A directory is written by exactly
//! one attempt. [`store`] finds, reads, writes and retires them; [`latest`] restores the newest
//! one on every rank; [`writer`] writes in the background; [`snapshot`] holds a copy of the
//! training state in host memory.

pub mod latest;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod writer;

pub use latest::{Restored, require_latest, restore_latest};
pub use snapshot::Snapshot;
pub use state::{Environment, EvalRecord, State};
pub use store::{Checkpoints, Found};
pub use writer::{Writer, Written};
