//! Top-1 and top-5 accuracy over a whole validation set, exact at any world size.

use std::sync::Arc;

use simsiam_data::{EvalView, Source};
use tch::{Kind, Tensor};

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::extraction::{FeatureExtraction, classes_of, unreadable};

/// Top-1 and top-5 accuracy, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Images whose class ranked first.
    pub top1: f64,
    /// Images whose class is among the first five.
    pub top5: f64,
    /// Number of images.
    pub images: u64,
}

/// Images of a forward pass, over all ranks.
const BATCH: usize = 256;

/// The validation set of a classifier.
#[derive(Clone)]
pub struct Validation {
    /// The images.
    pub source: Arc<dyn Source>,
    /// Their evaluation view.
    pub view: EvalView,
    /// Decoding threads of this rank.
    pub loader_threads: usize,
    /// Unreadable images that may be left out.
    pub max_corrupt: u64,
    /// The field of the run that needs their classes.
    pub field: &'static str,
}

impl Validation {
    /// Measures the accuracy of the logits that `of` computes.
    ///
    /// This function owns the promise that **every image counts exactly once at any world size**: the ranks share the images
    /// without padding, and sums are reduced, not means.
    pub fn evaluate(&self, rank: &Rank, of: impl Fn(&Tensor) -> Result<Tensor, Error>) -> Result<Accuracy, Error> {
        let (view, loader_threads) = (self.view.clone(), self.loader_threads);
        let extraction = FeatureExtraction {
            source: &self.source,
            view,
            batch: BATCH,
            loader_threads,
            max_corrupt: self.max_corrupt,
            what: "validation",
        };
        let mut sums = [0.0; 3];
        extraction.run(rank, of, |rows| {
            let classes = classes_of(&rows, &*self.source, self.field)?;
            let truth = Tensor::f_from_slice(&classes)?.f_to_device(rank.device)?;
            let [first, five] = hits(&rows.values, &truth)?;
            sums = [sums[0] + first, sums[1] + five, sums[2] + classes.len() as f64];
            Ok(())
        })?;
        match rank.all_reduce_sum(&sums, "validation")?[..] {
            [first, five, images] if images > 0.0 => {
                Ok(Accuracy { top1: 100.0 * first / images, top5: 100.0 * five / images, images: images as u64 })
            }
            _ => Err(unreadable(&*self.source, "evaluate with")),
        }
    }
}

/// Counts the rows of `logits` `[N, C]` whose class in `truth` `[N]` ranks first, and among the first five (or C).
pub fn hits(logits: &Tensor, truth: &Tensor) -> Result<[f64; 2], Error> {
    let depth = logits.size()[1].min(5);
    let (_, best) = logits.f_topk(depth, 1, true, true)?;
    let hit = best.f_eq_tensor(&truth.f_unsqueeze(1)?)?;
    let count =
        |depth| -> Result<f64, Error> { Ok(hit.f_narrow(1, 0, depth)?.f_sum(Kind::Double)?.f_double_value(&[])?) };
    Ok([count(1)?, count(depth)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_counted_for_top_1_and_top_5() {
        let logits = Tensor::from_slice(&[
            0.9f32, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, // class 0 first, 6 second, … 1 last
            0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, //
            0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, //
            0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6,
        ])
        .reshape([4, 7]);
        // First; fifth; sixth; last.
        assert_eq!(hits(&logits, &Tensor::from_slice(&[0i64, 3, 2, 1])).unwrap(), [1.0, 2.0]);
        // With three classes every class is among the first five.
        let few = logits.narrow(1, 0, 3);
        assert_eq!(hits(&few, &Tensor::from_slice(&[0i64, 1, 2, 0])).unwrap(), [2.0, 4.0]);
    }
}
