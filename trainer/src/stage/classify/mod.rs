//! The linear and finetune stages: classification with labels, to evaluate features on the frozen backbone (`linear`) or
//! together with it (`finetune`).
//!
//! [`protocol`] is what the two differ in, [`encoder`] what they evaluate; `task` is what the training driver runs, and
//! [`batches`] what it trains on. [`frozen_check`] verifies that a frozen backbone does not change.

pub mod batches;
pub mod encoder;
pub mod frozen_check;
pub mod protocol;
mod task;

pub use encoder::Encoder;
pub use protocol::Protocol;
pub use task::{ClassifyInput, run};
