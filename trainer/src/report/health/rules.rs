//! The rules: each with its thresholds, where they come from, and what to do.

use super::figures::Figures;
use super::finding::Verdict;
use crate::report::svg::number;

/// A check of a run's figures.
#[derive(Debug)]
pub struct Rule {
    /// What is checked.
    pub title: &'static str,
    /// When the verdict is [`Verdict::Look`], for the documentation.
    pub look: fn() -> String,
    /// When the verdict is [`Verdict::Wrong`]; empty if it never is.
    pub wrong: fn() -> String,
    /// What to do.
    pub advice: &'static str,
    /// Where the thresholds come from.
    pub source: &'static str,
    /// The verdict and a sentence with the figures; `None` if they were not measured.
    pub check: fn(&Figures) -> Option<(Verdict, String)>,
}

/// Share of 1/√dim below which the outputs have collapsed: the default of `pretrain.collapse.threshold`.
pub const STD_WRONG: f64 = 0.2;
/// Share of 1/√dim below which the outputs are unusually alike.
pub const STD_LOOK: f64 = 0.5;
/// Effective rank below which the projections lie on a line, or in a single point.
pub const RANK_WRONG: f64 = 2.0;
/// Share of its highest value below which the effective rank has fallen.
pub const RANK_LOOK: f64 = 0.5;
/// Area under the cumulative explained-variance curve from which few directions are used.
pub const AUC_LOOK: f64 = 0.95;
/// Area from which nearly one direction is used.
pub const AUC_WRONG: f64 = 0.99;
/// Rise of an epoch's mean loss above the lowest one before.
pub const RISE_LOOK: f64 = 0.1;
/// Rise from which training is unstable.
pub const RISE_WRONG: f64 = 0.3;
/// Share of the time spent waiting for data.
pub const WAIT_LOOK: f64 = 0.05;
/// Share from which the loader limits the speed: the threshold of the alert `SimSiamDataBound`.
pub const WAIT_WRONG: f64 = 0.2;
/// Steps of a short run: 25 epochs of the published CIFAR-10 curve.
pub const STEPS_LOOK: u64 = 25 * 97;
/// Gain of kNN over the untrained encoder, in percentage points.
pub const KNN_GAIN_LOOK: f64 = 3.0;
/// Fall of kNN below its best value, in percentage points.
pub const KNN_FALL_LOOK: f64 = 3.0;
/// The smallest batch of the paper.
pub const BATCH_SMALL: u32 = 64;
/// The smallest batch that the paper trains with warm-up.
pub const BATCH_WARMUP: u32 = 1024;
/// The batch at which the paper's accuracy falls.
pub const BATCH_LARGE: u32 = 4096;
/// The largest base learning rate of a published recipe, `transfer-optimal`.
pub const LR_LOOK: f64 = 0.5;
/// Loss above that of the published run.
pub const PUBLISHED_LOSS_LOOK: f64 = 0.05;
/// kNN accuracy below that of the published run, in percentage points.
pub const PUBLISHED_KNN_LOOK: f64 = 5.0;

/// The rules, in the order of the report.
pub const ALL: &[Rule] = &[
    Rule {
        title: "Output std",
        look: || format!("below {STD_LOOK} of 1/√dim"),
        wrong: || format!("below {STD_WRONG} of 1/√dim: collapse"),
        advice: "Further training does not repair a collapse: check for duplicate images, lower pretrain.lr, and keep \
                 stop-gradient, predictor and batch norm as in the presets.",
        source: "arXiv 2011.10566, section 4.1: 0 is collapse, 1/√dim is healthy; the lower threshold is the default of \
                 pretrain.collapse.threshold",
        check: |f| {
            let share = f.std_share?;
            let verdict = below(share, STD_LOOK, STD_WRONG);
            Some((verdict, format!("The output std is {} of the healthy value, 1/√dim.", number(rounded(share, 2)))))
        },
    },
    Rule {
        title: "Effective rank",
        look: || format!("below {RANK_LOOK} of its highest value so far"),
        wrong: || format!("below {RANK_WRONG}: the projections lie on a line"),
        advice: "Directions are lost although the output std may look healthy: use a larger backbone for this number of \
                 images, and check for near-duplicates.",
        source: "1 is a single direction by definition (Roy and Vetterli 2007); half of the highest value is a choice of \
                 this project",
        check: |f| {
            let last = *f.effective_rank.last()?;
            let highest = f.effective_rank.iter().copied().fold(last, f64::max);
            let verdict = match last {
                last if last < RANK_WRONG => Verdict::Wrong,
                last if last < RANK_LOOK * highest => Verdict::Look,
                _ => Verdict::Ok,
            };
            let [last, highest] = [last, highest].map(|rank| number(rounded(rank, 1)));
            Some((
                verdict,
                format!("The projections of a batch use {last} directions; the highest value was {highest}."),
            ))
        },
    },
    Rule {
        title: "Explained variance",
        look: || format!("AUC above {AUC_LOOK}: as if a tenth of the directions were used"),
        wrong: || format!("AUC above {AUC_WRONG}: as if a fiftieth were used"),
        advice: "The dimensions have collapsed in part: use a larger backbone for this number of images, and check for \
                 near-duplicates.",
        source: "arXiv 2209.15007 proposes the measure; an AUC of 1 − f/2 is that of a share f of the directions, used \
                 evenly. The thresholds are a choice of this project",
        check: |f| {
            let auc = f.explained_variance_auc?;
            let used = number(rounded(200.0 * (1.0 - auc), 1));
            let verdict = above(auc, AUC_LOOK, AUC_WRONG);
            let auc = number(rounded(auc, 3));
            Some((
                verdict,
                format!(
                    "The area under the cumulative explained-variance curve is {auc}, that of {used} % of the \
                     directions used evenly."
                ),
            ))
        },
    },
    Rule {
        title: "Loss",
        look: || format!("an epoch's mean more than {RISE_LOOK} above the lowest before it"),
        wrong: || format!("more than {RISE_WRONG} above it, or not finite"),
        advice: "The learning rate is too high for this batch and data: lower pretrain.lr, or set pretrain.warmupEpochs.",
        source: "the published CIFAR-10 curve does not rise from one of its points to the next; the margins are a \
                 choice of this project",
        check: |f| {
            let last = f.loss?;
            if !last.is_finite() {
                return Some((Verdict::Wrong, "The loss is not finite.".into()));
            }
            if !f.is_cosine || f.epoch_loss.len() < 2 {
                return None;
            }
            let (mut lowest, mut rise) = (f64::INFINITY, 0.0_f64);
            for loss in &f.epoch_loss {
                rise = rise.max(loss - lowest);
                lowest = lowest.min(*loss);
            }
            let [first, last, rise_text] =
                [f.epoch_loss[0], f.epoch_loss[f.epoch_loss.len() - 1], rise].map(|value| number(rounded(value, 3)));
            let verdict = above(rise, RISE_LOOK, RISE_WRONG);
            Some((
                verdict,
                format!(
                    "The mean loss of an epoch went from {first} to {last}; its largest rise above an earlier epoch was {rise_text}."
                ),
            ))
        },
    },
    Rule {
        title: "Waiting for data",
        look: || format!("above {} % of the time", 100.0 * WAIT_LOOK),
        wrong: || format!("above {} %: the loader limits the speed", 100.0 * WAIT_WRONG),
        advice: "Use more loader threads (dataset.loaderThreads) or CPUs, pack the images (dataset.pack), or move the \
                 augmentation to the GPU (pretrain.augment.device).",
        source: "the thresholds of docs/sizing.md and of the alert SimSiamDataBound",
        check: |f| {
            let share = f.data_wait?;
            let verdict = above(share, WAIT_LOOK, WAIT_WRONG);
            Some((verdict, format!("Training waited for images {} % of the time.", number(rounded(100.0 * share, 1)))))
        },
    },
    Rule {
        title: "Number of steps",
        look: || format!("fewer than {} in the whole run", thousands(STEPS_LOOK)),
        wrong: String::new,
        advice: "Train for more epochs; on a small set the number of steps counts, not the number of epochs.",
        source: "25 epochs of the published CIFAR-10 curve, where kNN has reached 39.0 %",
        check: |f| {
            let steps = f.steps?;
            let verdict = if steps < STEPS_LOOK { Verdict::Look } else { Verdict::Ok };
            Some((verdict, format!("The run has {} optimiser steps.", thousands(steps))))
        },
    },
    Rule {
        title: "kNN accuracy",
        look: || {
            format!(
                "less than {KNN_GAIN_LOOK} points above the untrained encoder, or more than {KNN_FALL_LOOK} points below \
                 its best value"
            )
        },
        wrong: || "below the untrained encoder".into(),
        advice: "The features get no better: compare the settings with docs/choosing-settings.md, and look at the views \
                 of the report.",
        source: "about two standard errors of an accuracy on 1,000 images (1.6 points each)",
        check: |f| {
            let last = *f.knn.last()?;
            let best = f.knn.iter().copied().fold(last, f64::max);
            let gain = f.untrained.map(|untrained| last - untrained);
            let verdict = match gain {
                Some(gain) if gain < 0.0 => Verdict::Wrong,
                Some(gain) if gain < KNN_GAIN_LOOK => Verdict::Look,
                _ if best - last > KNN_FALL_LOOK => Verdict::Look,
                None if f.knn.len() < 2 => return None,
                _ => Verdict::Ok,
            };
            let untrained = f.untrained.map_or_else(String::new, |top1| format!(", untrained {top1:.1} %"));
            Some((verdict, format!("kNN accuracy is {last:.1} %, at best {best:.1} %{untrained}.")))
        },
    },
    Rule {
        title: "Batch and learning rate",
        look: || {
            format!(
                "batch norm over fewer than {BATCH_SMALL} images, a batch of {} or more without warm-up, a batch of {} or \
                 more, or lr above {LR_LOOK}",
                thousands(BATCH_WARMUP.into()),
                thousands(BATCH_LARGE.into()),
            )
        },
        wrong: String::new,
        advice: "Stay within the published settings, or compare with a run that does: docs/choosing-settings.md.",
        source: "arXiv 2011.10566, table 2 (batches of 64 to 4096, with warm-up from 1024 up); the largest published base \
                 rate is that of transfer-optimal",
        check: |f| {
            let s = f.settings.filter(|settings| settings.lr.is_finite())?;
            let unusual = s.normalised < BATCH_SMALL
                || s.batch >= BATCH_LARGE
                || (s.batch >= BATCH_WARMUP && s.warmup_epochs == 0)
                || s.lr > LR_LOOK;
            let verdict = if unusual { Verdict::Look } else { Verdict::Ok };
            Some((
                verdict,
                format!(
                    "Batch {}, batch norm over {} images, lr {} per 256 images, {} warm-up epochs.",
                    s.batch,
                    s.normalised,
                    number(s.lr),
                    s.warmup_epochs
                ),
            ))
        },
    },
    Rule {
        title: "Published run",
        look: || {
            format!(
                "loss more than {PUBLISHED_LOSS_LOOK} above, or kNN more than {PUBLISHED_KNN_LOOK} points below, the \
                 published run of the same recipe"
            )
        },
        wrong: String::new,
        advice: "Compare every setting with the preset cifar10, and check that the images are those of CIFAR-10.",
        source: "docs/what-is-normal.md; two public runs of the recipe end within 0.001 in loss and 0.5 points in kNN",
        check: |f| {
            let published = f.published?;
            let [loss, expected] = published.loss;
            let mut unusual = loss - expected > PUBLISHED_LOSS_LOOK;
            let mut says = format!(
                "After {} epochs the loss is {}, the published run's {}",
                published.epoch,
                number(rounded(loss, 3)),
                number(rounded(expected, 3))
            );
            if let Some((epoch, [top1, expected])) = published.knn {
                unusual |= expected - top1 > PUBLISHED_KNN_LOOK;
                says += &format!(
                    "; kNN after {} epochs is {top1:.1} %, the published run's {expected:.1} %",
                    number(epoch)
                );
            }
            Some((if unusual { Verdict::Look } else { Verdict::Ok }, says + "."))
        },
    },
];

fn below(value: f64, look: f64, wrong: f64) -> Verdict {
    above(-value, -look, -wrong)
}

fn above(value: f64, look: f64, wrong: f64) -> Verdict {
    match value {
        value if value > wrong => Verdict::Wrong,
        value if value > look => Verdict::Look,
        _ => Verdict::Ok,
    }
}

/// Rounds to a number of decimal places, for readers.
fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (value * scale).round() / scale
}

/// A count with commas between thousands.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let parts = digits.as_bytes().rchunks(3).rev().map(|part| String::from_utf8_lossy(part).into_owned());
    parts.collect::<Vec<_>>().join(",")
}

/// The table of `docs/what-is-normal.md`.
pub fn documentation() -> String {
    let mut text =
        String::from("| finding | look | wrong | what to do | source of the thresholds |\n|---|---|---|---|---|\n");
    for rule in ALL {
        let (look, wrong) = ((rule.look)(), (rule.wrong)());
        let wrong = if wrong.is_empty() { "–" } else { &wrong };
        text += &format!("| {} | {look} | {wrong} | {} | {} |\n", rule.title, rule.advice, rule.source);
    }
    text
}

/// The published curve as the table of `docs/what-is-normal.md`.
pub fn curve_documentation(loss: &[(f64, f64)], knn: &[(f64, f64)]) -> String {
    let mut text = String::from("| epoch | mean loss | kNN (k = 200, T = 0.1) |\n|---|---|---|\n");
    for (epoch, loss) in loss {
        let top1 =
            knn.iter().find(|point| point.0 == *epoch).map_or_else(|| "–".into(), |point| format!("{:.1} %", point.1));
        text += &format!("| {epoch} | {} | {top1} |\n", format!("{loss:.3}").replace('-', "−"));
    }
    text
}
