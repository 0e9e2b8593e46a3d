//! Rules about loading: packing, threads, the device of the augmentation, unreadable images.

use serde_json::json;
use simsiam_recipe::AugmentDevice;

use super::rule::{Advice, Case, Rule, percent};

/// The rules of this file, in the order in which they apply. Some of them need the measured rates.
pub const RULES: &[Rule] = &[
    Rule { name: "max-corrupt", source: "docs/data.md, Bad images and bad storage", check: max_corrupt },
    Rule {
        name: "pack",
        source: "docs/results.md, The input pipeline: 837 images/s per core from originals, 1,479 from images packed at 400 \
                 pixels",
        check: pack,
    },
    Rule { name: "loader-threads", source: "docs/data.md, Loading speed", check: loader_threads },
    Rule { name: "augment-device", source: "docs/sizing.md, CPU cores per GPU", check: augment_device },
];

/// Share of broken images above which they are to be repaired, not tolerated.
const MANY: f64 = 0.05;

fn max_corrupt(case: &Case) -> Option<Advice> {
    let (train, present) = (case.facts.train(), case.recipe.dataset.max_corrupt);
    let count = train.broken.count as f64;
    if train.broken.count == 0 {
        return None;
    }
    let share = count / train.read as f64;
    if share > MANY {
        return Advice::note(format!(
            "{} of {} images read cannot be decoded ({}): repair or remove them; `simsiam data verify` lists all",
            train.broken.count,
            train.read,
            percent(share)
        ));
    }
    let all = train.read == train.images;
    // Of a sample, the upper end of what is likely: two standard deviations of a Poisson count, and 2 more.
    let proposed = if all {
        train.broken.count as u64
    } else {
        ((count + 2.0 * count.sqrt() + 2.0) * train.images as f64 / train.read as f64).ceil() as u64
    };
    if present >= proposed {
        return None;
    }
    let reason = format!(
        "{} of {} images read cannot be decoded{}; the run fails when a rank finds more than maxCorrupt in an epoch",
        train.broken.count,
        train.read,
        if all { "" } else { ", and the set may have as many as proposed" }
    );
    Advice::one("dataset.maxCorrupt", proposed, reason)
}

/// Longer side of packed images for views of 224 pixels, for which the gain was measured.
const PACKED: (u32, u32) = (400, 224);
/// Loading that is so many times faster than training leaves nothing to gain.
const FAST_ENOUGH: f64 = 3.0;

/// How many times faster loading is than training on all of this machine's devices.
fn headroom(case: &Case) -> Option<f64> {
    let rates = case.facts.rates?;
    Some(rates.loading / (rates.training * case.facts.ranks() as f64))
}

fn pack(case: &Case) -> Option<Advice> {
    let crop = case.pretrain.augment.crop_size;
    let (side, target) = (case.facts.train().long_side.median, (crop * PACKED.0 / PACKED.1).next_multiple_of(8));
    let headroom = headroom(case);
    if case.recipe.dataset.pack.is_some()
        || side < 1.5 * f64::from(target)
        || headroom.is_some_and(|times| times > FAST_ENOUGH)
    {
        return None;
    }
    let measured = headroom.map_or_else(String::new, |times| {
        format!("; loading is {times:.1} times as fast as training here, and both share the machine")
    });
    let reason = format!(
        "the longer side of the median image is {side:.0} pixels, and views have {crop}: most of the decoded pixels are \
         thrown away{measured}"
    );
    Advice::one("dataset.pack", json!({"maxSide": target.max(16)}), reason)
}

fn loader_threads(case: &Case) -> Option<Advice> {
    let present = case.recipe.dataset.loader_threads?;
    let share = u32::try_from((case.facts.machine.cores / case.facts.ranks()).max(1)).unwrap_or(1024).min(1024);
    let slow = headroom(case).is_some_and(|times| times < 1.0);
    let reason = match present {
        present if present > share => {
            format!(
                "{present} threads share the {share} cores that a rank has; more threads than cores only take memory"
            )
        }
        present if present < share && slow => {
            format!("loading is slower than training, and of the {share} cores that a rank has only {present} load")
        }
        _ => return None,
    };
    Advice::one("dataset.loaderThreads", share, reason)
}

/// Cores that load as fast as all devices train.
pub fn cores_needed(loading: f64, loader_threads: usize, training: f64) -> f64 {
    training * loader_threads as f64 / loading
}

fn augment_device(case: &Case) -> Option<Advice> {
    let (rates, gpus) = (case.facts.rates?, case.facts.machine.gpus.len());
    let needed = cores_needed(rates.loading, rates.loader_threads, rates.training * gpus as f64);
    let cores = case.facts.machine.cores;
    if gpus == 0 || case.pretrain.augment.device == AugmentDevice::Gpu || needed <= cores as f64 {
        return None;
    }
    let reason = format!(
        "{needed:.1} cores would load as fast as {gpus} GPUs train, and there are {cores}; on the GPU, jitter, blur and \
         normalisation take none of them"
    );
    Advice::one("pretrain.augment.device", "gpu", reason)
}
