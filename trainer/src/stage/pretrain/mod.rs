//! The pre-training stage as one rank runs it.

mod alternation;
mod batches;
mod resume;

use std::collections::VecDeque;
use std::sync::Arc;

use simsiam_data::{Batch, Loader, LoaderOptions, Output, Source};
use simsiam_recipe::{Ablation, AugmentDevice, Pretrain, Recipe};
use tch::{Kind, Tensor};
use tch_ext::c10d::Reducer;

use crate::checkpoint::{Checkpoints, Writer};
use crate::data::datasets::{Datasets, decode_mode, eval_view, loader_threads, two_views};
use crate::data::photometric::Photometric;
use crate::dist::device;
use crate::dist::rank::{Rank, lost};
use crate::error::Error;
use crate::eval::knn::{Evaluation, Features};
use crate::model::peak_flops;
use crate::model::simsiam::{effective_rank, output_std};
use crate::model::{Outputs, Pass, SimSiam, flops};
use crate::storage::Storage;
use crate::telemetry::event::{Event, Phase, StageResult, Step};
use crate::training::meter::Meter;
use crate::training::schedule::LearningRate;
use crate::training::sgd::Sgd;
use crate::training::sync_schedule::SyncSchedule;
use alternation::{Intervals, Targets};
use batches::Batches;

/// What the pre-training stage works on.
pub struct Job<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// Its output.
    pub storage: Storage,
    /// Number of this attempt; counted from the checkpoints where nobody gives it.
    pub attempt: Option<u32>,
    /// DDP's first and other bucket sizes in bytes.
    pub buckets: (usize, usize),
}

/// Images of a micro-batch of one rank; every rank must have the same, and batch norm needs two.
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
pub fn run(rank: &Rank, job: Job) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: Phase::Starting });
    let Some(recipe) = &job.recipe.pretrain else {
        return Err(Error::config("spec.pretrain", "missing; this stage trains what it describes"));
    };
    micro_batch(recipe, rank.info.world)?;
    let datasets = Datasets::new(job.recipe, job.storage.runtime().clone());
    let source = datasets.train()?;
    let steps_per_epoch = (source.len() / recipe.batch_size as usize) as u64;
    if steps_per_epoch == 0 {
        return Err(Error::Data(simsiam_data::Error::TooFewSamples {
            samples: source.len(),
            batch: recipe.batch_size as usize,
        }));
    }
    let intervals = Intervals::new(recipe.alternation.as_ref(), steps_per_epoch);
    intervals.check(recipe, rank.info.world)?;
    let mut trainer = Trainer::new(rank, &job, recipe, datasets, source, steps_per_epoch)?;
    trainer.restore()?;
    trainer.train()
}

/// Whether to go on after a control step.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    GoOn,
    Stop,
}

struct Trainer<'a> {
    rank: &'a Rank,
    recipe: &'a Recipe,
    pretrain: &'a Pretrain,
    datasets: Datasets<'a>,
    source: Arc<dyn Source>,
    /// The validation set, once it was needed: listing a remote one takes long.
    val: Option<Arc<dyn Source>>,
    /// Does what the loader leaves to the device, if it does.
    photometric: Option<Photometric>,
    model: SimSiam,
    sgd: Sgd,
    learning_rate: LearningRate,
    reducer: Option<Reducer>,
    bucket_order: Option<Vec<Vec<usize>>>,
    buckets: (usize, usize),
    checkpoints: Checkpoints,
    writer: Option<Writer>,
    attempt: Option<u32>,
    meter: Meter,
    /// FLOP/s that this rank's device can do at most, if that is known.
    peak_flops: Option<f64>,
    steps_per_epoch: u64,
    intervals: Intervals,
    /// Targets of the interval's steps to come, with alternation.
    targets: VecDeque<Targets>,
    /// Finished steps.
    step: u64,
    meetings: SyncSchedule,
    collapsed_since: Option<u64>,
    /// The state that it begins with is the final one, and not a checkpoint of this run yet.
    unsaved: bool,
    result: StageResult,
}

impl<'a> Trainer<'a> {
    fn new(
        rank: &'a Rank,
        job: &Job<'a>,
        pretrain: &'a Pretrain,
        datasets: Datasets<'a>,
        source: Arc<dyn Source>,
        steps_per_epoch: u64,
    ) -> Result<Self, Error> {
        let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
        let sgd = Sgd::new(model.params(), pretrain.momentum, pretrain.weight_decay)?;
        let augment = &pretrain.augment;
        let photometric = match augment.device {
            AugmentDevice::Cpu => None,
            AugmentDevice::Gpu => Some(Photometric::new(augment.mean, augment.std, rank.device)?),
        };
        Ok(Self {
            rank,
            recipe: job.recipe,
            pretrain,
            datasets,
            source,
            val: None,
            photometric,
            sgd,
            learning_rate: LearningRate::new(pretrain, steps_per_epoch),
            reducer: None,
            bucket_order: None,
            buckets: job.buckets,
            checkpoints: Checkpoints::new(job.storage.clone()),
            writer: None,
            attempt: job.attempt,
            peak_flops: peak_flops::of(rank.device, pretrain.precision)?,
            meter: Meter::new(pretrain.batch_size, pretrain.epochs, steps_per_epoch),
            model,
            steps_per_epoch,
            intervals: Intervals::new(pretrain.alternation.as_ref(), steps_per_epoch),
            targets: VecDeque::new(),
            step: 0,
            meetings: SyncSchedule::new(),
            collapsed_since: None,
            unsaved: false,
            result: StageResult::default(),
        })
    }

    fn total_steps(&self) -> u64 {
        self.steps_per_epoch * u64::from(self.pretrain.epochs)
    }

    fn train(mut self) -> Result<StageResult, Error> {
        if self.rank.is_first() {
            self.writer =
                Some(Writer::start(self.checkpoints.clone(), self.recipe.checkpoint.clone(), self.rank.sink.clone())?);
        }
        if self.unsaved {
            self.save()?;
        }
        while self.step < self.total_steps() {
            self.epoch()?;
        }
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the end of the stage")?;
        Ok(self.result)
    }

    /// The batches of an epoch from the next step on.
    fn batches(&self, epoch: u64) -> Result<Batches, Error> {
        let pairs: &[u8] = if self.pretrain.ablation == Ablation::AsymmetricDouble { &[0, 2] } else { &[0] };
        pairs.iter().map(|&first_view| self.loader(epoch, first_view)).collect::<Result<_, _>>().map(Batches::new)
    }

    fn loader(&self, epoch: u64, first_view: u8) -> Result<Loader, Error> {
        let pretrain = self.pretrain;
        let threads = loader_threads(&self.recipe.dataset, self.rank);
        Ok(Loader::two_views(
            self.source.clone(),
            two_views(&pretrain.augment),
            LoaderOptions {
                seed: pretrain.seed,
                epoch,
                batch: pretrain.batch_size as usize,
                rank: self.rank.info.rank,
                world: self.rank.info.world,
                first_batch: (self.step % self.steps_per_epoch) as usize,
                first_view,
                threads,
                prefetch: 2,
                max_corrupt: self.recipe.dataset.max_corrupt,
                decode: decode_mode(&self.recipe.dataset),
                output: if self.photometric.is_some() { Output::Crops } else { Output::Planes },
                time_stages: false,
            },
        )?)
    }

    /// The rest of the epoch under way.
    fn epoch(&mut self) -> Result<(), Error> {
        let epoch = self.step / self.steps_per_epoch;
        let mut batches = self.batches(epoch)?;
        self.rank.sink.send(&Event::Phase { phase: Phase::Training });
        self.meter.restart();
        let mut waited = batches.wait();
        loop {
            if self.targets_due(epoch) && self.compute_targets(epoch)? == Verdict::Stop {
                self.save()?;
                return self.preempted();
            }
            let Some(batch) = batches.next() else { break };
            let batch = batch?;
            // Two pairs of views are of the same images, so the first tells all.
            for replaced in batch.iter().take(1).flat_map(|batch| &batch.replaced) {
                tracing::warn!("replaced {} by sample {}: {}", replaced.name, replaced.by, replaced.reason);
                self.meter.corrupt += 1;
            }
            let pairs = self.pairs(&batch)?;
            batches.recycle(batch);
            let targets = self.next_targets()?;
            let outputs = self.optimise(&pairs, targets)?;
            self.step += 1;
            let wait = batches.wait();
            self.meter.step(&outputs.loss, wait - waited)?;
            waited = wait;
            if let Some(writer) = &mut self.writer {
                writer.check()?;
            }
            let epoch_ends = self.step.is_multiple_of(self.steps_per_epoch);
            let save = self.checkpoint_due();
            let alone = self.rank.peers().is_none();
            self.meetings.alive(&self.rank.sink);
            if save || epoch_ends || self.meetings.due(self.step) || (alone && self.rank.stop_requested()) {
                let verdict = self.control(&outputs, epoch_ends)?;
                if save || verdict == Verdict::Stop {
                    self.save()?;
                }
                if verdict == Verdict::Stop {
                    return self.preempted();
                }
            }
        }
        drop(batches);
        self.judge()
    }

    /// The two views of each pair, on the device.
    fn pairs(&self, batches: &[Batch]) -> Result<Vec<[Tensor; 2]>, Error> {
        batches.iter().map(|batch| Ok([self.view(batch, 0)?, self.view(batch, 1)?])).collect()
    }

    /// View `i` of a batch on the device, normalised, `[N, 3, S, S]`.
    fn view(&self, batch: &Batch, i: usize) -> Result<Tensor, Error> {
        let [n, channels, height, width] = batch.shape.map(|n| n as i64);
        match &self.photometric {
            None => {
                let view = Tensor::f_from_slice(&batch.views[i])?.f_reshape([n, channels, height, width])?;
                device::upload(&view, self.rank.device)
            }
            Some(photometric) => {
                let crops = Tensor::f_from_slice(&batch.crops[i])?.f_reshape([n, height, width, channels])?;
                photometric.apply(&device::upload(&crops, self.rank.device)?, &batch.params[i])
            }
        }
    }

    /// One optimiser step: the gradients of every micro-batch of every pair of views, their mean over the ranks, SGD.
    fn optimise(&mut self, pairs: &[[Tensor; 2]], targets: Option<Targets>) -> Result<Outputs, Error> {
        let micro_batches = i64::from(self.pretrain.accumulate);
        let parts = pairs.len() as i64 * micro_batches;
        let pass = Pass::train(self.rank.peers());
        self.sgd.zero_grad()?;
        let mut last = None;
        for i in 0..parts {
            let [one, two] = part(&pairs[(i / micro_batches) as usize], i % micro_batches, micro_batches)?;
            let views = [&one, &two];
            // Only the last part's backward pass reduces; those before it add to the local gradients.
            let mut reducer = self.reducer.as_mut().filter(|_| i + 1 == parts);
            if let Some(reducer) = &mut reducer {
                reducer.prepare_forward().map_err(lost("a step"))?;
                self.meter.reduced(reducer.take_exposed());
            }
            let targets = targets.as_ref().map(|targets| &targets[i as usize]);
            let outputs = device::in_precision(self.rank.device, self.pretrain.precision, || match targets {
                Some([z1, z2]) => self.model.forward_towards(views, [z1, z2], pass),
                None => self.model.forward(views, pass),
            })?;
            let loss = outputs.loss.f_div_scalar(parts as f64)?;
            match reducer {
                Some(reducer) => reducer.backward(&loss).map_err(lost("a step"))?,
                None => tch_ext::backward(&loss)?,
            }
            last = Some(outputs);
        }
        let rates = self.learning_rate.at(self.step);
        self.sgd.step(rates)?;
        last.ok_or_else(|| Error::config("spec.pretrain.accumulate", "must be at least 1"))
    }

    /// Whether a checkpoint is to be written after the step just finished. One that falls due within an interval of
    /// alternation waits for its end, so that a resumed run has the same targets.
    fn checkpoint_due(&self) -> bool {
        if !self.intervals.ends(self.step) {
            return false;
        }
        let policy = &self.recipe.checkpoint;
        let before = self.intervals.begin(self.step - 1);
        let every_steps = policy.every_steps.is_some_and(|n| self.step / u64::from(n) > before / u64::from(n));
        let (epoch, rest) = (self.step / self.steps_per_epoch, self.step % self.steps_per_epoch);
        let every_epochs = rest == 0 && policy.every_epochs > 0 && epoch % u64::from(policy.every_epochs) == 0;
        every_steps || every_epochs || self.step == self.total_steps()
    }

    /// The ranks compare notes: all see the same means, and all come to the same verdict.
    fn control(&mut self, outputs: &Outputs, epoch_ends: bool) -> Result<Verdict, Error> {
        let world = self.rank.info.world as f64;
        let std = output_std(&outputs.z[0])?.f_double_value(&[])?;
        let stop = f64::from(u8::from(self.rank.stop_requested()));
        let own = [self.meter.mean_loss()?, std, stop, self.meter.mean_step_seconds()];
        let sums = self.rank.all_reduce_sum(&own, &format!("step {}", self.step))?;
        let (loss, std, seconds) = (sums[0] / world, sums[1] / world, sums[3] / world);
        self.meetings.met(self.step, seconds);
        let epoch = (self.step - 1) / self.steps_per_epoch;
        if !loss.is_finite() || !std.is_finite() {
            return Err(Error::NotFinite { loss, step: self.step, epoch, field: "spec.pretrain.lr" });
        }
        self.watch_collapse(std)?;
        // A factorisation a control step would be too dear; one an epoch shows the trend.
        let effective = if epoch_ends && self.rank.is_first() { Some(effective_rank(&outputs.z[0])?) } else { None };
        let rates = self.learning_rate.at(self.step - 1);
        let measured = Step {
            output_std: Some(std),
            healthy_std: Some(1.0 / f64::from(self.pretrain.dim).sqrt()),
            effective_rank: effective,
            lr_encoder: Some(rates.encoder),
            lr_predictor: Some(rates.predictor),
            gpu_memory: device::memory(self.rank.device),
            ..self.meter.measure(self.step, loss)
        };
        let measured = Step { model_flops_utilization: self.utilization(&measured), ..measured };
        self.result.loss = Some(loss);
        self.result.output_std = Some(std);
        self.result.images_per_second = self.meter.images_per_second();
        self.result.step = Some(self.step);
        self.result.epoch = Some(self.step / self.steps_per_epoch);
        self.rank.sink.send(&Event::Step(measured));
        Ok(if sums[2] > 0.0 { Verdict::Stop } else { Verdict::GoOn })
    }

    /// Model FLOP/s of an interval over what the ranks' devices can do at most.
    fn utilization(&self, measured: &Step) -> Option<f64> {
        let peak = self.peak_flops? * self.rank.info.world as f64;
        let per_second = measured.images as f64 / measured.seconds.max(1e-9);
        Some(flops::training_flops(self.pretrain) as f64 * per_second / peak)
    }

    fn watch_collapse(&mut self, std: f64) -> Result<(), Error> {
        let pretrain = self.pretrain;
        let healthy = 1.0 / f64::from(pretrain.dim).sqrt();
        let bound = pretrain.collapse.threshold * healthy;
        if std >= bound {
            self.collapsed_since = None;
            return Ok(());
        }
        let since = *self.collapsed_since.get_or_insert(self.step);
        match pretrain.collapse.patience_steps {
            Some(patience) if self.step - since >= u64::from(patience) => {
                Err(Error::Collapsed { std, bound, healthy, steps: self.step - since })
            }
            _ => Ok(()),
        }
    }

    /// kNN during training, at the end of every `knn.everyEpochs`th epoch.
    fn judge(&mut self) -> Result<(), Error> {
        let epoch = self.step / self.steps_per_epoch;
        let Some(knn) = &self.recipe.knn else { return Ok(()) };
        let whole = self.step.is_multiple_of(self.steps_per_epoch);
        if !whole || knn.every_epochs == 0 || !epoch.is_multiple_of(u64::from(knn.every_epochs)) {
            return Ok(());
        }
        let val = match &self.val {
            Some(val) => val.clone(),
            None => self.val.insert(self.datasets.val(self.source.classes())?).clone(),
        };
        let evaluation = Evaluation {
            train: self.source.clone(),
            val,
            view: eval_view(&self.pretrain.augment),
            knn,
            loader_threads: loader_threads(&self.recipe.dataset, self.rank),
        };
        let scores = evaluation.run(self.rank, &Features::Backbone(&self.model))?;
        if self.rank.is_first() {
            self.rank.sink.send(&Event::Knn { epoch, step: self.step, features: "trained".into(), scores });
        }
        Ok(())
    }
}

/// Micro-batch `i` of `count` equal ones.
fn part(views: &[Tensor; 2], i: i64, count: i64) -> Result<[Tensor; 2], Error> {
    let n = views[0].size()[0] / count;
    Ok([views[0].f_narrow(0, i * n, n)?, views[1].f_narrow(0, i * n, n)?])
}
