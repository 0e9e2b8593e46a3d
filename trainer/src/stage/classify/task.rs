//! Both protocols as a task of the training driver, and what they leave in the output.
//!
//! In the stage's folder: `model_best.safetensors`, the whole network of the best epoch under torchvision's names, and
//! checkpoints in a folder named by the digest of everything that decides the outcome, so that another learning rate or
//! another encoder starts from the beginning.

use std::rc::Rc;
use std::sync::Arc;

use simsiam_contract::{ClassifierScore, RankPhase, StageResult};
use simsiam_data::{LoaderOptions, Source, Subset, TwoViews};
use simsiam_recipe::{CheckpointPolicy, Pretrain, Recipe, digest_of};
use tch::{Kind, Reduction, Tensor};

use super::batches::{Labelled, LabelledBatches, Table};
use super::encoder::{self, Encoder};
use super::frozen_check::Fingerprint;
use super::protocol::Protocol;
use crate::checkpoint::{Checkpoints, EvalRecord, snapshot};
use crate::data::datasets::{Datasets, decode_mode, eval_view, loader_threads};
use crate::dist::{BucketSizes, Rank, device, peer_lost};
use crate::error::Error;
use crate::eval::accuracy::Validation;
use crate::eval::extraction::needs_classes;
use crate::model::classifier::CLASSIFIER;
use crate::model::probe::{self, Place, Probe, What};
use crate::model::{Classifier, Params, Pass};
use crate::storage::Storage;
use crate::telemetry::EncoderKind;
use crate::telemetry::event::{Event, Step};
use crate::telemetry::metric_table;
use crate::telemetry::values::Values;
use crate::training::clock::Clock;
use crate::training::driver::{Options, train};
use crate::training::schedule::half_cosine;
use crate::training::sgd::Sgd;
use crate::training::task::{EpochEnd, LossReduction, StepContext, Task, TaskSpec};

/// What the stage works on.
pub struct ClassifyInput<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// Its output.
    pub storage: Storage,
    /// Number of this attempt.
    pub attempt: u32,
    /// DDP's first and other bucket sizes in bytes.
    pub buckets: BucketSizes,
    /// What is trained.
    pub protocol: Protocol,
    /// On which encoder.
    pub encoder: Encoder<'a>,
}

/// The best network so far, within the stage's folder; of weights that are not the run's, beside its checkpoints.
const BEST: &str = "model_best.safetensors";

/// Runs the stage to its end.
pub fn run(rank: &Rank, request: ClassifyInput) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: RankPhase::Starting });
    let protocol = &request.protocol;
    let batch = protocol.batch_size() as usize;
    if !batch.is_multiple_of(rank.info.world) {
        return Err(Error::config(
            format!("{}.batchSize", protocol.field()),
            format!("{batch} images cannot be shared equally by {} ranks; use a multiple", rank.info.world),
        ));
    }
    let (task, folder, spec) = ClassifyTask::new(rank, &request)?;
    let options = Options {
        storage: request.storage.clone(),
        checkpoints: Checkpoints::in_folder(request.storage.clone(), folder),
        policy: request.recipe.checkpoint.clone(),
        attempt: request.attempt,
        buckets: request.buckets,
    };
    let group_of = |name: &str| usize::from(!name.starts_with(CLASSIFIER));
    let sgd = Sgd::new(task.network.params(), protocol.peak_rates().len(), group_of, protocol.sgd())?;
    let (task, _) = train(rank, task, spec, sgd, options)?;
    Ok(task.result())
}

struct ClassifyTask<'a> {
    rank: &'a Rank,
    request: &'a ClassifyInput<'a>,
    pretrain: &'a Pretrain,
    source: Arc<dyn Source>,
    validation: Validation,
    network: Classifier,
    /// The backbone as it was loaded, where it must not change.
    frozen: Option<Fingerprint>,
    /// Features that were computed once, with `cachedFeatures`.
    table: Option<Rc<Table>>,
    /// Address of the encoder, and SHA-256 of its weights (of a checkpoint's `model.safetensors`).
    encoder: (String, String),
    /// Path of the best network in the output, if it is kept.
    best: Option<String>,
    record: EvalRecord,
}

impl<'a> ClassifyTask<'a> {
    /// The task, the folder of its checkpoints, and its facts.
    fn new(rank: &'a Rank, request: &'a ClassifyInput<'a>) -> Result<(Self, String, TaskSpec), Error> {
        let (recipe, protocol) = (request.recipe, &request.protocol);
        let Some(pretrain) = &recipe.pretrain else {
            return Err(Error::missing("spec.pretrain", &format!("the {} stage", protocol.name())));
        };
        let datasets = Datasets::new(recipe, request.storage.runtime().clone());
        let all = datasets.labelled_train()?;
        needs_classes(&*all, protocol.field())?;
        let validation = Validation {
            source: datasets.val(all.classes())?,
            view: eval_view(&pretrain.augment),
            loader_threads: loader_threads(&recipe.dataset, rank.info.threads),
            max_corrupt: recipe.dataset.max_corrupt,
            field: protocol.field(),
        };
        let (source, steps_per_epoch) = training_set(protocol, all)?;
        let mut network = Classifier::new(pretrain, validation.source.classes().len(), protocol.seed(), rank.device)?;
        let encoder = encoder::load(rank, request.encoder, protocol.name(), &request.storage, pretrain, &network)?;
        let mut frozen = None;
        if protocol.freezes_backbone() {
            network.freeze_backbone();
            frozen = Some(Fingerprint::of(network.backbone_tensors())?);
        }
        let arithmetic = protocol.arithmetic(recipe, pretrain, &encoder.1);
        let digest = digest_of(&arithmetic);
        let folder = format!("{}/{}", protocol.name(), &digest[..12]);
        let best = match request.encoder {
            Encoder::Trained => Some(format!("{}/{BEST}", protocol.name())),
            Encoder::Other(_) => Some(format!("{folder}/{BEST}")),
            Encoder::Untrained => None,
        };
        let spec = TaskSpec {
            stage: stage_name(request),
            epochs: protocol.epochs(),
            batch_size: protocol.batch_size(),
            steps_per_epoch,
            samples: source.len() as u64,
            listing: simsiam_data::listing_digest(&*source),
            seed: protocol.seed(),
            arithmetic,
            loss: LossReduction::Sum,
            lr_field: protocol.lr_field(),
            // A frozen backbone has no gradients to reduce, and a classifier's are few.
            uses_reducer: frozen.is_none(),
        };
        let record = EvalRecord::default();
        let task =
            Self { rank, request, pretrain, source, validation, network, frozen, table: None, encoder, best, record };
        Ok((task, folder, spec))
    }

    fn protocol(&self) -> &'a Protocol {
        &self.request.protocol
    }

    /// The stage's name in progress and metrics.
    fn name(&self) -> String {
        stage_name(self.request)
    }

    fn result(self) -> StageResult {
        let record = &self.record;
        let score = ClassifierScore {
            top1: record.best_top1,
            top5: record.best_top5,
            best_epoch: record.best_epoch,
            last_top1: record.last_top1,
            images: record.images,
            caveat: self.protocol().caveat(),
        };
        let mut result = StageResult::default();
        match (self.protocol(), self.request.encoder) {
            (_, Encoder::Untrained) => result.linear_untrained = Some(score),
            (Protocol::Linear(_), _) => result.linear = Some(score),
            (Protocol::Finetune(_), _) => result.finetune = Some(score),
        }
        if !matches!(self.request.encoder, Encoder::Untrained) {
            let (uri, sha256) = self.encoder;
            (result.checkpoint, result.weights_sha256) = (Some(uri), Some(sha256));
        }
        result
    }

    /// Features of all training images, computed when they are first needed.
    fn table(&mut self, loader_threads: usize) -> Result<Rc<Table>, Error> {
        if let Some(table) = &self.table {
            return Ok(table.clone());
        }
        self.rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
        let view = eval_view(&self.pretrain.augment);
        let table = Table::new(self.rank, &self.network, &self.source, view, 256, loader_threads)?;
        if table.len() < self.source.len() {
            return Err(Error::config(
                "spec.linear.cachedFeatures",
                format!(
                    "{} of {} training images cannot be read (the warnings above name them), and cached features \
                     cannot replace them; remove them or omit this field",
                    self.source.len() - table.len(),
                    self.source.len(),
                ),
            ));
        }
        Ok(self.table.insert(Rc::new(table)).clone())
    }

    /// Images of the global batch of the next step: an epoch's last may be smaller.
    fn images_of_step(&self, clock: &Clock) -> u64 {
        let batch = u64::from(self.protocol().batch_size());
        let before = clock.step_in_epoch() * batch;
        batch.min((self.source.len() as u64).saturating_sub(before)).max(1)
    }

    /// Features of a frozen backbone, `[N, F]` in fp32; an input of features is returned as it is.
    fn frozen_features(&self, input: &Tensor) -> Result<Tensor, Error> {
        let size = input.size();
        if size.len() == 2 {
            return Ok(input.shallow_clone());
        }
        if size[0] == 0 {
            return Ok(Tensor::f_zeros([0, self.network.feature_width()], (Kind::Float, self.rank.device))?);
        }
        let forward = || self.in_precision(|| self.network.features(input, Pass::EVAL));
        Ok(tch::no_grad(forward)?.f_to_kind(Kind::Float)?)
    }

    fn in_precision(&self, forward: impl FnOnce() -> Result<Tensor, Error>) -> Result<Tensor, Error> {
        device::in_precision(self.rank.device, self.pretrain.precision, forward)
    }

    /// Logits `[N, classes]` of images `[N, C, S, S]`, in evaluation mode and fp32.
    fn logits(&self, images: &Tensor) -> Result<Tensor, Error> {
        let forward = || self.network.classify(&self.network.features(images, Pass::EVAL)?, Pass::EVAL);
        Ok(self.in_precision(forward)?.f_to_kind(Kind::Float)?)
    }
}

/// The stage's name, which says if the encoder is untrained.
fn stage_name(request: &ClassifyInput) -> String {
    let kind = match request.encoder {
        Encoder::Trained | Encoder::Other(_) => EncoderKind::Trained,
        Encoder::Untrained => EncoderKind::Untrained,
    };
    kind.stage_name(request.protocol.name())
}

/// The images that are trained on, and the steps of an epoch.
fn training_set(protocol: &Protocol, all: Arc<dyn Source>) -> Result<(Arc<dyn Source>, u64), Error> {
    let batch = protocol.batch_size() as usize;
    match protocol {
        Protocol::Linear(_) => {
            let steps = all.len().div_ceil(batch);
            Ok((all, steps as u64))
        }
        Protocol::Finetune(f) => {
            let part: Arc<dyn Source> = Arc::new(Subset::of_each_class(all, f.fraction, f.seed)?);
            match part.len() / batch {
                0 => Err(Error::config(
                    "spec.finetune.batchSize",
                    format!(
                        "{batch} is more than the {} images that fraction {} leaves; use fewer, or a larger fraction",
                        part.len(),
                        f.fraction
                    ),
                )),
                steps => Ok((part, steps as u64)),
            }
        }
    }
}

impl Task for ClassifyTask<'_> {
    type Batches = LabelledBatches;

    fn params(&self) -> &Params {
        self.network.params()
    }

    /// What this stage trains. A frozen backbone is in the encoder's checkpoint.
    fn checkpoint_tensors(&self) -> Vec<(&str, &Tensor)> {
        match self.frozen {
            Some(_) => self.network.classifier_tensors().collect(),
            None => self.network.tensors().collect(),
        }
    }

    fn eval_record(&self) -> Option<EvalRecord> {
        Some(self.record.clone())
    }

    fn resumed(&mut self, _: &Clock, record: Option<EvalRecord>) {
        self.record = record.unwrap_or_default();
    }

    fn batches(&mut self, clock: &Clock) -> Result<LabelledBatches, Error> {
        let (recipe, protocol) = (self.request.recipe, self.protocol());
        let threads = loader_threads(&recipe.dataset, self.rank.info.threads);
        let options = LoaderOptions {
            seed: protocol.seed(),
            epoch: clock.epoch(),
            batch: protocol.batch_size() as usize,
            rank: self.rank.info.rank,
            world: self.rank.info.world,
            first_batch: clock.step_in_epoch() as usize,
            threads,
            max_corrupt: recipe.dataset.max_corrupt,
            decode: decode_mode(&recipe.dataset),
            ..LoaderOptions::default()
        };
        let device = self.rank.device;
        if protocol.cached_features() {
            return Ok(LabelledBatches::features(self.table(threads)?, &options, device));
        }
        let a = &self.pretrain.augment;
        let (mean, std) = (a.mean.clone(), a.std.clone());
        let views = TwoViews::crop_and_flip(a.crop_size, protocol.min_scale(), a.flip_prob, mean, std);
        LabelledBatches::images(self.source.clone(), views, options, protocol.field(), device)
    }

    /// Returns this rank's part of the global batch's mean cross-entropy.
    fn step(&mut self, context: &mut StepContext, batch: Labelled) -> Result<Tensor, Error> {
        context.sgd.zero_grad()?;
        let images = self.images_of_step(&context.clock) as f64;
        let loss = match self.protocol() {
            Protocol::Linear(_) => {
                let features = self.frozen_features(&batch.input)?;
                let loss = cross_entropy(&self.network.classify(&features, Pass::EVAL)?, &batch.classes)?
                    .f_div_scalar(images)?;
                tch_ext::backward(&loss)?;
                if let Some(group) = self.rank.peers() {
                    context.sgd.all_reduce_gradients(group).map_err(peer_lost("a step"))?;
                }
                loss
            }
            Protocol::Finetune(_) => {
                context.prepare_forward()?;
                let pass = Pass::train(self.rank.peers());
                let logits =
                    self.in_precision(|| self.network.classify(&self.network.features(&batch.input, pass)?, pass))?;
                let loss = cross_entropy(&logits, &batch.classes)?.f_div_scalar(images)?;
                // The Reducer takes the mean over the ranks; their parts are to be summed.
                match self.rank.peers() {
                    Some(_) => context.backward_and_reduce(&loss.f_mul_scalar(self.rank.info.world as f64)?)?,
                    None => context.backward_and_reduce(&loss)?,
                }
                loss
            }
        };
        let factor = half_cosine(context.clock.epoch(), context.clock.epochs);
        let rates: Vec<f64> = self.protocol().peak_rates().iter().map(|peak| peak * factor).collect();
        context.sgd.step(&rates)?;
        Ok(loss)
    }

    fn probe(&self, batch: &Labelled) -> Result<Option<Place>, Error> {
        let probe = Probe::default();
        let images = probe::is_finite(&batch.input)?;
        let logits = match self.protocol() {
            Protocol::Linear(_) => {
                let features = self.frozen_features(&batch.input)?;
                probe.look("the frozen backbone", &features)?;
                self.network.classify(&features, Pass { probe: Some(&probe), ..Pass::EVAL })?
            }
            Protocol::Finetune(_) => {
                let pass = Pass { track: false, probe: Some(&probe), ..Pass::train(self.rank.peers()) };
                self.in_precision(|| self.network.classify(&self.network.features(&batch.input, pass)?, pass))?
            }
        };
        let loss = probe::is_finite(&cross_entropy(&logits, &batch.classes)?)?;
        let images = (!images).then(|| Place::of(What::Images));
        Ok(images.or(probe.found()).or((!loss).then(|| Place::of(What::Loss))))
    }

    fn sample_name(&self, id: u64) -> String {
        self.source.name(id).to_owned()
    }

    fn report(&mut self, clock: &Clock, _: &[f64], mut step: Step) -> Result<Step, Error> {
        let factor = half_cosine(clock.last_epoch(), clock.epochs);
        let peaks = self.protocol().peak_rates();
        let rate = |group: usize| peaks.get(group).map(|peak| peak * factor);
        step.values.set(metric_table::LR_CLASSIFIER.key, rate(0));
        step.values.set(metric_table::LR_ENCODER.key, rate(1));
        Ok(step)
    }

    /// Checkpoints are written after each epoch's evaluation.
    fn checkpoint_due(&self, _: &Clock, _: &CheckpointPolicy) -> bool {
        false
    }

    fn epoch_end_pending(&self, clock: &Clock) -> bool {
        self.record.epochs < clock.epoch()
    }

    /// Evaluates the network, and keeps it if it is the best so far.
    fn end_of_epoch(&mut self, clock: &Clock, loss: f64) -> Result<EpochEnd, Error> {
        self.rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
        let epoch = clock.epoch();
        if let Some(frozen) = self.frozen.as_ref().filter(|_| epoch == 1 || epoch == clock.epochs) {
            frozen.verify(self.network.backbone_tensors())?;
        }
        let accuracy = self.validation.evaluate(self.rank, |images| self.logits(images))?;
        let record = &mut self.record;
        let better = record.epochs == 0 || accuracy.top1 > record.best_top1;
        (record.epochs, record.last_top1, record.images) = (epoch, accuracy.top1, accuracy.images);
        if better {
            (record.best_epoch, record.best_top1, record.best_top5) = (epoch, accuracy.top1, accuracy.top5);
        }
        if self.rank.is_first() {
            if let Some(best) = self.best.as_ref().filter(|_| better) {
                // Before the checkpoint that names it the best: what that names exists.
                self.request.storage.put(best, snapshot::tensor_file(self.network.tensors())?)?;
            }
            let mut values = Values::default();
            values.set(metric_table::LINEAR_LOSS.key, loss);
            let peak = self.protocol().peak_rates()[0];
            values.set(metric_table::LINEAR_LR.key, peak * half_cosine(epoch - 1, clock.epochs));
            values.set(metric_table::LINEAR_TOP1.key, accuracy.top1);
            values.set(metric_table::LINEAR_TOP5.key, accuracy.top5);
            values.set(metric_table::LINEAR_BEST_TOP1.key, self.record.best_top1);
            let (stage, caveat) = (self.name(), self.protocol().caveat());
            self.rank.sink.send(&Event::Linear { stage, epoch, epochs: clock.epochs, caveat, values });
        }
        Ok(EpochEnd::Save)
    }
}

/// Sum of the cross-entropies of `logits` `[N, C]` for `classes` `[N]`, in fp32.
fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor, Error> {
    let logits = logits.f_to_kind(Kind::Float)?;
    Ok(logits.f_cross_entropy_loss(classes, None::<&Tensor>, Reduction::Sum, -100, 0.0)?)
}
