//! Work on many files at once.

use rayon::prelude::*;

use crate::Error;

/// `work` on each of `items` with many threads, since most of it is waiting; results in order, the first error wins.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync + Send,
) -> Result<Vec<R>, Error> {
    const WAITING: usize = 32;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(WAITING.min(items.len().max(1)))
        .thread_name(|n| format!("open-{n}"))
        .build()
        .map_err(|e| Error::Worker { what: format!("could not be started: {e}") })?;
    pool.install(|| items.par_iter().map(work).collect())
}
