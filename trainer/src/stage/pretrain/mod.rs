//! The pre-training stage: SimSiam's task, as the training driver runs it on every rank.
//!
//! `task` is what the driver runs; `batches` are its views, `alternation` its targets where the recipe asks for them,
//! `collapse` watches the output, `origin` starts from the weights of another file.

mod alternation;
mod batches;
mod collapse;
mod origin;
mod task;

pub use task::{PretrainInput, micro_batch, run};
