//! What a metric is: how it is named, explained, read and shown. The metrics themselves are in
//! [`metric_table`](super::metric_table).

use super::event::{Event, Step};

/// A measurement, defined once for Prometheus, the journal, TensorBoard, the report and the documentation.
#[derive(Debug)]
pub struct Metric {
    /// Name of the value in a [`Step`]'s values and in the journal.
    pub key: &'static str,
    /// Its unit; `1` if it has none.
    pub unit: &'static str,
    /// What it is, as Prometheus and the documentation say it; metrics that share a series have the same.
    pub help: &'static str,
    /// The Prometheus series; several metrics may share one and differ in its label.
    pub series: Option<Series>,
    /// How the value is read from events.
    pub read: ValueSource,
    /// The journal's records that keep it. A tag and a curve need that.
    pub record: Option<RecordKind>,
    /// TensorBoard's tag; a classifier's follows its stage, as in `linear/top1`.
    pub tag: Option<&'static str>,
    /// Where the report shows it.
    pub curve: Option<Curve>,
}

/// A kind of the journal's records that keeps metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// An interval of training.
    Training,
    /// A kNN evaluation.
    Knn,
    /// An epoch of a classifier's training.
    Linear,
}

/// A Prometheus series.
#[derive(Debug)]
pub struct Series {
    /// Name of the series.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Name of its label.
    pub label: Option<&'static str>,
}

/// The type of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A value that goes up and down; without a label it is 0 until it is measured.
    Gauge,
    /// A gauge that is absent until it is measured.
    LateGauge,
    /// A sum of increments.
    Counter,
    /// Fourteen buckets, the first up to this many seconds, each twice as wide as the one before.
    Histogram(f64),
    /// A histogram that is absent until something is measured.
    LateHistogram(f64),
}

impl Kind {
    /// The type's name in Prometheus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge | Self::LateGauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram(_) | Self::LateHistogram(_) => "histogram",
        }
    }
}

/// How a value is read from the events of the ranks.
#[derive(Clone, Copy, Debug)]
pub enum ValueSource {
    /// The value that rank 0's steps carry under the metric's key.
    Value,
    /// The same, for this value of the series' label.
    Labelled(&'static str),
    /// A value of rank 0's steps.
    Step(fn(&Step) -> Option<f64>),
    /// Several values of rank 0's steps.
    Steps(fn(&Step) -> &[f64]),
    /// A value of each rank's steps; the label is the rank.
    EachRank(fn(&Step) -> Option<f64>),
    /// The value that a classifier's epochs carry under the metric's key; the label is the stage.
    Epoch,
    /// A value of the agent itself, which no event has.
    Agent,
    /// Values of any event of a rank, each with the value of the label.
    Event(fn(usize, &Event, &mut Emit)),
}

/// Takes a value of the label, empty without one, and a measurement.
pub type Emit<'a> = dyn FnMut(&str, f64) + 'a;

/// A series of a chart in the report.
#[derive(Debug)]
pub struct Curve {
    /// The chart, by its title, among those of the metric's record.
    pub chart: &'static str,
    /// Name in the legend.
    pub name: &'static str,
    /// What the value is multiplied by.
    pub scale: f64,
    /// Drawn dashed: what another series is compared with.
    pub reference: bool,
    /// Name in the legend of the same metric of the untrained encoder, drawn dashed, if the chart compares with it.
    pub untrained: Option<&'static str>,
}

/// A chart in the report.
#[derive(Debug)]
pub struct Chart {
    /// The records that it shows.
    pub record: RecordKind,
    /// Its title.
    pub title: &'static str,
    /// What it shows.
    pub note: &'static str,
    /// Name of the y-axis, with its unit.
    pub y: &'static str,
    /// Whether the y-axis begins at 0.
    pub from_zero: bool,
    /// Whether it is left out when nothing was measured.
    pub optional: bool,
}

impl Metric {
    /// The value of one of rank 0's steps, if it has one.
    pub fn of_step(&self, step: &Step) -> Option<f64> {
        match self.read {
            ValueSource::Value | ValueSource::Labelled(_) => step.values.get(self.key),
            ValueSource::Step(read) | ValueSource::EachRank(read) => read(step),
            ValueSource::Steps(_) | ValueSource::Epoch | ValueSource::Agent | ValueSource::Event(_) => None,
        }
    }

    /// Calls `emit` with each value that an event of `rank` has for the series.
    pub fn of_event(&self, rank: usize, event: &Event, emit: &mut Emit) {
        match (self.read, event) {
            (ValueSource::Event(read), _) => read(rank, event, emit),
            (ValueSource::EachRank(read), Event::Step(step)) => {
                if let Some(value) = read(step) {
                    emit(&rank.to_string(), value);
                }
            }
            (ValueSource::Steps(read), Event::Step(step)) if rank == 0 => {
                read(step).iter().for_each(|value| emit("", *value))
            }
            (ValueSource::Epoch, Event::Linear { stage, values, .. }) if rank == 0 => {
                if let Some(value) = values.get(self.key) {
                    emit(stage, value);
                }
            }
            (_, Event::Step(step)) if rank == 0 => {
                let label = if let ValueSource::Labelled(label) = self.read { label } else { "" };
                if let Some(value) = self.of_step(step) {
                    emit(label, value);
                }
            }
            _ => {}
        }
    }
}
