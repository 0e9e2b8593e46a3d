//! Times the bare optimiser step on random images.

use std::time::Instant;

use serde::Serialize;
use simsiam_recipe::Pretrain;
use tch::{Device, Kind, Tensor};

use crate::dist::device;
use crate::error::Error;
use crate::model::{Pass, SimSiam};
use crate::training::schedule::LearningRate;
use crate::training::sgd::Sgd;

/// What to time.
#[derive(Debug)]
pub struct Bench {
    /// Network, batch size, precision and optimiser.
    pub recipe: Pretrain,
    /// Width and height of the views in pixels.
    pub crop: u32,
    /// Steps to time.
    pub steps: u32,
    /// Untimed warm-up steps.
    pub warmup: u32,
    /// Intra-op threads.
    pub threads: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Batch size divided by the median step time.
    pub images_per_second: f64,
    /// The most memory that the process held, in megabytes.
    pub peak_rss_mb: f64,
    /// Median wall time of a step.
    pub step_seconds: f64,
    /// Loss of the last step.
    pub loss: f64,
}

/// Runs warm-up and timed steps.
///
/// # Errors
/// If libtorch fails.
pub fn run(bench: &Bench) -> Result<Measured, Error> {
    let recipe = &bench.recipe;
    tch_ext::tune_allocator();
    tch_ext::set_intraop_threads(bench.threads as usize)?;
    let device = device::pick(0)?;
    let model = SimSiam::new(recipe, Kind::Float, device)?;
    let mut sgd = Sgd::simsiam(model.params(), recipe.momentum, recipe.weight_decay)?;
    let rates = LearningRate::new(recipe, 1).at(0);
    let (n, c, s) = (i64::from(recipe.batch_size), recipe.augment.channels() as i64, i64::from(bench.crop));
    let image = || Tensor::f_randn([n, c, s, s], (Kind::Float, device));
    let views = [image()?, image()?];
    let mut loss = f64::NAN;
    let mut times = Vec::new();
    for step in 0..bench.warmup + bench.steps {
        let start = Instant::now();
        sgd.zero_grad()?;
        let forward = || model.forward([&views[0], &views[1]], Pass::train(None));
        let outputs = device::in_precision(device, recipe.precision, forward)?;
        tch_ext::backward(&outputs.loss)?;
        sgd.step(&rates.groups())?;
        // Reading the loss waits until a GPU has finished.
        loss = outputs.loss.f_to_device(Device::Cpu)?.f_double_value(&[])?;
        if step >= bench.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let step_seconds = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let images_per_second = f64::from(recipe.batch_size) / step_seconds;
    Ok(Measured { images_per_second, peak_rss_mb: peak_rss_mb(), step_seconds, loss })
}

/// The most memory that this process has held, in megabytes.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
