//! What every kind of training shares.

pub mod classifier_optimizer;
pub mod fixture;
pub mod larc;
pub mod meter;
pub mod schedule;
pub mod sgd;
pub mod sync_schedule;
