//! The progress document: the state of a running stage, for users and for the operator.

use std::time::{Duration, Instant, SystemTime};

use simsiam_contract::{Checkpoint, Progress, RankPhase};

use super::encoder_kind::EncoderKind;
use super::event::{Event, Step};
use super::metric::{Metric, RecordKind};
use super::metric_table;

/// The [`Progress`] document of a stage, kept up to date by the events of this node's ranks.
#[derive(Clone, Debug)]
pub struct ProgressTracker {
    document: Progress,
    last_event: Instant,
    /// What this node's ranks are doing; rank 0 may be elsewhere.
    phase_here: Option<RankPhase>,
}

impl ProgressTracker {
    /// A tracker for a stage that begins.
    pub fn new(run: &str, stage: &str) -> Self {
        let document = Progress { run: run.to_owned(), stage: stage.to_owned(), ..Progress::default() };
        Self { document, last_event: Instant::now(), phase_here: None }
    }

    /// A tracker for the run's next stage, which keeps the run's checkpoint and kNN accuracy.
    #[must_use]
    pub fn next_stage(&self, stage: &str) -> Self {
        let mut next = Self::new(&self.document.run, stage);
        next.document.checkpoint = self.document.checkpoint.clone();
        next.document.knn_top1 = self.document.knn_top1;
        next
    }

    /// The current document.
    pub fn document(&self) -> &Progress {
        &self.document
    }

    /// Time since the last event of any rank.
    pub fn silence(&self) -> Duration {
        self.last_event.elapsed()
    }

    /// How long the ranks may be silent, where `stall` is the bound on a training step.
    ///
    /// Before the first step ranks list and open the data, a checkpoint waits for the storage and an evaluation reads
    /// another data set: these take longer without anything being wrong. Peers may take all of `rendezvous` to arrive.
    pub fn silence_limit(&self, stall: Duration, rendezvous: Duration) -> Duration {
        match &self.phase_here {
            None | Some(RankPhase::Rendezvous) => stall.max(rendezvous) + Duration::from_secs(10),
            Some(RankPhase::Training) => stall,
            Some(_) => stall * 3,
        }
    }

    /// Updates the document with an event of `rank`. Every rank's events are signs of life; the numbers are rank 0's.
    pub fn update(&mut self, rank: usize, event: &Event) {
        self.last_event = Instant::now();
        if let Event::Phase { phase } = event {
            self.phase_here = Some(phase.clone());
        }
        if rank != 0 {
            return;
        }
        let document = &mut self.document;
        match event {
            Event::Phase { phase } => document.phase = Some(phase.clone()),
            Event::Resumed { step, uri } => {
                document.step = *step;
                document.resumed_from = Some(Checkpoint { step: *step, uri: uri.clone() });
                document.checkpoint = document.resumed_from.clone();
            }
            Event::Step(step) => self.measured(step),
            Event::Checkpoint { step, uri, .. } => {
                document.checkpoint = Some(Checkpoint { step: *step, uri: uri.clone() });
            }
            Event::Knn { features: EncoderKind::Trained, scores, .. } => {
                let top1 = scores.first().map(|s| s.top1);
                document.knn_top1 = top1;
                self.keep(RecordKind::Knn, |_| top1);
            }
            // Not that of the untrained encoder, which the linear stage may train as well.
            Event::Linear { stage, values, .. } if *stage == document.stage => {
                document.linear_top1 = values.get(metric_table::LINEAR_BEST_TOP1.key);
                self.keep(RecordKind::Linear, |metric| values.get(metric.key));
            }
            Event::Done(result) => document.result = Some((**result).clone()),
            _ => {}
        }
    }

    /// Keeps the latest values of the metrics of a record. JSON has no NaN: such a value is left out.
    fn keep(&mut self, kind: RecordKind, value: impl Fn(&Metric) -> Option<f64>) {
        for metric in metric_table::of_record(kind) {
            if let Some(value) = value(metric).filter(|value| value.is_finite()) {
                self.document.metrics.insert(metric.key.to_owned(), value);
            }
        }
    }

    fn measured(&mut self, step: &Step) {
        self.keep(RecordKind::Training, |metric| metric.of_step(step));
        let document = &mut self.document;
        (document.step, document.steps, document.epochs) = (step.step, step.steps, step.epochs);
        document.epoch = step.finished_epochs();
        document.loss = metric_table::LOSS.of_step(step);
        document.output_std = metric_table::OUTPUT_STD.of_step(step);
        document.healthy_std = metric_table::OUTPUT_STD_HEALTHY.of_step(step);
        document.corrupt = step.corrupt;
        let now = metric_table::IMAGES_PER_SECOND.of_step(step).unwrap_or_default();
        let smoothed = document.images_per_second.map_or(now, |before| 0.7 * before + 0.3 * now);
        document.images_per_second = Some(smoothed);
        if let Some(end) = time_left(step, smoothed).and_then(|left| SystemTime::now().checked_add(left)) {
            document.eta = jiff::Timestamp::try_from(end).ok().map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
    }
}

fn time_left(step: &Step, images_per_second: f64) -> Option<Duration> {
    let images_per_step = step.images as f64 / step.step_seconds.len().max(1) as f64;
    let left = (step.steps - step.step.min(step.steps)) as f64 * images_per_step;
    Duration::try_from_secs_f64(left / images_per_second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::values::Values;

    #[test]
    fn silence_limit_follows_the_phase_of_this_nodes_ranks() {
        let mut progress = ProgressTracker::new("r", "pretrain");
        let (stall, rendezvous) = (Duration::from_secs(10), Duration::from_secs(60));
        let mut limit = |phase| {
            // Of a node without rank 0.
            progress.update(3, &Event::Phase { phase });
            progress.silence_limit(stall, rendezvous).as_secs()
        };
        assert_eq!(limit(RankPhase::Rendezvous), 70);
        assert_eq!(limit(RankPhase::Starting), 30);
        assert_eq!(limit(RankPhase::Training), 10);
        assert_eq!(limit(RankPhase::Checkpointing), 30);
        assert_eq!(progress.document().phase, None, "what is shown is rank 0's");
    }

    #[test]
    fn progress_of_other_ranks_is_a_sign_of_life_only() {
        let mut progress = ProgressTracker::new("r", "pretrain");
        let step = |step| {
            let (images, seconds) = (100, 2.0);
            Event::Step(Step { step, steps: 40, epochs: 4, loss: -0.5, images, seconds, ..Step::default() })
        };
        progress.last_event = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        progress.update(1, &step(20));
        assert_eq!(progress.document().step, 0);
        assert!(progress.silence() < Duration::from_secs(1));
        progress.update(0, &step(10));
        let document = progress.document();
        assert_eq!((document.step, document.epoch, document.loss), (10, 1, Some(-0.5)));
        assert_eq!(document.images_per_second, Some(50.0));
    }

    #[test]
    fn progress_has_the_latest_value_of_each_metric_of_a_record() {
        let mut progress = ProgressTracker::new("r", "linear");
        let mut step = Step { loss: 4.5, images: 100, seconds: 2.0, ..Step::default() };
        step.values.set(metric_table::EFFECTIVE_RANK.key, 31.0);
        progress.update(0, &Event::Step(step));
        progress.update(0, &Event::Step(Step { loss: 4.0, images: 300, seconds: 2.0, ..Step::default() }));
        let epoch = |stage: &str, top1| {
            let mut values = Values::default();
            values.set(metric_table::LINEAR_TOP1.key, top1);
            values.set(metric_table::LINEAR_BEST_TOP1.key, 40.0);
            Event::Linear { stage: stage.into(), epoch: 1, epochs: 2, caveat: None, values }
        };
        progress.update(0, &epoch("linear", 39.0));
        progress.update(0, &epoch(&EncoderKind::Untrained.stage_name("linear"), 3.0));
        let document = progress.document();
        let metrics: Vec<_> = document.metrics.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let expected = [("bestTop1", 40.0), ("dataWait", 0.0), ("effectiveRank", 31.0), ("imagesPerSecond", 150.0)];
        assert_eq!(metrics, [&expected[..], &[("loss", 4.0), ("top1", 39.0)]].concat());
        assert_eq!(document.linear_top1, Some(40.0));
    }
}
