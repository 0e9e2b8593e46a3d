//! Which samples, in which order.

use std::ops::Range;

use crate::rng::CounterRng;

/// The order of the `n` samples in one epoch: a uniformly random permutation, fixed by (seed, epoch).
///
/// Global batch `b` of an epoch is `permutation[b·B .. (b+1)·B]`, of which each rank takes its contiguous slice
/// ([`rank_slice`]); so neither the world size nor the number of threads changes what a batch holds.
///
/// # Example
/// ```
/// let order = simsiam_data::permutation(0, 3, 5);
/// assert_eq!(order, simsiam_data::permutation(0, 3, 5));
/// assert_ne!(order, simsiam_data::permutation(0, 4, 5));
/// ```
#[must_use]
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut rng = CounterRng::epoch(seed, epoch);
    let mut order: Vec<u32> = (0..n as u32).collect();
    // Fisher–Yates, from the end.
    for last in (1..n).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    order
}

/// Rank `rank`'s positions within a global batch of `batch` samples: equal shares where `world` divides it, else shares
/// that differ by at most one.
#[must_use]
pub fn rank_slice(batch: usize, rank: usize, world: usize) -> Range<usize> {
    batch * rank / world..batch * (rank + 1) / world
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_contains_every_sample_once() {
        let mut order = permutation(5, 1, 1000);
        assert_ne!(order, (0..1000).collect::<Vec<u32>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn permutation_depends_on_seed_and_epoch() {
        // A change here changes every run's order of samples and breaks resuming across versions.
        assert_eq!(permutation(0, 0, 8), [2, 4, 1, 6, 3, 7, 5, 0]);
        assert_ne!(permutation(0, 0, 100), permutation(0, 1, 100));
        assert_ne!(permutation(0, 0, 100), permutation(1, 0, 100));
        assert!(permutation(0, 0, 0).is_empty());
    }

    #[test]
    fn permutations_are_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(permutation(1, epoch, 4)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn rank_slices_cover_batch_without_overlap() {
        for world in [1, 2, 3, 4, 5, 6, 12, 13] {
            let mut next = 0;
            for rank in 0..world {
                let slice = rank_slice(12, rank, world);
                assert_eq!(slice.start, next);
                assert!(slice.len().abs_diff(12 / world) <= 1);
                next = slice.end;
            }
            assert_eq!(next, 12);
        }
    }
}
