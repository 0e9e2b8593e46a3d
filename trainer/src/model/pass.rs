//! How a forward pass treats its batch.

use tch_ext::c10d::ProcessGroup;

/// How a forward pass treats its batch.
#[derive(Clone, Copy, Default)]
pub struct Pass<'a> {
    /// Batch statistics (true) or running statistics (false).
    pub train: bool,
    /// Whether batch statistics go into the running ones.
    pub track: bool,
    /// Over whom batch statistics are taken; `None` is this process alone.
    pub group: Option<&'a ProcessGroup>,
}

impl<'a> Pass<'a> {
    /// Evaluation: running statistics, nothing updated.
    pub const EVAL: Pass<'static> = Pass { train: false, track: false, group: None };

    /// Training with batch statistics over `group`.
    pub fn train(group: Option<&'a ProcessGroup>) -> Self {
        Self { train: true, track: true, group }
    }
}
