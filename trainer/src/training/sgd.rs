//! SGD with momentum and weight decay in two groups, with PyTorch's semantics and a state that can be saved.

use tch::Tensor;

use crate::error::Error;
use crate::model::params::{Params, Role};
use crate::model::simsiam::PREDICTOR;
use crate::training::schedule::Rates;

/// One group's parameters and their momentum.
#[derive(Debug, Default)]
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    momentum: Vec<Tensor>,
}

/// g ← grad + wd·p; v ← m·v + g (v ← g at first); p ← p − lr·v, for encoder and predictor at their own rates.
///
/// Weight decay applies to every trained parameter, batch norm's included, as in the reference.
#[derive(Debug)]
pub struct Sgd {
    encoder: Group,
    predictor: Group,
    momentum: f64,
    weight_decay: f64,
    first: bool,
}

impl Sgd {
    /// An optimiser for the trained parameters of `params`.
    pub fn new(params: &Params, momentum: f64, weight_decay: f64) -> Result<Self, Error> {
        let (mut encoder, mut predictor) = (Group::default(), Group::default());
        for (name, param) in params.with_role(Role::Trained) {
            let group = if name.starts_with(PREDICTOR) { &mut predictor } else { &mut encoder };
            group.names.push(name.to_owned());
            group.momentum.push(param.f_detach()?.f_zeros_like()?);
            group.params.push(param.shallow_clone());
        }
        Ok(Self { encoder, predictor, momentum, weight_decay, first: true })
    }

    /// One step with the gradients that the parameters hold.
    pub fn step(&mut self, rates: Rates) -> Result<(), Error> {
        for (group, lr) in [(&self.encoder, rates.encoder), (&self.predictor, rates.predictor)] {
            let grads: Vec<Tensor> = group.params.iter().map(Tensor::grad).collect();
            tch_ext::fused_sgd(
                &group.params,
                &grads,
                &group.momentum,
                lr,
                self.momentum,
                self.weight_decay,
                self.first,
            )?;
        }
        self.first = false;
        Ok(())
    }

    /// Sets every gradient to zero in place: they may be views into the Reducer's buckets.
    pub fn zero_grad(&self) -> Result<(), Error> {
        tch_ext::zero_grads(&self.encoder.params)?;
        Ok(tch_ext::zero_grads(&self.predictor.params)?)
    }

    /// Momentum buffers by parameter name, empty before the first step.
    pub fn state(&self) -> Vec<(&str, &Tensor)> {
        if self.first {
            return Vec::new();
        }
        [&self.encoder, &self.predictor]
            .into_iter()
            .flat_map(|g| g.names.iter().map(String::as_str).zip(&g.momentum))
            .collect()
    }

    /// Every momentum buffer by parameter name, whether filled or not.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        [&self.encoder, &self.predictor].into_iter().flat_map(|g| g.names.iter().map(String::as_str).zip(&g.momentum))
    }

    /// Says that the momentum buffers were filled from a checkpoint (or are still empty).
    pub fn restored(&mut self, filled: bool) {
        self.first = !filled;
    }
}
