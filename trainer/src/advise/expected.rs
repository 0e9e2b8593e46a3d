//! What a run as proposed will take on this machine.

use serde::Serialize;
use simsiam_recipe::Pretrain;

use super::facts::Facts;
use super::rules::{bytes_per_rank, cores_needed};

/// What pre-training as proposed takes on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Peak learning rate.
    pub peak_lr: f64,
    /// Bytes that a rank needs at most, estimated.
    pub bytes_per_rank: f64,
    /// What the measured rates give; `None` without them.
    pub time: Option<ExpectedTime>,
}

/// Rates and time, from the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedTime {
    /// Images per second, of all ranks together.
    pub images_per_second: f64,
    /// Seconds of pre-training, without evaluations.
    pub seconds: f64,
    /// Cores that load as fast as the devices train.
    pub cores_for_loading: f64,
}

/// What `pretrain` takes with these facts.
pub fn expected(facts: &Facts, pretrain: &Pretrain) -> Expected {
    let batch = u64::from(pretrain.batch_size);
    let steps_per_epoch = facts.train().usable() as u64 / batch;
    let steps = steps_per_epoch * u64::from(pretrain.epochs);
    let micro = (pretrain.batch_size as usize).div_ceil(facts.ranks() * pretrain.accumulate as usize);
    let time = facts.rates.map(|rates| {
        let training = rates.training * facts.ranks() as f64;
        let images_per_second = if facts.machine.gpus.is_empty() {
            // Both work on the same cores.
            1.0 / (1.0 / rates.loading + 1.0 / training)
        } else {
            rates.loading.min(training)
        };
        ExpectedTime {
            images_per_second,
            seconds: (steps * batch) as f64 / images_per_second,
            cores_for_loading: cores_needed(rates.loading, rates.loader_threads, training),
        }
    });
    Expected {
        steps_per_epoch,
        steps,
        peak_lr: pretrain.peak_lr(),
        bytes_per_rank: bytes_per_rank(pretrain, micro),
        time,
    }
}
