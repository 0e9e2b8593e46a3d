//! Rules about views: their size, crops, colours and normalisation, and the first layers that see them.

use serde_json::{Value, json};
use simsiam_recipe::{ExportFormat, Stem};

use super::rule::{Advice, Case, Rule, percent};
use crate::model::flops::backbone_macs;

/// Sides up to which the paper's recipe for CIFAR-10 is the closer one.
const SMALL: u32 = 64;

/// The rules of this file, in the order in which they apply.
pub const RULES: &[Rule] = &[
    Rule { name: "crop-size", source: "paper, appendix D: views of 32 pixels for images of 32", check: crop_size },
    Rule { name: "stem", source: "paper, appendix D; He et al. 2016 (arXiv 1512.03385), section 4.2", check: stem },
    Rule { name: "blur", source: "paper, appendix D: no blur for images of 32 pixels", check: blur },
    Rule {
        name: "min-scale",
        source: "Tian et al. 2020 (arXiv 2005.10243): views must share what matters for the task",
        check: min_scale,
    },
    Rule { name: "normalisation", source: "LeCun et al. 1998, Efficient BackProp, section 4.3", check: normalisation },
    Rule { name: "gray", source: "docs/results.md, The input pipeline: hue takes 5 % of loading", check: gray },
];

fn crop_size(case: &Case) -> Option<Advice> {
    let augment = &case.pretrain.augment;
    let (side, crop) = (case.facts.train().short_side.median, f64::from(augment.crop_size));
    if side <= 0.0 || side >= 0.75 * crop {
        return None;
    }
    // Strides of 32 in all: larger views in whole steps of them.
    let step = if side < f64::from(SMALL) { 8 } else { 32 };
    let proposed = (side as u32 / step * step).max(16);
    let mut changes = vec![("pretrain.augment.cropSize", Value::from(proposed))];
    if proposed <= SMALL {
        changes.push(("pretrain.augment.evalResize", proposed.into()));
    } else if augment.eval_resize.is_some() {
        changes.push(("pretrain.augment.evalResize", (proposed * 8 / 7).into()));
    }
    let ratio = (crop / f64::from(proposed)).powi(2);
    let reason = format!(
        "the shorter side of the median image is {side:.0} pixels: views of {crop:.0} pixels show no more detail and take \
         {ratio:.1} times the arithmetic of {proposed}"
    );
    Advice::several(changes, reason)
}

fn stem(case: &Case) -> Option<Advice> {
    let p = case.pretrain;
    let exports_stem = case.recipe.export.contains(&ExportFormat::Huggingface);
    let crop = p.augment.crop_size;
    if crop > SMALL || p.stem != Stem::Imagenet || case.has_weights() || exports_stem {
        return None;
    }
    let macs = |stem| backbone_macs(p.arch, stem, p.augment.channels(), p.base_width, crop).0 as f64;
    let reason = format!(
        "the imagenet stem leaves {0} × {0} positions of a view of {crop} pixels in the last stage, the cifar stem {1} × \
         {1}; a view takes {2:.0} times the arithmetic",
        crop.div_ceil(32),
        crop.div_ceil(8),
        macs(Stem::Cifar) / macs(Stem::Imagenet),
    );
    Advice::one("pretrain.stem", "cifar", reason)
}

fn blur(case: &Case) -> Option<Advice> {
    let augment = &case.pretrain.augment;
    if augment.crop_size > SMALL || augment.blur_prob == 0.0 {
        return None;
    }
    let [_, sigma] = augment.blur_sigma;
    let reason = format!(
        "a blur of sigma up to {sigma} pixels was chosen for views of 224 pixels; at {} it removes what there is to \
         recognise",
        augment.crop_size
    );
    Advice::one("pretrain.augment.blurProb", 0, reason)
}

/// Share of sparse crops from which on the crops are too small, and the one to reach.
const SPARSE: (f64, f64) = (0.2, 0.1);

fn min_scale(case: &Case) -> Option<Advice> {
    let present = case.pretrain.augment.min_scale;
    let crops = &case.facts.train().sparse_crops;
    let now = crops.iter().find(|crops| crops.min_scale == present)?.share;
    if now < SPARSE.0 {
        return None;
    }
    let larger = || crops.iter().filter(|crops| crops.min_scale > present);
    let best = larger().find(|crops| crops.share <= SPARSE.1).or_else(|| larger().next_back())?;
    let reason = format!(
        "{} of random crops have less than a tenth of their image's density of edges: two such views share nothing to \
         learn from; from minScale {} on it is {} (a proxy: edges are measured, not objects)",
        percent(now),
        best.min_scale,
        percent(best.share)
    );
    Advice::one("pretrain.augment.minScale", best.min_scale, reason)
}

/// How far means may be off, and by what factor standard deviations.
const OFF: (f64, f64) = (0.1, 1.5);

fn normalisation(case: &Case) -> Option<Advice> {
    let (train, augment) = (case.facts.train(), &case.pretrain.augment);
    let std = train.std.map(|std| std.max(0.01));
    let is_off = |((mean, used), (std, used_std)): ((&f64, &f64), (&f64, &f64))| {
        (mean - used).abs() > OFF.0 || (std / used_std).max(used_std / std) > OFF.1
    };
    let channels = train.mean.iter().zip(&augment.mean).zip(std.iter().zip(&augment.std));
    if case.has_weights() || train.read == 0 || !channels.into_iter().any(is_off) {
        return None;
    }
    let rounded = |values: [f64; 3]| values.map(|value| (value * 1000.0).round() / 1000.0);
    let (mean, std) = (rounded(train.mean), rounded(std));
    let reason = format!(
        "the images have mean {mean:?} and standard deviation {std:?} by channel, far from {:?} and {:?}",
        augment.mean, augment.std
    );
    Advice::several(vec![("pretrain.augment.mean", json!(mean)), ("pretrain.augment.std", json!(std))], reason)
}

fn gray(case: &Case) -> Option<Advice> {
    let (share, augment) = (case.facts.train().gray_share, &case.pretrain.augment);
    let fields = [
        ("pretrain.augment.saturation", augment.saturation),
        ("pretrain.augment.hue", augment.hue),
        ("pretrain.augment.grayscaleProb", augment.grayscale_prob),
    ];
    let changes: Vec<_> = fields.into_iter().filter(|(_, value)| *value > 0.0).map(|(f, _)| (f, json!(0))).collect();
    if share < 0.95 || changes.is_empty() {
        return None;
    }
    let reason =
        format!("{} of the images have no colour: changes of colour take time and have no effect", percent(share));
    Advice::several(changes, reason)
}
