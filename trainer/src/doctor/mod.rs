//! Checks this machine for a run: each check is a line that is OK, slow, or wrong with what to do.
//!
//! `check` is such a line; `cuda` checks driver, libraries and devices, `machine` CPU, memory and disk, `reach` storage
//! and other nodes. `facts` has the figures of this machine, for other commands.

mod check;
mod cuda;
mod facts;
mod machine;
mod reach;

use std::path::PathBuf;
use std::time::Duration;

use simsiam_recipe::Output;

pub use check::{Check, CheckState, Report};
pub use facts::{GpuFacts, MachineFacts, facts};

use crate::error::Error;
use crate::runtime;

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct DoctorOptions {
    /// Number of GPUs required; the CUDA checks fail if there are fewer.
    pub gpus: usize,
    /// The output to probe by writing, listing, reading and deleting an object.
    pub output: Option<Output>,
    /// The cache's folder; by default that of a run.
    pub cache: Option<PathBuf>,
    /// Another node: address and port of its rendezvous store.
    pub master: Option<(String, u16)>,
    /// How long to wait for that node.
    pub timeout: Duration,
}

/// Runs all checks.
///
/// # Errors
/// If the system refuses the threads that storage requests need.
pub fn run(options: &DoctorOptions) -> Result<Report, Error> {
    let runtime = runtime::start()?;
    let mut checks = cuda::checks(options.gpus);
    checks.extend(machine::checks(options.gpus, options.cache.clone()));
    checks.extend(options.output.as_ref().map(|output| reach::storage(output, runtime.handle())));
    checks.extend(
        options.master.as_ref().map(|(host, port)| reach::node(host, *port, options.timeout, runtime.handle())),
    );
    Ok(Report { version: env!("CARGO_PKG_VERSION"), checks })
}
