//! One rank among its peers: [`rank`] connects to them and runs the collectives, [`device`] picks the GPU or CPU,
//! [`bucket_sizes`] is how gradients are grouped for the all-reduce.

pub mod bucket_sizes;
pub mod device;
pub mod rank;

pub use bucket_sizes::BucketSizes;
pub use rank::{Rank, RankInfo, lost};
