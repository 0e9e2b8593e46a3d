//! Training, as pre-training and both classifiers share it.
//!
//! [`driver`] is the one training loop; a stage is a [`task`] that it drives. `resume` restores and saves its state,
//! [`clock`] is its position, [`meter`] measures it, [`sync_schedule`] decides when the ranks exchange measurements.
//! [`divergence`] finds where a loss became NaN, by going back to a `rewind`.
//! [`sgd`] is the optimiser, with the layer-wise rates of [`larc`]; [`schedule`] gives the learning rates. [`fixture`]
//! repeats training steps whose results PyTorch stored, [`bench`](mod@bench) times the bare step.

pub mod bench;
pub mod clock;
pub mod divergence;
pub mod driver;
pub mod fixture;
pub mod larc;
pub mod meter;
mod resume;
mod rewind;
pub mod schedule;
pub mod sgd;
pub mod sync_schedule;
pub mod task;

pub use clock::Clock;
pub use driver::{Options, Trained, train};
pub use meter::Meter;
pub use sgd::{Sgd, SgdOptions};
pub use sync_schedule::SyncSchedule;
