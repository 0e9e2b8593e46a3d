//! Prometheus metrics of a running stage, from the rows of [`metric_table`].

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};

use super::event::Event;
use super::metric::{Kind, Metric, Series};
use super::metric_table;
use crate::error::Error;

/// Every series of the trainer, updated by events.
pub struct Metrics {
    registry: Registry,
    series: BTreeMap<&'static str, Registered>,
}

/// A series in the registry.
enum Registered {
    Gauge(GaugeVec),
    Counter(CounterVec),
    Histogram(HistogramVec),
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// If two rows of the table contradict each other.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let mut series = BTreeMap::new();
        for metric in metric_table::ALL {
            let Some(row) = &metric.series else { continue };
            if !series.contains_key(row.name) {
                let registered = Registered::new(&registry, row, metric.help)
                    .map_err(|e| Error::Internal(format!("the metric {}: {e}", row.name)))?;
                series.insert(row.name, registered);
            }
        }
        Ok(Self { registry, series })
    }

    /// Takes in an event of `rank`.
    pub fn update(&mut self, rank: usize, event: &Event) {
        for metric in metric_table::ALL {
            let Some(row) = &metric.series else { continue };
            let Some(registered) = self.series.get(row.name) else { continue };
            metric.of_event(rank, event, &mut |label, value| {
                let labels: Vec<&str> = row.label.map(|_| label).into_iter().collect();
                registered.record(&labels, value);
            });
        }
    }

    /// Sets a metric of the agent itself, which has no label.
    pub fn set(&self, metric: &Metric, value: f64) {
        if let Some(registered) = metric.series.as_ref().and_then(|series| self.series.get(series.name)) {
            registered.record(&[], value);
        }
    }

    /// The series in the text exposition format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // The encoder fails only when its writer does, and a Vec does not.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Registered {
    fn new(registry: &Registry, row: &Series, help: &str) -> prometheus::Result<Self> {
        let labels: Vec<&str> = row.label.into_iter().collect();
        let registered = match row.kind {
            Kind::Gauge | Kind::LateGauge => {
                Self::Gauge(register(registry, GaugeVec::new(Opts::new(row.name, help), &labels)?)?)
            }
            Kind::Counter => Self::Counter(register(registry, CounterVec::new(Opts::new(row.name, help), &labels)?)?),
            Kind::Histogram(first) | Kind::LateHistogram(first) => {
                let buckets = (0..14).map(|i| first * f64::from(1 << i)).collect();
                let options = HistogramOpts::new(row.name, help).buckets(buckets);
                Self::Histogram(register(registry, HistogramVec::new(options, &labels)?)?)
            }
        };
        let late = matches!(row.kind, Kind::LateGauge | Kind::LateHistogram(_));
        if labels.is_empty() && !late {
            registered.show_zero();
        }
        Ok(registered)
    }

    /// Makes a series without labels visible before it is measured.
    fn show_zero(&self) {
        let none: &[&str] = &[];
        match self {
            Self::Gauge(gauge) => drop(gauge.with_label_values(none)),
            Self::Counter(counter) => drop(counter.with_label_values(none)),
            Self::Histogram(histogram) => drop(histogram.with_label_values(none)),
        }
    }

    fn record(&self, labels: &[&str], value: f64) {
        match self {
            Self::Gauge(gauge) => gauge.with_label_values(labels).set(value),
            Self::Counter(counter) => counter.with_label_values(labels).inc_by(value),
            Self::Histogram(histogram) => histogram.with_label_values(labels).observe(value),
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::event::Step;

    #[test]
    fn metrics_of_steps_show_in_the_text() {
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
        // What was not measured is not shown as 0.
        let absent = metrics.text();
        assert!(!absent.contains("simsiam_allreduce_seconds") && !absent.contains("utilization"), "{absent}");
        let mut timed = Step { loss: -0.25, allreduce_seconds: vec![0.002, 0.004], ..Step::default() };
        timed.values.set(metric_table::MODEL_FLOPS_UTILIZATION.key, 0.375);
        timed.values.set(metric_table::LR_ENCODER.key, 0.5);
        metrics.update(0, &Event::Step(timed));
        metrics.update(1, &step(2.0));
        metrics.update(1, &step(2.0));
        let text = metrics.text();
        for line in [
            "simsiam_loss -0.25",
            "simsiam_images_total 64",
            "simsiam_step_seconds_count 1",
            "simsiam_allreduce_seconds_count 2",
            "simsiam_model_flops_utilization 0.375",
            "simsiam_effective_rank 0",
            r#"simsiam_learning_rate{group="encoder"} 0.5"#,
            "# TYPE simsiam_data_wait_seconds_total counter",
            r#"simsiam_data_wait_seconds_total{rank="1"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
