//! Batches from a source, made by threads ahead of their use, delivered in order.
//!
//! Two *lanes* take turns: each makes one batch at a time by handing its samples to a pool of named worker threads, and
//! keeps the results in a short queue. Since a pool serves both lanes, no worker is idle at a batch's end. What a batch
//! holds is fixed by its index alone.

mod batch;
mod eval;
mod lanes;
mod options;
mod sample;
mod train;

pub use batch::{Batch, EvalBatch, Replaced, Skipped};
pub use eval::EvalLoader;
pub use options::{LoaderOptions, ViewFormat};
pub use train::Loader;
