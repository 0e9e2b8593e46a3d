//! The loop of both protocols as one rank runs it, and what it leaves in the output.
//!
//! In the stage's folder: `model_best.safetensors`, the whole network of the best epoch under torchvision's names, and
//! checkpoints in a folder named by the digest of everything that decides the outcome, so that another learning rate or
//! another encoder begins anew.

mod resume;

use std::rc::Rc;
use std::sync::Arc;

use simsiam_data::{LoaderOptions, Source, Subset, TwoViews};
use simsiam_recipe::{Pretrain, Recipe, digest_of};
use tch::{Kind, Reduction, Tensor};
use tch_ext::c10d::{Op, Reducer};

use super::Protocol;
use super::batches::{Batches, Labelled, Table};
use super::encoder::{self, Encoder};
use super::frozen_check::Fingerprint;
use crate::checkpoint::{Checkpoints, EvalRecord, Writer, snapshot};
use crate::data::datasets::{Datasets, decode_mode, eval_view, loader_threads};
use crate::dist::device;
use crate::dist::rank::{Rank, lost};
use crate::error::Error;
use crate::eval::accuracy::Validation;
use crate::model::Classifier;
use crate::model::Pass;
use crate::storage::Storage;
use crate::telemetry::event::{ClassifierScore, Event, Phase, StageResult, Step};
use crate::training::classifier_optimizer::Optimizer;
use crate::training::meter::Meter;
use crate::training::schedule::half_cosine;
use crate::training::sync_schedule::SyncSchedule;

/// What a stage works on.
pub struct Job<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// Its output.
    pub storage: Storage,
    /// Number of this attempt; counted from the stage's checkpoints where nobody gives it.
    pub attempt: Option<u32>,
    /// DDP's first and other bucket sizes in bytes.
    pub buckets: (usize, usize),
    /// What is trained.
    pub protocol: Protocol,
    /// On which encoder.
    pub encoder: Encoder<'a>,
}

/// The best network so far, within the stage's folder; of weights that are not the run's, beside its checkpoints.
const BEST: &str = "model_best.safetensors";

/// Runs the stage to its end.
pub fn run(rank: &Rank, job: Job) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: Phase::Starting });
    let protocol = &job.protocol;
    let batch = protocol.batch_size() as usize;
    if !batch.is_multiple_of(rank.info.world) {
        return Err(Error::config(
            format!("{}.batchSize", protocol.field()),
            format!("{batch} images cannot be shared equally by {} ranks; use a multiple", rank.info.world),
        ));
    }
    let mut trainer = Trainer::new(rank, &job)?;
    trainer.restore()?;
    trainer.train()
}

/// Whether to go on.
#[derive(PartialEq)]
enum Verdict {
    GoOn,
    Stop,
}

struct Trainer<'a> {
    rank: &'a Rank,
    job: &'a Job<'a>,
    pretrain: &'a Pretrain,
    source: Arc<dyn Source>,
    validation: Validation,
    network: Classifier,
    /// The backbone as it was loaded, where it must stay so.
    frozen: Option<Fingerprint>,
    table: Option<Rc<Table>>,
    optimizer: Optimizer,
    reducer: Option<Reducer>,
    bucket_order: Option<Vec<Vec<usize>>>,
    checkpoints: Checkpoints,
    writer: Option<Writer>,
    attempt: u32,
    /// Where the encoder is from, and a SHA-256 of its weights: of a checkpoint's `model.safetensors`.
    encoder: String,
    backbone: String,
    /// Where the best network goes, if it is kept.
    best: Option<String>,
    arithmetic: serde_json::Value,
    meter: Meter,
    meetings: SyncSchedule,
    steps_per_epoch: u64,
    step: u64,
    loss: f64,
    judged: EvalRecord,
}

impl<'a> Trainer<'a> {
    fn new(rank: &'a Rank, job: &'a Job<'a>) -> Result<Self, Error> {
        let (recipe, protocol) = (job.recipe, &job.protocol);
        let Some(pretrain) = &recipe.pretrain else {
            return Err(Error::config(
                "spec.pretrain",
                format!("missing; {} judges the encoder that it describes", protocol.name()),
            ));
        };
        let datasets = Datasets::new(recipe, job.storage.runtime().clone());
        let all = datasets.train()?;
        if all.classes().is_empty() {
            return Err(crate::eval::extraction::unlabelled(&*all, 0, protocol.field()));
        }
        let validation = Validation {
            source: datasets.val(all.classes())?,
            view: eval_view(&pretrain.augment),
            loader_threads: loader_threads(&recipe.dataset, rank),
            field: protocol.field(),
        };
        let (epochs, batch) = (protocol.epochs(), protocol.batch_size());
        let (source, steps_per_epoch) = match protocol {
            Protocol::Linear(_) => {
                let steps = all.len().div_ceil(batch as usize);
                (all, steps)
            }
            Protocol::Finetune(f) => {
                let part: Arc<dyn Source> = Arc::new(Subset::of_each_class(all, f.fraction, f.seed)?);
                let steps = part.len() / batch as usize;
                if steps == 0 {
                    return Err(Error::config(
                        "spec.finetune.batchSize",
                        format!(
                            "{batch} is more than the {} images that fraction {} leaves; use fewer, or a larger fraction",
                            part.len(),
                            f.fraction
                        ),
                    ));
                }
                (part, steps)
            }
        };
        let mut network = Classifier::new(pretrain, validation.source.classes().len(), protocol.seed(), rank.device)?;
        let (uri, backbone) = encoder::load(job, pretrain, &network)?;
        let frozen = match protocol {
            Protocol::Linear(_) => {
                network.freeze_backbone();
                Some(Fingerprint::of(network.backbone_tensors())?)
            }
            Protocol::Finetune(_) => None,
        };
        let arithmetic = protocol.arithmetic(recipe, pretrain, &backbone);
        let digest = digest_of(&arithmetic);
        let folder = format!("{}/{}", protocol.name(), &digest[..12]);
        let best = match job.encoder {
            Encoder::Trained => Some(format!("{}/{BEST}", protocol.name())),
            Encoder::Other(_) => Some(format!("{folder}/{BEST}")),
            Encoder::Untrained => None,
        };
        Ok(Self {
            optimizer: Optimizer::new(network.params(), protocol.peaks(), protocol.sgd())?,
            checkpoints: Checkpoints::in_folder(job.storage.clone(), folder),
            meter: Meter::new(batch, epochs, steps_per_epoch as u64),
            meetings: SyncSchedule::new(),
            steps_per_epoch: steps_per_epoch as u64,
            encoder: uri,
            backbone,
            best,
            rank,
            job,
            pretrain,
            source,
            validation,
            network,
            frozen,
            table: None,
            reducer: None,
            bucket_order: None,
            writer: None,
            attempt: 1,
            arithmetic,
            step: 0,
            loss: f64::NAN,
            judged: EvalRecord::default(),
        })
    }

    fn protocol(&self) -> &'a Protocol {
        &self.job.protocol
    }

    /// The stage's name in progress and metrics.
    fn name(&self) -> String {
        match self.job.encoder {
            Encoder::Trained | Encoder::Other(_) => self.protocol().name().to_owned(),
            Encoder::Untrained => format!("{} untrained", self.protocol().name()),
        }
    }

    fn epochs(&self) -> u64 {
        u64::from(self.protocol().epochs())
    }

    fn train(mut self) -> Result<StageResult, Error> {
        if self.rank.is_first() {
            let policy = self.job.recipe.checkpoint.clone();
            self.writer = Some(Writer::start(self.checkpoints.clone(), policy, self.rank.sink.clone())?);
        }
        while self.judged.epochs < self.epochs() {
            let stopped = if self.judged.epochs < self.step / self.steps_per_epoch {
                self.judge()? == Verdict::Stop
            } else {
                self.epoch()? == Verdict::Stop
            };
            if stopped {
                return Err(self.preempted()?);
            }
        }
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the end of the stage")?;
        let judged = &self.judged;
        let score = ClassifierScore {
            top1: judged.best_top1,
            top5: judged.best_top5,
            best_epoch: judged.best_epoch,
            last_top1: judged.last_top1,
            images: judged.images,
            caveat: self.protocol().caveat(),
        };
        let mut result = StageResult::default();
        match (self.protocol(), self.job.encoder) {
            (_, Encoder::Untrained) => result.linear_untrained = Some(score),
            (Protocol::Linear(_), _) => result.linear = Some(score),
            (Protocol::Finetune(_), _) => result.finetune = Some(score),
        }
        if !matches!(self.job.encoder, Encoder::Untrained) {
            (result.checkpoint, result.weights_sha256) = (Some(self.encoder), Some(self.backbone));
        }
        Ok(result)
    }

    fn batches(&mut self, epoch: u64) -> Result<Batches, Error> {
        let (recipe, protocol) = (self.job.recipe, self.protocol());
        let threads = loader_threads(&recipe.dataset, self.rank);
        let options = LoaderOptions {
            seed: protocol.seed(),
            epoch,
            batch: protocol.batch_size() as usize,
            rank: self.rank.info.rank,
            world: self.rank.info.world,
            first_batch: (self.step % self.steps_per_epoch) as usize,
            threads,
            max_corrupt: recipe.dataset.max_corrupt,
            decode: decode_mode(&recipe.dataset),
            ..LoaderOptions::default()
        };
        let a = &self.pretrain.augment;
        if !protocol.cached_features() {
            let views = TwoViews {
                flip_prob: a.flip_prob,
                ..TwoViews::crop_and_flip(a.crop_size, protocol.min_scale(), 1.0, a.mean, a.std)
            };
            return Batches::images(self.source.clone(), views, options, protocol.field());
        }
        let table = match &self.table {
            Some(table) => table.clone(),
            None => {
                self.rank.sink.send(&Event::Phase { phase: Phase::Evaluating });
                let table = Table::new(self.rank, &self.network, &self.source, eval_view(a), 256, threads)?;
                if table.len() < self.source.len() {
                    return Err(Error::config(
                        "spec.linear.cachedFeatures",
                        format!(
                            "{} of {} training images cannot be read (the warnings above name them), and a table has \
                             nothing to put in their place; remove them, or leave this field out",
                            self.source.len() - table.len(),
                            self.source.len(),
                        ),
                    ));
                }
                self.table.insert(Rc::new(table)).clone()
            }
        };
        Ok(Batches::features(table, &options))
    }

    /// The rest of the epoch under way.
    fn epoch(&mut self) -> Result<Verdict, Error> {
        let epoch = self.step / self.steps_per_epoch;
        let mut batches = self.batches(epoch)?;
        self.rank.sink.send(&Event::Phase { phase: Phase::Training });
        self.meter.restart();
        let mut waited = batches.wait();
        while self.step < (epoch + 1) * self.steps_per_epoch {
            let Some(batch) = batches.next(self.rank)? else {
                return Err(Error::Data(simsiam_data::Error::Worker { what: "ended before the epoch's end".into() }));
            };
            self.meter.corrupt += batch.corrupt;
            let loss = self.optimise(&batch, half_cosine(epoch, self.epochs()))?;
            self.step += 1;
            let wait = batches.wait();
            self.meter.step(&loss, wait - waited)?;
            waited = wait;
            if let Some(writer) = &mut self.writer {
                writer.check()?;
            }
            let epoch_ends = self.step.is_multiple_of(self.steps_per_epoch);
            self.meetings.alive(&self.rank.sink);
            let alone = self.rank.peers().is_none();
            let due = epoch_ends || self.meetings.due(self.step) || (alone && self.rank.stop_requested());
            if due && self.control(epoch)? == Verdict::Stop {
                return Ok(Verdict::Stop);
            }
        }
        Ok(Verdict::GoOn)
    }

    /// One step. Gives this rank's part of the global batch's mean loss.
    fn optimise(&mut self, batch: &Labelled, share: f64) -> Result<Tensor, Error> {
        self.optimizer.zero_grad()?;
        let images = self.images_of_step() as f64;
        let loss = match self.protocol() {
            Protocol::Linear(_) => {
                let features = self.frozen_features(&batch.input)?;
                let loss = cross_entropy(&self.network.classify(&features)?, &batch.classes)?.f_div_scalar(images)?;
                tch_ext::backward(&loss)?;
                if let Some(group) = self.rank.peers() {
                    for gradient in self.optimizer.gradients() {
                        group.all_reduce(&gradient, Op::Sum).map_err(lost("a step"))?;
                    }
                }
                loss
            }
            Protocol::Finetune(_) => {
                if let Some(reducer) = &mut self.reducer {
                    reducer.prepare_forward().map_err(lost("a step"))?;
                    self.meter.reduced(reducer.take_exposed());
                }
                let pass = Pass::train(self.rank.peers());
                let logits =
                    self.in_precision(|| self.network.classify(&self.network.features(&batch.input, pass)?))?;
                let loss = cross_entropy(&logits, &batch.classes)?.f_div_scalar(images)?;
                match &mut self.reducer {
                    // It takes the mean over the ranks; the parts are to be summed.
                    Some(reducer) => {
                        let scaled = loss.f_mul_scalar(self.rank.info.world as f64)?;
                        reducer.backward(&scaled).map_err(lost("a step"))?;
                    }
                    None => tch_ext::backward(&loss)?,
                }
                loss
            }
        };
        self.optimizer.step(share)?;
        Ok(loss)
    }

    /// Images of the global batch of the step under way: an epoch's last may be smaller.
    fn images_of_step(&self) -> u64 {
        let batch = u64::from(self.protocol().batch_size());
        let before = self.step % self.steps_per_epoch * batch;
        batch.min((self.source.len() as u64).saturating_sub(before)).max(1)
    }

    /// Features of a frozen backbone, `[N, F]` in fp32; features are taken as they are.
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

    /// The ranks compare notes: whether any was asked to stop, and how long a step takes.
    fn control(&mut self, epoch: u64) -> Result<Verdict, Error> {
        let stop = f64::from(u8::from(self.rank.stop_requested()));
        let own = [self.meter.mean_loss()?, stop, self.meter.mean_step_seconds()];
        let sums = self.rank.all_reduce_sum(&own, &format!("step {}", self.step))?;
        let loss = sums[0];
        if !loss.is_finite() {
            return Err(Error::NotFinite { loss, step: self.step, epoch, field: self.protocol().lr_field() });
        }
        self.loss = loss;
        let (classifier, backbone) = self.protocol().peaks();
        let share = half_cosine(epoch, self.epochs());
        self.rank.sink.send(&Event::Step(Step {
            lr_classifier: Some(classifier * share),
            lr_encoder: backbone.map(|peak| peak * share),
            gpu_memory: device::memory(self.rank.device),
            ..self.meter.measure(self.step, loss)
        }));
        self.meetings.met(self.step, sums[2] / self.rank.info.world as f64);
        Ok(if sums[1] > 0.0 { Verdict::Stop } else { Verdict::GoOn })
    }

    /// Judges the network at an epoch's end, keeps it if it is the best, and writes a checkpoint.
    fn judge(&mut self) -> Result<Verdict, Error> {
        self.rank.sink.send(&Event::Phase { phase: Phase::Evaluating });
        let epoch = self.step / self.steps_per_epoch;
        if let Some(frozen) = self.frozen.as_ref().filter(|_| epoch == 1 || epoch == self.epochs()) {
            frozen.verify(self.network.backbone_tensors())?;
        }
        let logits = |images: &Tensor| {
            let logits = self.in_precision(|| {
                let features = self.network.features(images, Pass::EVAL)?;
                self.network.classify(&features)
            })?;
            Ok(logits.f_to_kind(Kind::Float)?)
        };
        let accuracy = match self.validation.judge(self.rank, logits) {
            Err(Error::Terminated) => return Ok(Verdict::Stop),
            accuracy => accuracy?,
        };
        let judged = &mut self.judged;
        let better = judged.epochs == 0 || accuracy.top1 > judged.best_top1;
        (judged.epochs, judged.last_top1, judged.images) = (epoch, accuracy.top1, accuracy.images);
        if better {
            (judged.best_epoch, judged.best_top1, judged.best_top5) = (epoch, accuracy.top1, accuracy.top5);
        }
        if self.rank.is_first() {
            if let Some(best) = self.best.as_ref().filter(|_| better) {
                // Before the checkpoint that says so: what it names as the best is there.
                let file = snapshot::tensor_file(self.network.tensors())?;
                self.job.storage.put(best, file)?;
            }
            self.rank.sink.send(&Event::Linear {
                stage: self.name(),
                epoch,
                epochs: self.epochs(),
                loss: self.loss,
                lr: self.protocol().peaks().0 * half_cosine(epoch - 1, self.epochs()),
                top1: accuracy.top1,
                top5: accuracy.top5,
                best_top1: self.judged.best_top1,
                caveat: self.protocol().caveat(),
            });
        }
        self.save()?;
        Ok(Verdict::GoOn)
    }
}

/// Sum of the cross-entropies of `logits` `[N, C]` for `classes` `[N]`, in fp32.
fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor, Error> {
    let logits = logits.f_to_kind(Kind::Float)?;
    Ok(logits.f_cross_entropy_loss(classes, None::<&Tensor>, Reduction::Sum, -100, 0.0)?)
}
