//! PyTorch's distributed engine: a [`Store`] lets the ranks of a job meet, a [`ProcessGroup`] carries their
//! collectives, a [`Reducer`] averages gradients while backward still runs.
//!
//! Collectives block and must be called by all ranks in the same order. What fails says whether a restart may help
//! ([`crate::Error::is_temporary`]).

mod group;
mod reducer;
mod store;

pub use group::{Backend, Op, ProcessGroup};
pub use reducer::{BucketOrder, Reducer, ReducerOptions};
pub use store::Store;
