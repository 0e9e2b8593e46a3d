//! SimSiam as a task of the training driver.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use simsiam_contract::{RankPhase, StageResult};
use simsiam_data::{Loader, LoaderOptions, Source, ViewFormat};
use simsiam_recipe::{Ablation, Augment, AugmentDevice, CheckpointPolicy, Pretrain, Recipe, Stage};
use tch::{Kind, Tensor};

use super::alternation::{Alternation, Intervals};
use super::batches::{ViewBatches, Views, micro_batch_of};
use super::collapse::CollapseWatch;
use super::origin;
use crate::checkpoint::Checkpoints;
use crate::data::datasets::{Datasets, decode_mode, eval_view, loader_threads, two_views};
use crate::data::photometric::Photometric;
use crate::dist::{BucketSizes, Rank, device, peak_flops};
use crate::error::Error;
use crate::eval::extraction::needs_classes;
use crate::eval::knn::{Evaluation, FeatureSource};
use crate::model::probe::{self, Place, Probe, What};
use crate::model::simsiam::{output_std, spectrum};
use crate::model::{Outputs, Params, Pass, SimSiam, flops};
use crate::storage::Storage;
use crate::telemetry::EncoderKind;
use crate::telemetry::event::{Event, Step};
use crate::telemetry::metric_table;
use crate::training::clock::Clock;
use crate::training::driver::{Options, train};
use crate::training::schedule::LearningRate;
use crate::training::sgd::Sgd;
use crate::training::task::{EpochEnd, LossReduction, Start, StepContext, Task, TaskSpec};
use crate::weights;

/// What the stage works on.
pub struct PretrainInput<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// Its output.
    pub storage: Storage,
    /// Number of this attempt.
    pub attempt: u32,
    /// DDP's first and other bucket sizes in bytes.
    pub buckets: BucketSizes,
}

/// Images of a micro-batch of one rank; every rank must have the same number, and batch norm needs two.
pub fn micro_batch(pretrain: &Pretrain, world: usize) -> Result<usize, Error> {
    let parts = world * pretrain.accumulate as usize;
    let batch = pretrain.batch_size as usize;
    match batch / parts {
        micro if micro >= 2 && micro * parts == batch => Ok(micro),
        _ => Err(Error::config(
            "spec.pretrain.batchSize",
            format!(
                "{batch} images cannot be shared equally by {world} ranks × {} micro-batches of at least 2; use a multiple of {parts}",
                pretrain.accumulate,
            ),
        )),
    }
}

/// Runs the stage from the latest valid checkpoint, or from the beginning, to its end.
pub fn run(rank: &Rank, request: PretrainInput) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: RankPhase::Starting });
    let recipe = request.recipe;
    let Some(pretrain) = &recipe.pretrain else {
        return Err(Error::missing("spec.pretrain", "the pretrain stage"));
    };
    micro_batch(pretrain, rank.info.world)?;
    if rank.is_first() {
        note_channels(&pretrain.augment);
    }
    let datasets = Datasets::new(recipe, request.storage.runtime().clone());
    let source = datasets.train()?;
    let mut labelled = None;
    if recipe.knn.as_ref().is_some_and(|knn| knn.every_epochs > 0) {
        if recipe.dataset.probe.is_some() {
            // Now, so that a wrong address ends the run here and not after epochs of training.
            let train = datasets.labelled_train()?;
            needs_classes(&*train, "spec.knn")?;
            labelled = Some((train.clone(), datasets.val(train.classes())?));
        } else {
            needs_classes(&*source, "spec.knn")?;
        }
    }
    let steps_per_epoch = (source.len() / pretrain.batch_size as usize) as u64;
    if steps_per_epoch == 0 {
        return Err(Error::Data(simsiam_data::Error::TooFewSamples {
            samples: source.len(),
            batch: pretrain.batch_size as usize,
        }));
    }
    Intervals::new(pretrain.alternation.as_ref(), steps_per_epoch).check(pretrain, rank.info.world)?;
    let spec = TaskSpec {
        stage: Stage::Pretrain.name().to_owned(),
        epochs: pretrain.epochs,
        batch_size: pretrain.batch_size,
        steps_per_epoch,
        samples: source.len() as u64,
        listing: simsiam_data::listing_digest(&*source),
        seed: pretrain.seed,
        arithmetic: recipe.arithmetic(),
        loss: LossReduction::Mean,
        lr_field: "spec.pretrain.lr",
        uses_reducer: true,
    };
    let options = Options {
        storage: request.storage.clone(),
        checkpoints: Checkpoints::new(request.storage.clone()),
        policy: recipe.checkpoint.clone(),
        attempt: request.attempt,
        buckets: request.buckets,
    };
    let mut task = PretrainTask::new(rank, recipe, pretrain, datasets, source, steps_per_epoch)?;
    task.labelled = labelled;
    let sgd = Sgd::simsiam(task.model.params(), pretrain.momentum, pretrain.weight_decay)?;
    let (task, trained) = train(rank, task, spec, sgd, options)?;
    Ok(StageResult {
        loss: trained.loss,
        output_std: task.output_std,
        images_per_second: trained.images_per_second,
        epoch: Some(trained.epoch),
        step: Some(trained.step),
        checkpoint: trained.checkpoint,
        weights_sha256: trained.weights_sha256,
        ..StageResult::default()
    })
}

/// Logs what is different about images of other than three channels.
fn note_channels(augment: &Augment) {
    let channels = augment.channels();
    if channels != 3 {
        tracing::info!(
            "images of {channels} channel(s): saturation, hue and grayscale are off, since they are defined for RGB images \
             only; brightness and contrast treat all channels alike; mean {:?}, std {:?}",
            augment.mean,
            augment.std
        );
    }
}

struct PretrainTask<'a> {
    rank: &'a Rank,
    recipe: &'a Recipe,
    pretrain: &'a Pretrain,
    datasets: Datasets<'a>,
    source: Arc<dyn Source>,
    /// The labelled images of kNN during training: those that vote, and those that are classified. `dataset.val` is opened
    /// when it is first needed, since listing a remote set takes long.
    labelled: Option<(Arc<dyn Source>, Arc<dyn Source>)>,
    photometric: Option<Rc<Photometric>>,
    model: SimSiam,
    learning_rate: LearningRate,
    alternation: Alternation,
    collapse: CollapseWatch,
    /// FLOP/s that this rank's device can do at most, if that is known.
    peak_flops: Option<f64>,
    /// Those of the last step.
    outputs: Option<Outputs>,
    output_std: Option<f64>,
}

impl<'a> PretrainTask<'a> {
    fn new(
        rank: &'a Rank,
        recipe: &'a Recipe,
        pretrain: &'a Pretrain,
        datasets: Datasets<'a>,
        source: Arc<dyn Source>,
        steps_per_epoch: u64,
    ) -> Result<Self, Error> {
        let augment = &pretrain.augment;
        let photometric = match augment.device {
            AugmentDevice::Cpu => None,
            AugmentDevice::Gpu => Some(Rc::new(Photometric::new(&augment.mean, &augment.std, rank.device)?)),
        };
        Ok(Self {
            rank,
            recipe,
            pretrain,
            datasets,
            source,
            labelled: None,
            photometric,
            model: SimSiam::new(pretrain, Kind::Float, rank.device)?,
            learning_rate: LearningRate::new(pretrain, steps_per_epoch),
            alternation: Alternation::new(pretrain, steps_per_epoch),
            collapse: CollapseWatch::new(pretrain),
            peak_flops: peak_flops::of(rank.device, pretrain.precision)?,
            outputs: None,
            output_std: None,
        })
    }

    /// The batches of the epoch in progress, from the next step on.
    fn view_batches(&self, clock: &Clock) -> Result<ViewBatches, Error> {
        let pairs: &[u8] = if self.pretrain.ablation == Ablation::AsymmetricDouble { &[0, 2] } else { &[0] };
        let loaders = pairs.iter().map(|&first_view| self.loader(clock, first_view)).collect::<Result<_, _>>()?;
        Ok(ViewBatches::new(loaders, self.photometric.clone(), self.rank.device))
    }

    fn loader(&self, clock: &Clock, first_view: u8) -> Result<Loader, Error> {
        let pretrain = self.pretrain;
        let options = LoaderOptions {
            seed: pretrain.seed,
            epoch: clock.epoch(),
            batch: pretrain.batch_size as usize,
            rank: self.rank.info.rank,
            world: self.rank.info.world,
            first_batch: clock.step_in_epoch() as usize,
            first_view,
            threads: loader_threads(&self.recipe.dataset, self.rank.info.threads),
            prefetch: 2,
            max_corrupt: self.recipe.dataset.max_corrupt,
            decode: decode_mode(&self.recipe.dataset),
            output: if self.photometric.is_some() { ViewFormat::Crops } else { ViewFormat::Planes },
            time_stages: false,
        };
        Ok(Loader::two_views(self.source.clone(), two_views(&pretrain.augment), options)?)
    }

    /// Model FLOP/s of an interval over what the ranks' devices can do at most.
    fn utilization(&self, measured: &Step) -> Option<f64> {
        let peak = self.peak_flops? * self.rank.info.world as f64;
        let per_second = measured.images as f64 / measured.seconds.max(1e-9);
        Some(flops::training_flops(self.pretrain) as f64 * per_second / peak)
    }
}

/// The value of a diagnostic. One that cannot be computed is a warning and is not reported; it never ends a run.
fn diagnostic<T>(what: &str, value: Result<T, Error>) -> Option<T> {
    value.map_err(|e| tracing::warn!("{what} is not reported: {e}")).ok()
}

impl Task for PretrainTask<'_> {
    type Batches = ViewBatches;

    fn params(&self) -> &Params {
        self.model.params()
    }

    fn checkpoint_tensors(&self) -> Vec<(&str, &Tensor)> {
        self.model.params().entries().iter().map(|entry| (entry.name.as_str(), &entry.tensor)).collect()
    }

    fn begin(&mut self, sgd: &Sgd) -> Result<Start, Error> {
        let Some(uri) = &self.recipe.weights else { return Ok(Start::default()) };
        let weights = weights::open("spec.weights", uri, &self.recipe.output, self.datasets.runtime())?;
        origin::begin(
            &weights,
            self.model.params(),
            sgd,
            self.pretrain.epochs,
            self.alternation.intervals().steps_per_epoch(),
        )
    }

    fn resumed(&mut self, clock: &Clock, _: Option<crate::checkpoint::EvalRecord>) {
        if self.rank.is_first() && !self.alternation.intervals().ends(clock.step) {
            tracing::warn!(
                "resuming within an interval of spec.pretrain.alternation: the targets of its remaining steps are computed \
                 with the current weights, so the result will not be bit-identical to that of an uninterrupted run"
            );
        }
    }

    fn batches(&mut self, clock: &Clock) -> Result<ViewBatches, Error> {
        self.view_batches(clock)
    }

    fn before_step(&mut self, context: &mut StepContext) -> Result<ControlFlow<()>, Error> {
        if !self.alternation.needs_targets() {
            return Ok(ControlFlow::Continue(()));
        }
        let batches = self.view_batches(&context.clock)?;
        self.alternation.compute_targets(&self.model, self.pretrain, batches, context)
    }

    /// The gradients of every micro-batch of every pair of views, their mean over the ranks, SGD.
    fn step(&mut self, context: &mut StepContext, pairs: Vec<Views>) -> Result<Tensor, Error> {
        self.outputs = None;
        let targets = self.alternation.next_targets(self.rank.device)?;
        let micro_batches = i64::from(self.pretrain.accumulate);
        let parts = pairs.len() as i64 * micro_batches;
        let pass = Pass::train(self.rank.peers());
        context.sgd.zero_grad()?;
        for i in 0..parts {
            let [one, two] = micro_batch_of(&pairs[(i / micro_batches) as usize], i % micro_batches, micro_batches)?;
            let views = [&one, &two];
            // Only the last part's backward pass reduces; those before it add to the local gradients.
            let is_last = i + 1 == parts;
            if is_last {
                context.prepare_forward()?;
            }
            let targets = targets.as_ref().map(|targets| &targets[i as usize]);
            let outputs = device::in_precision(self.rank.device, self.pretrain.precision, || match targets {
                Some([z1, z2]) => self.model.forward_towards(views, [z1, z2], pass),
                None => self.model.forward(views, pass),
            })?;
            let loss = outputs.loss.f_div_scalar(parts as f64)?;
            if is_last {
                context.backward_and_reduce(&loss)?;
            } else {
                tch_ext::backward(&loss)?;
            }
            self.outputs = Some(outputs);
        }
        context.sgd.step(&self.learning_rate.at(context.clock.step).groups())?;
        let outputs = self.outputs.as_ref();
        let loss = outputs.map(|outputs| outputs.loss.shallow_clone());
        loss.ok_or_else(|| Error::config("spec.pretrain.accumulate", "must be at least 1"))
    }

    /// Targets of an interval are not kept.
    fn is_repeatable(&self) -> bool {
        self.pretrain.alternation.is_none()
    }

    fn probe(&self, pairs: &Vec<Views>) -> Result<Option<Place>, Error> {
        let probe = Probe::default();
        let pass = Pass { track: false, probe: Some(&probe), ..Pass::train(self.rank.peers()) };
        let micro_batches = i64::from(self.pretrain.accumulate);
        let (mut images, mut losses) = (true, true);
        for pair in pairs {
            for i in 0..micro_batches {
                let [one, two] = micro_batch_of(pair, i, micro_batches)?;
                images = images && probe::is_finite(&one)? && probe::is_finite(&two)?;
                let forward = || self.model.forward([&one, &two], pass);
                let outputs = device::in_precision(self.rank.device, self.pretrain.precision, forward)?;
                losses = losses && probe::is_finite(&outputs.loss)? && probe::is_finite(&output_std(&outputs.z[0])?)?;
            }
        }
        let images = (!images).then(|| Place::of(What::Images));
        Ok(images.or(probe.found()).or((!losses).then(|| Place::of(What::Loss))))
    }

    fn sample_name(&self, id: u64) -> String {
        self.source.name(id).to_owned()
    }

    /// The output std.
    fn statistics(&mut self) -> Result<Vec<f64>, Error> {
        let std = |outputs: &Outputs| Ok(output_std(&outputs.z[0])?.f_double_value(&[])?);
        self.outputs.iter().map(std).collect()
    }

    fn report(&mut self, clock: &Clock, statistics: &[f64], mut step: Step) -> Result<Step, Error> {
        let std = statistics.first().copied();
        if let Some(std) = std {
            self.collapse.observe(clock.step, std)?;
        }
        self.output_std = std;
        // A factorisation after every interval would be too expensive; one an epoch shows the trend.
        let outputs = self.outputs.as_ref().filter(|_| clock.is_epoch_end() && self.rank.is_first());
        let rates = self.learning_rate.at(clock.step - 1);
        let spectrum = outputs.and_then(|outputs| diagnostic("the effective rank", spectrum(&outputs.z[0])));
        let utilization = self.utilization(&step);
        let values = &mut step.values;
        values.set(metric_table::OUTPUT_STD.key, std);
        values.set(metric_table::OUTPUT_STD_HEALTHY.key, self.collapse.healthy());
        values.set(metric_table::EFFECTIVE_RANK.key, spectrum.map(|found| found.effective_rank));
        values.set(metric_table::EXPLAINED_VARIANCE_AUC.key, spectrum.map(|found| found.explained_variance_auc));
        values.set(metric_table::LR_ENCODER.key, rates.encoder);
        values.set(metric_table::LR_PREDICTOR.key, rates.predictor);
        values.set(metric_table::MODEL_FLOPS_UTILIZATION.key, utilization);
        Ok(step)
    }

    /// By the policy, at the end of the stage too. One that falls due within an interval of alternation waits for the
    /// interval's end, so that a resumed run has the same targets.
    fn checkpoint_due(&self, clock: &Clock, policy: &CheckpointPolicy) -> bool {
        if !self.alternation.intervals().ends(clock.step) {
            return false;
        }
        let before = self.alternation.intervals().begin(clock.step - 1);
        let every_steps = policy.every_steps.is_some_and(|n| clock.step / u64::from(n) > before / u64::from(n));
        let every_epochs = clock.is_epoch_end()
            && policy.every_epochs > 0
            && clock.epoch().is_multiple_of(u64::from(policy.every_epochs));
        every_steps || every_epochs || clock.is_done()
    }

    /// kNN during training, at the end of every `knn.everyEpochs`th epoch.
    fn end_of_epoch(&mut self, clock: &Clock, _: f64) -> Result<EpochEnd, Error> {
        let Some(knn) = &self.recipe.knn else { return Ok(EpochEnd::Continue) };
        if knn.every_epochs == 0 || !clock.epoch().is_multiple_of(u64::from(knn.every_epochs)) {
            return Ok(EpochEnd::Continue);
        }
        let (train, val) = match &self.labelled {
            Some(sets) => sets.clone(),
            None => {
                let val = self.datasets.val(self.source.classes())?;
                self.labelled.insert((self.source.clone(), val)).clone()
            }
        };
        let evaluation = Evaluation {
            train,
            val,
            max_corrupt: self.recipe.dataset.max_corrupt,
            view: eval_view(&self.pretrain.augment),
            knn,
            loader_threads: loader_threads(&self.recipe.dataset, self.rank.info.threads),
        };
        let scores = evaluation.run(self.rank, &FeatureSource::Backbone(&self.model))?;
        if self.rank.is_first() {
            let features = EncoderKind::Trained;
            self.rank.sink.send(&Event::Knn { epoch: clock.epoch(), step: clock.step, features, scores });
        }
        Ok(EpochEnd::Continue)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn effective_rank_that_cannot_be_computed_is_left_out() {
        let not_finite = Tensor::full([8, 4], f64::NAN, (Kind::Float, tch::Device::Cpu));
        let refused = spectrum(&not_finite);
        assert!(refused.is_err(), "libtorch's solver refuses NaN");
        assert_eq!(diagnostic("the effective rank", refused), None);
        let orthogonal = Tensor::eye(4, (Kind::Float, tch::Device::Cpu));
        let found = diagnostic("the effective rank", spectrum(&orthogonal));
        assert!(found.is_some_and(|found| found.effective_rank > 2.0));
    }
}
