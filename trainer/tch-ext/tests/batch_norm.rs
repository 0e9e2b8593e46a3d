//! Sync batch norm over 2 and 3 processes with uneven (and empty) shards against plain batch norm on the whole batch.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

mod common;

use common::{Rank, randn, ranks};
use tch::{Kind, Tensor};
use tch_ext::c10d::ProcessGroup;
use tch_ext::sync_batch_norm;

const CHANNELS: i64 = 5;
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// One layer's tensors. Weight and bias, where there are any, are trained.
struct Layer {
    affine: Option<(Tensor, Tensor)>,
    mean: Tensor,
    var: Tensor,
}

impl Layer {
    /// In fp64 for fp64 inputs, else in fp32, as models keep theirs.
    fn new(affine: bool, input: Kind) -> Self {
        let kind = if input == Kind::Double { Kind::Double } else { Kind::Float };
        let drawn = |seed, offset: f64| randn(seed, &[CHANNELS], Kind::Double) * 0.3 + offset;
        let affine = affine.then(|| {
            (drawn(1, 1.0).to_kind(kind).set_requires_grad(true), drawn(2, 0.0).to_kind(kind).set_requires_grad(true))
        });
        let var = drawn(4, 1.0).abs();
        Self { affine, mean: drawn(3, 0.0).to_kind(kind), var: var.to_kind(kind) }
    }

    fn weight(&self) -> Option<&Tensor> {
        self.affine.as_ref().map(|(weight, _)| weight)
    }

    fn bias(&self) -> Option<&Tensor> {
        self.affine.as_ref().map(|(_, bias)| bias)
    }

    fn synchronised(&self, x: &Tensor, group: &ProcessGroup) -> Tensor {
        sync_batch_norm(x, self.weight(), self.bias(), &self.mean, &self.var, MOMENTUM, EPS, group).unwrap()
    }

    fn plain(&self, x: &Tensor) -> Tensor {
        x.batch_norm(self.weight(), self.bias(), Some(&self.mean), Some(&self.var), true, MOMENTUM, EPS, false)
    }
}

/// Shape and memory format of the inputs: `[N, C]`, or `[N, C, 3, 4]`.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Flat,
    Image,
    ChannelsLast,
}

impl Shape {
    fn batch(self, rows: i64, seed: u64) -> Tensor {
        let shape: &[i64] = match self {
            Self::Flat => &[rows, CHANNELS],
            Self::Image | Self::ChannelsLast => &[rows, CHANNELS, 3, 4],
        };
        // A mean far from zero is where sums of squares go wrong.
        randn(seed, shape, Kind::Double) * 2.0 + 5.0
    }

    fn leaf(self, values: &Tensor, kind: Kind) -> Tensor {
        let leaf = values.to_kind(kind).copy();
        if matches!(self, Self::ChannelsLast) {
            tch_ext::make_channels_last(&leaf).unwrap();
        }
        leaf.set_requires_grad(true)
    }
}

/// ‖a − b‖ / ‖b‖ over everything, which for the rounded types is what can be promised.
#[track_caller]
fn near(what: &str, ours: &Tensor, whole: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), whole.size(), "{what}");
    if ours.numel() == 0 {
        return;
    }
    let (ours, whole) = (ours.detach().to_kind(Kind::Double), whole.detach().to_kind(Kind::Double));
    let away = (&ours - &whole).norm().double_value(&[]) / whole.norm().double_value(&[]).max(1e-300);
    assert!(away <= tolerance, "{what}: {away:e} > {tolerance:e}");
}

fn compare(rank: &Rank, group: &ProcessGroup, shards: &[i64], shape: Shape, kind: Kind, affine: bool) {
    let what =
        |part: &str| format!("{part} of {shape:?} {kind:?} affine {affine} shards {shards:?} rank {}", rank.rank);
    // bf16 keeps 8 bits of each value; the running statistics and parameters stay in fp32.
    let (tolerance, statistics) = match kind {
        Kind::Double => (1e-11, 1e-12),
        Kind::Float => (2e-5, 2e-6),
        _ => (1e-2, 1e-4),
    };
    let rows: i64 = shards.iter().sum();
    let before: i64 = shards[..rank.rank].iter().sum();
    let mine = shards[rank.rank];
    let (synchronised, whole) = (Layer::new(affine, kind), Layer::new(affine, Kind::Double));
    for step in 0..2u64 {
        // The reference sees the values as the type rounds them, and computes in fp64.
        let values = shape.batch(rows, 10 + step).to_kind(kind).to_kind(Kind::Double);
        let weights = shape.batch(rows, 20 + step).to_kind(kind).to_kind(Kind::Double) - 5.0;
        let ours = shape.leaf(&values.narrow(0, before, mine), kind);
        let theirs = shape.leaf(&values, Kind::Double);
        let y = synchronised.synchronised(&ours, group);
        let y_whole = whole.plain(&theirs);
        assert_eq!(y.kind(), kind, "{}", what("type"));
        near(&what("forward"), &y, &y_whole.narrow(0, before, mine), tolerance);
        // A loss whose gradient has a part along y, so that both sums of the backward pass count.
        let loss = |y: &Tensor, weights: &Tensor| {
            let y = y.to_kind(Kind::Double);
            (&y * weights + y.square() * 0.3).sum(Kind::Double)
        };
        tch_ext::backward(&loss(&y, &weights.narrow(0, before, mine))).unwrap();
        tch_ext::backward(&loss(&y_whole, &weights)).unwrap();
        near(&what("input gradient"), &ours.grad(), &theirs.grad().narrow(0, before, mine), tolerance);
        near(&what("running mean"), &synchronised.mean, &whole.mean, statistics);
        near(&what("running var"), &synchronised.var, &whole.var, statistics);
        if let (Some((w, b)), Some((w_whole, b_whole))) = (&synchronised.affine, &whole.affine) {
            // Each rank has its own share of these; DDP's reducer adds them up.
            for (name, ours, whole) in [("weight", w, w_whole), ("bias", b, b_whole)] {
                let sum = ours.grad().to_kind(Kind::Double);
                group.all_reduce(&sum, tch_ext::c10d::Op::Sum).unwrap();
                near(&what(name), &sum, &whole.grad(), tolerance);
                let _ = (ours.grad().zero_(), whole.grad().zero_());
            }
        }
    }
}

fn every_case(rank: &Rank, shards: &[i64]) {
    let group = rank.group();
    for shape in [Shape::Flat, Shape::Image, Shape::ChannelsLast] {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            for affine in [true, false] {
                compare(rank, &group, shards, shape, kind, affine);
            }
        }
    }
}

#[test]
fn sync_batch_norm_of_two_uneven_ranks_matches_one() {
    ranks("sync_batch_norm_of_two_uneven_ranks_matches_one", 2, |rank| every_case(&rank, &[7, 2]));
}

#[test]
fn sync_batch_norm_of_three_uneven_ranks_matches_one() {
    ranks("sync_batch_norm_of_three_uneven_ranks_matches_one", 3, |rank| every_case(&rank, &[3, 8, 1]));
}

#[test]
fn rank_without_images_takes_part() {
    ranks("rank_without_images_takes_part", 3, |rank| every_case(&rank, &[4, 0, 5]));
}

#[test]
fn one_value_per_channel_fails_on_every_rank() {
    ranks("one_value_per_channel_fails_on_every_rank", 2, |rank| {
        let group = rank.group();
        let layer = Layer::new(true, Kind::Float);
        let x = Shape::Flat.batch([1, 0][rank.rank], 1).to_kind(Kind::Float);
        let made = sync_batch_norm(&x, layer.weight(), layer.bias(), &layer.mean, &layer.var, MOMENTUM, EPS, &group);
        let message = made.unwrap_err().to_string();
        assert!(message.contains("more than one value per channel"), "{message}");
    });
}
