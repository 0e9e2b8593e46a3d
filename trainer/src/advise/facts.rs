//! What `simsiam advise` found: figures without judgement, from which the rules conclude.

use serde::Serialize;

use crate::doctor::MachineFacts;

/// Everything the rules see beside the recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The sets that the file names; `dataset.train` is the first.
    pub sets: Vec<SetFacts>,
    /// Images of an evaluation set that are in a training set too.
    pub leaks: Vec<Leak>,
    /// Address of a folder `val` beside a local `dataset.train`, if there is one.
    pub sibling_val: Option<String>,
    /// This machine.
    pub machine: MachineFacts,
    /// What was measured here; `None` with `--no-measure`.
    pub rates: Option<Rates>,
}

/// One set of images; all but the counts of images and classes is of the images read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetFacts {
    /// The field that names it, as in `dataset.train`.
    pub field: String,
    /// Its images.
    pub images: usize,
    /// Classes with images; 0 without labels.
    pub classes: usize,
    /// Images of the smallest class.
    pub fewest_in_a_class: usize,
    /// Images of the largest class.
    pub most_in_a_class: usize,
    /// Images read.
    pub read: usize,
    /// Those that cannot be decoded.
    pub broken: Found<Broken>,
    /// Those of one colour.
    pub blank: Found<String>,
    /// Those with the bytes of an earlier one.
    pub copies: Found<CopyOf>,
    /// Those that look like an earlier one, by the perceptual hash.
    pub near_copies: Found<CopyOf>,
    /// Mean size of a file in bytes.
    pub mean_bytes: f64,
    /// Shorter sides in pixels.
    pub short_side: Quantiles,
    /// Longer sides in pixels.
    pub long_side: Quantiles,
    /// Width divided by height.
    pub aspect: Quantiles,
    /// Share of images without colour.
    pub gray_share: f64,
    /// Mean of each channel over the images that are not blank.
    pub mean: [f64; 3],
    /// Mean over those images of each channel's standard deviation in an image.
    pub std: [f64; 3],
    /// For the file's minimum scale, and for larger ones: the share of random crops with little detail.
    pub sparse_crops: Vec<SparseCrops>,
}

/// How many were found, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found<T> {
    /// How many.
    pub count: usize,
    /// The first of them, at most 20.
    pub first: Vec<T>,
}

/// How many of what was found are listed by name.
pub const LISTED: usize = 20;

impl<T> Found<T> {
    /// Counts one, and keeps it if it is one of the first.
    pub fn add(&mut self, one: T) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(one);
        }
    }
}

/// An image that cannot be decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A copy of another image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyOf {
    /// The copy's name.
    pub name: String,
    /// The image that it is a copy of.
    pub of: String,
}

/// Values in order of size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// The smallest.
    pub min: f64,
    /// 5 % are below.
    pub p5: f64,
    /// Half are below.
    pub median: f64,
    /// 95 % are below.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Quantiles {
    /// Quantiles of values, each by the nearest rank; all 0 without values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let at = |share: f64| values.get((share * last as f64).round() as usize).copied().unwrap_or_default();
        Self { min: at(0.0), p5: at(0.05), median: at(0.5), p95: at(0.95), max: at(1.0) }
    }
}

/// How often a random crop has little detail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SparseCrops {
    /// Minimum area of the crops, as a share of the image.
    pub min_scale: f64,
    /// Share of the crops whose density of detail is below a tenth of their image's.
    pub share: f64,
}

/// Images of an evaluation set that a training set has too.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// The field of the evaluation set.
    pub field: String,
    /// The field of the training set.
    pub train: String,
    /// Images of the evaluation set that were compared.
    pub compared: usize,
    /// Those with the same bytes.
    pub copies: Found<CopyOf>,
    /// Those that look alike.
    pub near_copies: Found<CopyOf>,
}

/// Rates measured on this machine with the proposed settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Images (two views each) that the loader makes per second, alone.
    pub loading: f64,
    /// Threads that it used.
    pub loader_threads: usize,
    /// Images per second of training steps alone, on one device.
    pub training: f64,
    /// Images per step of that measurement.
    pub step_images: u32,
}

impl Facts {
    /// The training set.
    pub fn train(&self) -> &SetFacts {
        static NONE: std::sync::LazyLock<SetFacts> = std::sync::LazyLock::new(SetFacts::default);
        self.sets.first().unwrap_or(&NONE)
    }

    /// Ranks that a run on this machine starts: one for each GPU, or one.
    pub fn ranks(&self) -> usize {
        self.machine.gpus.len().max(1)
    }
}

impl SetFacts {
    /// Images of the whole set that can be decoded, estimated from those read.
    pub fn usable(&self) -> usize {
        let share = self.broken.count as f64 / self.read.max(1) as f64;
        self.images - (self.images as f64 * share).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let of = Quantiles::of((1..=101).rev().map(f64::from).collect());
        assert_eq!(of, Quantiles { min: 1.0, p5: 6.0, median: 51.0, p95: 96.0, max: 101.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }

    #[test]
    fn list_of_what_was_found_ends_but_its_count_does_not() {
        let mut found = Found::default();
        (0..50).for_each(|number| found.add(number));
        assert_eq!((found.count, found.first.len()), (50, LISTED));
    }
}
