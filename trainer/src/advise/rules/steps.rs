//! Rules about optimiser steps: precision, images per step, number of steps.

use serde_json::{Value, json};
use simsiam_recipe::{Precision, Pretrain};

use super::rule::{Advice, Case, Rule};
use crate::model::flops::backbone_outputs;

/// The rules of this file, in the order in which they apply.
pub const RULES: &[Rule] = &[
    Rule { name: "precision", source: "docs/doctor.md", check: precision },
    Rule {
        name: "batch-of-small-set",
        source: "paper, section 4.3: batches of 64 reach 66.1 %, of 128 to 2,048 67.3 to 68.1 %",
        check: batch_of_small_set,
    },
    Rule {
        name: "batch-norm",
        source: "paper, section 4.3: batches of 64 reach 66.1 %, of 128 67.3 %, of 256 68.1 %",
        check: batch_norm,
    },
    Rule { name: "batch-memory", source: "docs/sizing.md, GPUs and batch", check: batch_memory },
    Rule { name: "warm-up", source: "paper, section 4.3: ten epochs for batches of 1,024 and more", check: warm_up },
    Rule {
        name: "epochs",
        source: "paper, section 6.1 (100 to 800 epochs) and appendix D (800 epochs, 78,000 steps)",
        check: epochs,
    },
];

fn precision(case: &Case) -> Option<Advice> {
    let machine = &case.facts.machine;
    if case.pretrain.precision != Precision::Bf16 {
        return None;
    }
    let without = match machine.gpus.iter().find(|gpu| !gpu.bf16) {
        Some(gpu) => &gpu.name,
        None if machine.gpus.is_empty() && !machine.cpu_bf16 => &machine.cpu,
        None => return None,
    };
    Advice::one("pretrain.precision", "fp32", format!("{without} has no instructions for bf16"))
}

/// Fewest steps of an epoch.
const STEPS_PER_EPOCH: usize = 8;

fn power_of_two_up_to(n: usize) -> usize {
    1 << n.max(1).ilog2()
}

/// Changes of the batch size; `accumulate` goes where it no longer divides the batch.
fn batch(pretrain: &Pretrain, size: usize) -> Vec<(&'static str, Value)> {
    let mut changes = vec![("pretrain.batchSize", json!(size))];
    let parts = pretrain.accumulate as usize;
    if parts > 1 && (!size.is_multiple_of(parts) || size < 2 * parts) {
        changes.push(("pretrain.accumulate", json!(1)));
    }
    changes
}

fn rate(pretrain: &Pretrain, size: usize) -> String {
    let scaled = |batch: f64| pretrain.lr * batch / 256.0;
    format!(
        "the learning rate follows, from {:.4} to {:.4} (lr × batchSize / 256)",
        scaled(f64::from(pretrain.batch_size)),
        scaled(size as f64)
    )
}

fn batch_of_small_set(case: &Case) -> Option<Advice> {
    let (images, present) = (case.facts.train().usable(), case.pretrain.batch_size as usize);
    let largest = power_of_two_up_to(images / STEPS_PER_EPOCH).max(32).min(images / 2 * 2);
    if images < 2 || largest >= present || images / present >= STEPS_PER_EPOCH {
        return None;
    }
    let reason = match images / present {
        0 => format!("a batch of {present} is more than the {images} usable images, and the run fails"),
        steps => format!(
            "{images} usable images make {steps} steps per epoch with batches of {present}; the last, partial batch is \
             dropped"
        ),
    };
    Advice::several(batch(case.pretrain, largest), format!("{reason}; {}", rate(case.pretrain, largest)))
}

fn batch_norm(case: &Case) -> Option<Advice> {
    let (images, present) = (case.facts.train().usable(), case.pretrain.batch_size as usize);
    let fitting = largest_that_fits(case)? * case.facts.ranks();
    let proposed = power_of_two_up_to(images / STEPS_PER_EPOCH).min(256).min(power_of_two_up_to(fitting));
    if present >= 128 || proposed <= present || case.pretrain.accumulate > 1 {
        return None;
    }
    let reason = format!(
        "batch norm estimates mean and variance from {present} images, and {images} images are enough for batches of \
         {proposed}; {}",
        rate(case.pretrain, proposed)
    );
    Advice::one("pretrain.batchSize", proposed, reason)
}

/// Bytes that a step keeps for one image, two views: for each value that a convolution puts out, 2.7 numbers. That is
/// what 0.12 GB per view of ResNet-50 at 224 pixels are (docs/sizing.md); for ResNet-18 with the CIFAR stem at 32 pixels it
/// gives 6.6 MB, as measured there.
pub fn bytes_per_image(pretrain: &Pretrain) -> f64 {
    let values = backbone_outputs(
        pretrain.arch,
        pretrain.stem,
        pretrain.augment.channels(),
        pretrain.base_width,
        pretrain.augment.crop_size,
    );
    let number = match pretrain.precision {
        Precision::Fp32 => 4.0,
        Precision::Bf16 => 2.0,
    };
    2.0 * 2.7 * values as f64 * number
}

/// Model, gradients, momentum and libraries.
const FIXED: f64 = 1e9;
/// Share of the free memory that a step may take.
const USABLE: f64 = 0.9;

/// Bytes that a rank needs for micro-batches of `images`.
pub fn bytes_per_rank(pretrain: &Pretrain, images: usize) -> f64 {
    FIXED + bytes_per_image(pretrain) * images as f64
}

/// Free bytes for one rank.
fn free_bytes(case: &Case) -> f64 {
    let gpus = case.facts.machine.gpus.iter().map(|gpu| gpu.free_memory).min();
    gpus.unwrap_or(case.facts.machine.free_memory) as f64
}

/// Images of the largest micro-batch that fits one rank's memory; `None` if two do not.
fn largest_that_fits(case: &Case) -> Option<usize> {
    let room = (USABLE * free_bytes(case) - FIXED) / bytes_per_image(case.pretrain);
    (room >= 2.0).then_some(room as usize)
}

fn batch_memory(case: &Case) -> Option<Advice> {
    let (p, ranks) = (case.pretrain, case.facts.ranks());
    let parts = ranks * p.accumulate as usize;
    let micro = (p.batch_size as usize).div_ceil(parts);
    let gb = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
    let (needed, free) = (gb(bytes_per_rank(p, micro)), gb(free_bytes(case)));
    let Some(fitting) = largest_that_fits(case) else {
        return Advice::note(format!(
            "not even two images per step fit the {free} that are free; choose a smaller arch, cropSize or baseWidth, or \
             end other programs"
        ));
    };
    if micro <= fitting {
        return None;
    }
    let proposed = power_of_two_up_to(fitting) * parts;
    let reason = format!(
        "a rank with {micro} images per step needs about {needed} (estimated), and {free} are free; {}",
        rate(p, proposed)
    );
    Advice::several(batch(p, proposed), reason)
}

fn warm_up(case: &Case) -> Option<Advice> {
    let p = case.pretrain;
    if p.batch_size < 1024 || p.warmup_epochs > 0 || p.epochs <= 10 {
        return None;
    }
    let reason = format!("a batch of {} starts at the high learning rate {:.2}", p.batch_size, p.peak_lr());
    Advice::one("pretrain.warmupEpochs", 10, reason)
}

/// Fewest steps of a run, a quarter of the published recipe with the fewest.
const STEPS: u32 = 20_000;
/// The longest published schedule.
const MOST_EPOCHS: u32 = 800;

fn epochs(case: &Case) -> Option<Advice> {
    let p = case.pretrain;
    let per_epoch = u32::try_from(case.facts.train().usable()).unwrap_or(u32::MAX) / p.batch_size;
    if per_epoch == 0 || case.has_weights() {
        return None;
    }
    let proposed = STEPS.div_ceil(per_epoch).min(MOST_EPOCHS);
    if proposed <= p.epochs {
        return None;
    }
    let reason = format!(
        "{} epochs of {per_epoch} steps are {} steps; {proposed} epochs are {} (aim: {STEPS} steps, at most {MOST_EPOCHS} \
         epochs)",
        p.epochs,
        u64::from(p.epochs) * u64::from(per_epoch),
        u64::from(proposed) * u64::from(per_epoch),
    );
    Advice::one("pretrain.epochs", proposed, reason)
}
