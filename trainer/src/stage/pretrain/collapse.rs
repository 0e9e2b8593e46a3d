//! Watching for collapse: a representation that maps every image to the same vector.

use simsiam_recipe::Pretrain;

use crate::error::Error;

/// Follows the output std, which is near 1/√dim in a healthy run and goes to 0 with collapse (section 4.1 of the paper).
#[derive(Debug)]
pub(super) struct CollapseWatch {
    healthy: f64,
    bound: f64,
    patience_steps: Option<u64>,
    /// The step since which the output std has been below the bound.
    since: Option<u64>,
}

impl CollapseWatch {
    pub(super) fn new(pretrain: &Pretrain) -> Self {
        let healthy = 1.0 / f64::from(pretrain.dim).sqrt();
        let bound = pretrain.collapse.threshold * healthy;
        Self { healthy, bound, patience_steps: pretrain.collapse.patience_steps.map(u64::from), since: None }
    }

    /// 1/√dim.
    pub(super) fn healthy(&self) -> f64 {
        self.healthy
    }

    /// Takes the output std measured after `step`.
    ///
    /// # Errors
    /// [`Error::Collapsed`] once it has been below the bound for `patienceSteps` steps.
    pub(super) fn observe(&mut self, step: u64, std: f64) -> Result<(), Error> {
        if std >= self.bound {
            self.since = None;
            return Ok(());
        }
        let steps = step - *self.since.get_or_insert(step);
        match self.patience_steps {
            Some(limit) if steps >= limit => {
                Err(Error::Collapsed { std, bound: self.bound, healthy: self.healthy, steps })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::CollapsePolicy;

    use super::*;

    fn watch(patience_steps: Option<u32>) -> CollapseWatch {
        let collapse = CollapsePolicy { threshold: 0.5, patience_steps };
        CollapseWatch::new(&Pretrain { dim: 100, collapse, ..Pretrain::default() })
    }

    #[test]
    fn collapse_that_recovers_is_no_error() {
        let mut watch = watch(Some(20));
        for (step, std) in [(10, 0.1), (20, 0.01), (30, 0.01), (39, 0.06), (40, 0.01), (50, 0.01)] {
            watch.observe(step, std).unwrap();
        }
        let error = watch.observe(60, 0.01).unwrap_err();
        assert!(matches!(error, Error::Collapsed { steps: 20, .. }), "{error}");
    }

    #[test]
    fn collapse_without_patience_steps_is_never_an_error() {
        let mut watch = watch(None);
        assert!((0..100_000).step_by(10).all(|step| watch.observe(step, 0.0).is_ok()));
    }
}
