//! kNN classification on frozen features: a cheap evaluation of a representation, without training.
//!
//! Protocol of Wu et al. 2018 (arXiv 1805.01978, section 3.4): L2-normalised backbone features, cosine
//! similarity, the k nearest training images vote with exp(similarity / T).

use std::sync::Arc;

use simsiam_contract::{KnnScore, RankPhase};
use simsiam_data::{EvalView, Source};
use simsiam_recipe::{Knn, KnnProtocol};
use tch::{Device, Kind, Tensor};

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::extraction::{FeatureExtraction, classes_of, needs_classes, unreadable};
use crate::model::{Pass, SimSiam};
use crate::telemetry::event::Event;

/// What features are computed with.
pub enum FeatureSource<'a> {
    /// The backbone, in evaluation mode.
    Backbone(&'a SimSiam),
    /// The pixels themselves, as a baseline.
    Pixels,
}

impl FeatureSource<'_> {
    /// `[N, C, H, W] → [N, F]`.
    fn of(&self, images: &Tensor) -> Result<Tensor, Error> {
        match self {
            Self::Backbone(model) => model.features(images, Pass::EVAL),
            Self::Pixels => Ok(images.f_flatten(1, -1)?),
        }
    }

    fn width(&self, view: &EvalView) -> i64 {
        match self {
            Self::Backbone(model) => model.feature_width(),
            Self::Pixels => view.channels() as i64 * i64::from(view.crop) * i64::from(view.crop),
        }
    }
}

/// The two data sets of a kNN evaluation and its settings.
pub struct Evaluation<'a> {
    /// The bank: images that vote.
    pub train: Arc<dyn Source>,
    /// The queries: images that are classified.
    pub val: Arc<dyn Source>,
    /// Resize and centre crop.
    pub view: EvalView,
    /// The recipe's settings.
    pub knn: &'a Knn,
    /// Decoding threads of this rank.
    pub loader_threads: usize,
    /// Unreadable images that may be left out of each set.
    pub max_corrupt: u64,
}

/// FeatureSource with their labels, `[N, F]` and `[N]`.
struct Set {
    features: Tensor,
    labels: Tensor,
}

impl Evaluation<'_> {
    /// Returns the accuracy of every protocol, the same on every rank. The ranks share the work.
    pub fn run(&self, rank: &Rank, features: &FeatureSource) -> Result<Vec<KnnScore>, Error> {
        needs_classes(&*self.train, "spec.knn")?;
        rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
        tch::no_grad(|| {
            let bank = self.extract(rank, features, &self.train, "train features")?;
            let bank = Set {
                features: rank.all_gather_rows(&bank.features, "kNN")?,
                labels: rank.all_gather_rows(&bank.labels, "kNN")?,
            };
            if bank.labels.size()[0] == 0 {
                return Err(unreadable(&*self.train, "vote in kNN"));
            }
            let voters = bank.labels.size()[0].unsigned_abs();
            let queries = self.extract(rank, features, &self.val, "val features")?;
            let classes = self.train.classes().len() as i64;
            let mut correct = classify(&bank, &queries, &self.knn.protocols, classes)?;
            correct.push(queries.labels.size()[0] as f64);
            let sums = rank.all_reduce_sum(&correct, "kNN")?;
            let (total, correct) = sums.split_last().unwrap_or((&0.0, &[]));
            if *total == 0.0 {
                return Err(unreadable(&*self.val, "evaluate with"));
            }
            Ok(self
                .knn
                .protocols
                .iter()
                .zip(correct)
                .map(|(protocol, &correct)| KnnScore {
                    k: protocol.k,
                    temperature: protocol.temperature,
                    top1: 100.0 * correct / total,
                    caveat: caveat(protocol, voters),
                })
                .collect())
        })
    }

    /// Computes the features of this rank's share of a source.
    fn extract(
        &self,
        rank: &Rank,
        features: &FeatureSource,
        source: &Arc<dyn Source>,
        what: &str,
    ) -> Result<Set, Error> {
        let batch = self.knn.batch_size as usize;
        let (view, loader_threads) = (self.view.clone(), self.loader_threads);
        let extraction = FeatureExtraction { source, view, batch, loader_threads, max_corrupt: self.max_corrupt, what };
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        extraction.run(
            rank,
            |images| normalised(&features.of(images)?),
            |part| {
                labels.extend(classes_of(&part, &**source, "spec.knn")?);
                rows.push(part.values);
                Ok(())
            },
        )?;
        // A rank without images still takes part in the gather, so its tensor must have the right width.
        rows.push(Tensor::f_zeros([0, features.width(&self.view)], (Kind::Float, rank.device))?);
        let features = Tensor::f_cat(&rows, 0)?;
        Ok(Set { features, labels: Tensor::f_from_slice(&labels)?.f_to_device(rank.device)? })
    }
}

/// What makes a score incomparable: fewer images than neighbours.
fn caveat(protocol: &KnnProtocol, voters: u64) -> Option<String> {
    let few = u64::from(protocol.k) > voters;
    few.then(|| format!("k exceeds the {voters} training images, so each of them votes"))
}

/// Returns `x` with each row scaled to length 1.
pub(crate) fn normalised(x: &Tensor) -> Result<Tensor, Error> {
    let x = x.f_to_kind(Kind::Float)?;
    Ok(x.f_div(&x.f_norm_scalaropt_dim(2.0, [1], true)?.f_clamp_min(1e-12)?)?)
}

/// Counts the queries that each protocol classifies correctly.
fn classify(bank: &Set, queries: &Set, protocols: &[KnnProtocol], classes: i64) -> Result<Vec<f64>, Error> {
    let bank_size = bank.labels.size()[0];
    let deepest = protocols.iter().map(|p| i64::from(p.k)).max().unwrap_or(1).min(bank_size);
    let mut correct = vec![0.0; protocols.len()];
    // A chunk's similarities take at most 256 MB.
    let rows = ((64 << 20) / bank_size.max(1)).clamp(1, 4096);
    let mut from = 0;
    while from < queries.labels.size()[0] {
        let n = rows.min(queries.labels.size()[0] - from);
        let similarity = queries.features.f_narrow(0, from, n)?.f_matmul(&bank.features.f_tr()?)?;
        let (nearest, index) = similarity.f_topk(deepest, 1, true, true)?;
        let votes_for = bank.labels.f_index_select(0, &index.f_flatten(0, -1)?)?.f_reshape([n, deepest])?;
        let truth = queries.labels.f_narrow(0, from, n)?;
        for (correct, protocol) in correct.iter_mut().zip(protocols) {
            let k = i64::from(protocol.k).min(deepest);
            let weights =
                nearest.f_narrow(1, 0, k)?.f_to_kind(Kind::Double)?.f_div_scalar(protocol.temperature)?.f_exp()?;
            let votes = Tensor::f_zeros([n, classes], (Kind::Double, weights.device()))?;
            let votes = votes.f_scatter_add(1, &votes_for.f_narrow(1, 0, k)?, &weights)?;
            let hits = votes.f_argmax(1, false)?.f_eq_tensor(&truth)?.f_sum(Kind::Double)?;
            *correct += hits.f_to_device(Device::Cpu)?.f_double_value(&[])?;
        }
        from += n;
    }
    Ok(correct)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(features: &[[f32; 2]], labels: &[i64]) -> Set {
        let flat: Vec<f32> = features.concat();
        let features = normalised(&Tensor::from_slice(&flat).reshape([labels.len() as i64, 2])).unwrap();
        Set { features, labels: Tensor::from_slice(labels) }
    }

    #[test]
    fn near_neighbour_outvotes_many_far_ones_at_low_temperature() {
        let bank = set(&[[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [-0.1, 1.0]], &[0, 1, 1, 1]);
        let query = set(&[[1.0, 0.1]], &[0]);
        let protocol = |k, temperature| KnnProtocol { k, temperature };
        // At T = 0.1 the one near neighbour weighs e^10; at T = 100 all four count alike; k = 1 sees one.
        let protocols = [protocol(4, 0.1), protocol(4, 100.0), protocol(1, 100.0)];
        assert_eq!(classify(&bank, &query, &protocols, 2).unwrap(), [1.0, 0.0, 1.0]);
    }

    #[test]
    fn score_with_fewer_images_than_neighbours_has_a_caveat() {
        let protocol = KnnProtocol { k: 200, temperature: 0.1 };
        assert_eq!(caveat(&protocol, 200), None);
        assert_eq!(caveat(&protocol, 40).as_deref(), Some("k exceeds the 40 training images, so each of them votes"));
    }

    #[test]
    fn k_above_the_bank_size_uses_the_whole_bank() {
        let bank = set(&[[1.0, 0.0], [0.0, 1.0]], &[0, 1]);
        let query = set(&[[1.0, 0.1], [0.1, 1.0], [1.0, 0.0]], &[0, 1, 1]);
        assert_eq!(classify(&bank, &query, &[KnnProtocol { k: 200, temperature: 0.1 }], 2).unwrap(), [2.0]);
    }
}
