//! SGD with momentum for a classifier and, where it is trained, its backbone; LARS where asked.

use tch::Tensor;

use super::larc;
use crate::error::Error;
use crate::model::classifier::CLASSIFIER;
use crate::model::params::{Params, Role};

/// Parameters that share a rate.
#[derive(Debug)]
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    momentum: Vec<Tensor>,
    peak: f64,
}

/// v ← m·v + g, p ← p − lr·v, with g = grad + wd·p, or [`larc::scaled`].
#[derive(Debug)]
pub struct Optimizer {
    groups: Vec<Group>,
    momentum: f64,
    weight_decay: f64,
    trust: Option<f64>,
    first: bool,
}

impl Optimizer {
    /// For the trained parameters: the classifier's at the first peak rate, all others at the second.
    pub fn new(
        params: &Params,
        (classifier, backbone): (f64, Option<f64>),
        (momentum, weight_decay, trust): (f64, f64, Option<f64>),
    ) -> Result<Self, Error> {
        let mut groups = Vec::new();
        for (of_classifier, peak) in [(true, Some(classifier)), (false, backbone)] {
            let Some(peak) = peak else { continue };
            let mut group = Group { names: Vec::new(), params: Vec::new(), momentum: Vec::new(), peak };
            for (name, param) in params.with_role(Role::Trained) {
                if name.starts_with(CLASSIFIER) == of_classifier {
                    group.names.push(name.to_owned());
                    group.momentum.push(param.f_detach()?.f_zeros_like()?);
                    group.params.push(param.shallow_clone());
                }
            }
            groups.push(group);
        }
        Ok(Self { groups, momentum, weight_decay, trust, first: true })
    }

    /// One step at a share of the peak rates, with the gradients that the parameters hold.
    pub fn step(&mut self, share: f64) -> Result<(), Error> {
        for group in &self.groups {
            let mut grads: Vec<Tensor> = group.params.iter().map(Tensor::grad).collect();
            let mut decay = self.weight_decay;
            if let Some(trust) = self.trust {
                let scale = |(p, g): (&Tensor, &Tensor)| larc::scaled(p, g, trust, decay);
                grads = tch::no_grad(|| group.params.iter().zip(&grads).map(scale).collect::<Result<_, _>>())?;
                // It is in the gradients already.
                decay = 0.0;
            }
            let lr = group.peak * share;
            tch_ext::fused_sgd(&group.params, &grads, &group.momentum, lr, self.momentum, decay, self.first)?;
        }
        self.first = false;
        Ok(())
    }

    /// Sets every gradient to zero in place.
    pub fn zero_grad(&self) -> Result<(), Error> {
        self.groups.iter().try_for_each(|g| Ok(tch_ext::zero_grads(&g.params)?))
    }

    /// The gradients, once there are some.
    pub fn gradients(&self) -> Vec<Tensor> {
        self.groups.iter().flat_map(|g| &g.params).map(Tensor::grad).collect()
    }

    /// Momentum buffers by parameter name.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.groups.iter().flat_map(|g| g.names.iter().map(String::as_str).zip(&g.momentum))
    }

    /// Those worth saving: none before the first step.
    pub fn state(&self) -> Vec<(&str, &Tensor)> {
        if self.first { Vec::new() } else { self.buffers().collect() }
    }

    /// Says that the buffers were filled from a checkpoint.
    pub fn restored(&mut self) {
        self.first = false;
    }
}
