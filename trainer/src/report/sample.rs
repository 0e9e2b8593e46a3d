//! A sample of a source's images, spread evenly.

use std::sync::Arc;

use simsiam_data::{Source, Subset};

/// Returns at most `count` of the images that `wanted` accepts. Sources are sorted by class, so an even spread has every
/// class.
pub fn spread(source: &Arc<dyn Source>, count: usize, wanted: impl Fn(u64) -> bool) -> Subset {
    let all: Vec<u64> = (0..source.len() as u64).filter(|id| wanted(*id)).collect();
    let count = count.min(all.len());
    // The middle of each share, so that neither end is favoured.
    let ids = (0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect();
    Subset::of(source.clone(), ids)
}
