//! One rank among its peers: [`rank`] connects to them and runs the collectives, [`on_rank_0`] has one rank do the work
//! of all, [`device`] picks the GPU or CPU, [`peak_flops`] knows its peak, [`bucket_sizes`] groups gradients for the
//! all-reduce.

pub mod bucket_sizes;
pub mod device;
pub mod on_rank_0;
pub mod peak_flops;
pub mod rank;
#[cfg(test)]
pub mod testing;

pub use bucket_sizes::BucketSizes;
pub use rank::{Rank, RankInfo, peer_lost};
