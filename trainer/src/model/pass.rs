//! How a forward pass treats its batch.

use tch::Tensor;
use tch_ext::c10d::ProcessGroup;

use super::probe::Probe;
use crate::error::Error;

/// How a forward pass treats its batch.
#[derive(Clone, Copy, Default)]
pub struct Pass<'a> {
    /// Batch statistics (true) or running statistics (false).
    pub train: bool,
    /// Whether batch statistics go into the running ones.
    pub track: bool,
    /// Over whom batch statistics are taken; `None` is this process alone.
    pub group: Option<&'a ProcessGroup>,
    /// What looks at the output of every layer; `None` in training and evaluation.
    pub probe: Option<&'a Probe>,
}

impl<'a> Pass<'a> {
    /// Evaluation: running statistics, nothing updated.
    pub const EVAL: Pass<'static> = Pass { train: false, track: false, group: None, probe: None };

    /// Training with batch statistics over `group`.
    pub fn train(group: Option<&'a ProcessGroup>) -> Self {
        Self { train: true, track: true, group, probe: None }
    }

    /// Returns a layer's output, after the probe has looked at it, if there is one.
    pub(super) fn seen(&self, layer: &str, output: Tensor) -> Result<Tensor, Error> {
        if let Some(probe) = self.probe {
            probe.look(layer, &output)?;
        }
        Ok(output)
    }
}
