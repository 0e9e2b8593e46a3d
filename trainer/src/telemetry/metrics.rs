//! Prometheus metrics of a running stage.

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, Opts, Registry,
    TextEncoder, core::Collector,
};

use super::event::{Event, Step};
use crate::error::Error;

/// Every metric the trainer shows, fed by events.
pub struct Metrics {
    registry: Registry,
    loss: Gauge,
    output_std: Gauge,
    healthy_std: Gauge,
    effective_rank: Gauge,
    learning_rate: GaugeVec,
    epoch: Gauge,
    step: Gauge,
    images: IntCounter,
    images_per_second: Gauge,
    step_seconds: Histogram,
    allreduce_seconds: HistogramVec,
    model_flops_utilization: GaugeVec,
    data_wait: CounterVec,
    checkpoint_seconds: Histogram,
    checkpoint_stall: Histogram,
    checkpoint_step: Gauge,
    corrupt: GaugeVec,
    knn: GaugeVec,
    linear_top1: GaugeVec,
    linear_top5: GaugeVec,
    gpu_memory: GaugeVec,
}

impl Metrics {
    /// A registry with everything in it.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let metrics = Self {
            loss: gauge(
                &registry,
                "simsiam_loss",
                "Mean loss over the last interval and all ranks: -1 to 1 in pre-training, above 0 for cross-entropy.",
            )?,
            output_std: gauge(
                &registry,
                "simsiam_output_std",
                "Mean per-channel standard deviation of the l2-normalised projections; 0 is collapse.",
            )?,
            healthy_std: gauge(
                &registry,
                "simsiam_output_std_healthy",
                "1/sqrt(dim), what a healthy simsiam_output_std is near.",
            )?,
            effective_rank: gauge(
                &registry,
                "simsiam_effective_rank",
                "Effective rank of the projections of rank 0's batch, once an epoch.",
            )?,
            learning_rate: gauges(&registry, "simsiam_learning_rate", "Learning rate.", "group")?,
            epoch: gauge(&registry, "simsiam_epoch", "Finished epochs.")?,
            step: gauge(&registry, "simsiam_step", "Finished optimiser steps of the run.")?,
            images: register(
                &registry,
                IntCounter::new(
                    "simsiam_images_total",
                    "Images trained on in this attempt, two views each, over all ranks.",
                ),
            )?,
            images_per_second: gauge(
                &registry,
                "simsiam_images_per_second",
                "Images a second over the last interval and all ranks.",
            )?,
            step_seconds: histogram(&registry, "simsiam_step_seconds", "Wall time of an optimiser step.", 0.01)?,
            // These two have no label, but unlike a bare metric they are absent until there is something to tell.
            allreduce_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "simsiam_allreduce_seconds",
                        "How long rank 0's gradients were still being reduced when all were computed: the part of a step's \
                         all-reduce that backward did not hide. Every step on CPUs; on GPUs the first ten and every hundredth.",
                    )
                    .buckets(buckets(0.0001)),
                    &[],
                ),
            )?,
            model_flops_utilization: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "simsiam_model_flops_utilization",
                        "FLOP/s of the network over what the devices can do at most in this precision, 0 to 1.",
                    ),
                    &[],
                ),
            )?,
            data_wait: counters(
                &registry,
                "simsiam_data_wait_seconds_total",
                "Time that a rank waited for data in this attempt.",
                "rank",
            )?,
            checkpoint_seconds: histogram(
                &registry,
                "simsiam_checkpoint_seconds",
                "From a checkpoint's snapshot to its manifest.",
                0.05,
            )?,
            checkpoint_stall: histogram(
                &registry,
                "simsiam_checkpoint_stall_seconds",
                "Time that training stood still for a checkpoint.",
                0.001,
            )?,
            checkpoint_step: gauge(
                &registry,
                "simsiam_checkpoint_step",
                "Finished steps of the last completed checkpoint.",
            )?,
            corrupt: gauges(
                &registry,
                "simsiam_corrupt_images",
                "Images replaced in this attempt since they could not be read.",
                "rank",
            )?,
            knn: gauges(&registry, "simsiam_knn_top1", "kNN top-1 accuracy in percent.", "protocol")?,
            linear_top1: gauges(
                &registry,
                "simsiam_linear_top1",
                "Top-1 accuracy of the stage's classifier after its last epoch, in percent.",
                "stage",
            )?,
            linear_top5: gauges(
                &registry,
                "simsiam_linear_top5",
                "Top-5 accuracy of the stage's classifier after its last epoch, in percent.",
                "stage",
            )?,
            gpu_memory: gauges(&registry, "simsiam_gpu_memory_bytes", "GPU memory that a rank holds.", "rank")?,
            registry,
        };
        Ok(metrics)
    }

    /// Takes in what `rank` said.
    pub fn update(&mut self, rank: usize, event: &Event) {
        match event {
            Event::Step(step) => self.measured(rank, step),
            Event::Checkpoint { step, seconds, .. } => {
                self.checkpoint_step.set(*step as f64);
                self.checkpoint_seconds.observe(*seconds);
            }
            Event::CheckpointStall { seconds } => self.checkpoint_stall.observe(*seconds),
            Event::Resumed { step, .. } => self.step.set(*step as f64),
            Event::Knn { features, scores, .. } if features == "trained" => {
                for score in scores {
                    self.knn.with_label_values(&[format!("k={},T={}", score.k, score.temperature)]).set(score.top1);
                }
            }
            Event::Linear { stage, top1, top5, .. } if rank == 0 => {
                self.linear_top1.with_label_values(&[stage]).set(*top1);
                self.linear_top5.with_label_values(&[stage]).set(*top5);
            }
            _ => {}
        }
    }

    fn measured(&mut self, rank: usize, step: &Step) {
        let label = rank.to_string();
        // A counter refuses what is negative, and a clock gives none.
        self.data_wait.with_label_values(&[&label]).inc_by(step.data_wait.max(0.0));
        self.corrupt.with_label_values(&[&label]).set(step.corrupt as f64);
        if let Some(bytes) = step.gpu_memory {
            self.gpu_memory.with_label_values(&[&label]).set(bytes as f64);
        }
        if rank != 0 {
            return;
        }
        self.loss.set(step.loss);
        let measured = [
            (&self.output_std, step.output_std),
            (&self.healthy_std, step.healthy_std),
            (&self.effective_rank, step.effective_rank),
        ];
        for (gauge, value) in measured {
            if let Some(value) = value {
                gauge.set(value);
            }
        }
        let rates =
            [("encoder", step.lr_encoder), ("predictor", step.lr_predictor), ("classifier", step.lr_classifier)];
        for (group, rate) in rates {
            if let Some(rate) = rate {
                self.learning_rate.with_label_values(&[group]).set(rate);
            }
        }
        self.epoch.set((step.step * step.epochs / step.steps.max(1)) as f64);
        self.step.set(step.step as f64);
        self.images.inc_by(step.images);
        self.images_per_second.set(step.images as f64 / step.seconds.max(1e-9));
        for seconds in &step.allreduce_seconds {
            self.allreduce_seconds.with_label_values::<&str>(&[]).observe(*seconds);
        }
        if let Some(share) = step.model_flops_utilization {
            self.model_flops_utilization.with_label_values::<&str>(&[]).set(share);
        }
        for seconds in &step.step_seconds {
            self.step_seconds.observe(*seconds);
        }
    }

    /// The text exposition format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // The encoder fails only when its writer does, and a Vec does not.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> Result<C, Error> {
    let twice = |e: prometheus::Error| Error::Usage(format!("metrics: {e}"));
    let collector = made.map_err(twice)?;
    registry.register(Box::new(collector.clone())).map_err(twice)?;
    Ok(collector)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, Error> {
    register(registry, Gauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> Result<GaugeVec, Error> {
    register(registry, GaugeVec::new(Opts::new(name, help), &[label]))
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<CounterVec, Error> {
    register(registry, CounterVec::new(Opts::new(name, help), &[label]))
}

/// Fourteen buckets from `first` seconds on, each twice the one before.
fn histogram(registry: &Registry, name: &str, help: &str, first: f64) -> Result<Histogram, Error> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets(first))))
}

fn buckets(first: f64) -> Vec<f64> {
    (0..14).map(|i| first * f64::from(1 << i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_in_the_text() {
        let mut metrics = Metrics::new().unwrap();
        let step = |data_wait| {
            Event::Step(Step {
                step: 7,
                loss: -0.25,
                images: 64,
                data_wait,
                step_seconds: vec![0.1],
                ..Step::default()
            })
        };
        metrics.update(0, &step(0.5));
        // What is not known is not shown as 0.
        let absent = metrics.text();
        assert!(!absent.contains("simsiam_allreduce_seconds") && !absent.contains("utilization"), "{absent}");
        metrics.update(
            0,
            &Event::Step(Step {
                loss: -0.25,
                model_flops_utilization: Some(0.375),
                allreduce_seconds: vec![0.002, 0.004],
                ..Step::default()
            }),
        );
        metrics.update(1, &step(2.0));
        metrics.update(1, &step(2.0));
        let text = metrics.text();
        for line in [
            "simsiam_loss -0.25",
            "simsiam_images_total 64",
            "simsiam_step_seconds_count 1",
            "simsiam_allreduce_seconds_count 2",
            "simsiam_model_flops_utilization 0.375",
            "# TYPE simsiam_data_wait_seconds_total counter",
            r#"simsiam_data_wait_seconds_total{rank="1"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
