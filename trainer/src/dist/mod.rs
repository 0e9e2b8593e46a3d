//! One rank among its peers: [`rank`] connects to them and runs the collectives, [`device`] picks the GPU or CPU.

pub mod device;
pub mod rank;

pub use rank::{Rank, RankInfo, lost};
