//! SGD with momentum and weight decay in parameter groups, with PyTorch's semantics and a state that can be saved;
//! layer-wise rates (LARS) where asked.

use tch::Tensor;
use tch_ext::c10d::{Op, ProcessGroup};

use super::larc;
use crate::error::Error;
use crate::model::params::{Params, Role};
use crate::model::simsiam::PREDICTOR;

/// What the groups of an [`Sgd`] have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdOptions {
    /// Momentum factor.
    pub momentum: f64,
    /// Weight decay, on every trained parameter: batch norm's weights and biases too, as in the reference.
    pub weight_decay: f64,
    /// LARS' trust coefficient; `None` is plain SGD.
    pub trust: Option<f64>,
}

/// Parameters that share a learning rate, and their momentum.
#[derive(Debug, Default)]
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    momentum: Vec<Tensor>,
}

/// The optimiser of every stage that trains.
///
/// Per parameter: g ← grad + wd·p, or [`larc::scaled`] with a trust coefficient; v ← m·v + g (v ← g in the first step);
/// p ← p − lr·v, at the learning rate of the parameter's group.
#[derive(Debug)]
pub struct Sgd {
    groups: Vec<Group>,
    options: SgdOptions,
    /// The momentum buffers hold no step yet.
    first: bool,
}

impl Sgd {
    /// An optimiser for the trained parameters of `params`, in `groups` groups; `group_of` gives the group of a
    /// parameter by its name.
    pub fn new(
        params: &Params,
        groups: usize,
        group_of: impl Fn(&str) -> usize,
        options: SgdOptions,
    ) -> Result<Self, Error> {
        let mut all: Vec<Group> = std::iter::repeat_with(Group::default).take(groups).collect();
        for (name, param) in params.with_role(Role::Trained) {
            let group = &mut all[group_of(name)];
            group.names.push(name.to_owned());
            group.momentum.push(param.f_detach()?.f_zeros_like()?);
            group.params.push(param.shallow_clone());
        }
        Ok(Self { groups: all, options, first: true })
    }

    /// The optimiser of a SimSiam network: encoder and predictor are groups of their own, in this order, as in
    /// [`Rates::groups`](super::schedule::Rates::groups).
    pub fn simsiam(params: &Params, momentum: f64, weight_decay: f64) -> Result<Self, Error> {
        let options = SgdOptions { momentum, weight_decay, trust: None };
        Self::new(params, 2, |name| usize::from(name.starts_with(PREDICTOR)), options)
    }

    /// One step with the gradients that the parameters hold, at one learning rate per group.
    pub fn step(&mut self, rates: &[f64]) -> Result<(), Error> {
        let SgdOptions { momentum, weight_decay, trust } = self.options;
        for (group, &lr) in self.groups.iter().zip(rates) {
            let mut grads: Vec<Tensor> = group.params.iter().map(Tensor::grad).collect();
            let mut decay = weight_decay;
            if let Some(trust) = trust {
                let scale = |(p, g): (&Tensor, &Tensor)| larc::scaled(p, g, trust, weight_decay);
                grads = tch::no_grad(|| group.params.iter().zip(&grads).map(scale).collect::<Result<_, _>>())?;
                // The scaled gradients contain it.
                decay = 0.0;
            }
            tch_ext::fused_sgd(&group.params, &grads, &group.momentum, lr, momentum, decay, self.first)?;
        }
        self.first = false;
        Ok(())
    }

    /// Sets every gradient to zero in place: they may be views into the Reducer's buckets.
    pub fn zero_grad(&self) -> Result<(), Error> {
        self.groups.iter().try_for_each(|group| Ok(tch_ext::zero_grads(&group.params)?))
    }

    /// Sums every gradient over the ranks of `process_group`, one all-reduce per parameter: for few parameters.
    pub fn all_reduce_gradients(&self, process_group: &ProcessGroup) -> Result<(), tch_ext::Error> {
        let mut gradients = self.groups.iter().flat_map(|group| &group.params).map(Tensor::grad);
        gradients.try_for_each(|gradient| process_group.all_reduce(&gradient, Op::Sum))
    }

    /// Momentum buffers by parameter name, none before the first step: the state to save.
    pub fn state(&self) -> Vec<(&str, &Tensor)> {
        if self.first { Vec::new() } else { self.buffers().collect() }
    }

    /// All momentum buffers by parameter name, filled or not.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.groups.iter().flat_map(|group| group.names.iter().map(String::as_str).zip(&group.momentum))
    }

    /// States whether the momentum buffers were filled from a checkpoint.
    pub fn set_restored(&mut self, filled: bool) {
        self.first = !filled;
    }
}
