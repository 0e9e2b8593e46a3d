//! The paper's collapse experiments (section 4.1, figure 2; section 4.2, table 1) in small: without
//! stop-gradient, and without a predictor, the representation collapses within [`LONG`] steps; with a fixed random
//! predictor the loss stays high; the method itself stays healthy.
//!
//! Batch norm at the end of the encoder keeps each channel's variance at 1, so a batch cannot collapse as a whole: all
//! images but one fall onto one point, and the one lies far off. If it is another image in each view, the mean cosine
//! of N images is 1 − 4/N and the std of z/‖z‖ is 2/√(N·dim). A batch of 1024 makes both far smaller than the bounds
//! of the test; smaller batches could not pass them.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::sync::{Arc, OnceLock};

use simsiam::data::datasets::two_views;
use simsiam::model::simsiam::output_std;
use simsiam::model::{Pass, SimSiam};
use simsiam::training::schedule::LearningRate;
use simsiam::training::sgd::Sgd;
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{ImageFolder, Loader, LoaderOptions};
use simsiam_recipe::{Ablation, Augment, Pretrain, Projector, Schedule, Stem};
use tch::{Device, Kind, Tensor};

const DIM: u32 = 64;
const BATCH: usize = 1024;
/// So many steps show that the loss stays where it is.
const STEPS: u64 = 80;
/// Within so many, collapse shows. When it does depends on the last bits of sums, and so on the kind of processor: on one
/// after 30 steps, on another after 100.
const LONG: u64 = 200;

/// Loss and std at one step.
type Point = (f64, f64);

/// The curve of a whole training.
fn train(ablation: Ablation, steps: u64) -> Vec<Point> {
    // One thread: the same sums in the same order on every machine of a kind.
    tch_ext::set_intraop_threads(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = SynthOptions { train_per_class: 104, val_per_class: 1, size: 24, seed: 1 };
    synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
    let source = Arc::new(ImageFolder::open(&folder.path().join("train")).unwrap());
    let recipe = Pretrain {
        arch: simsiam_recipe::Arch::Resnet18,
        stem: Stem::Imagenet,
        base_width: 8,
        dim: DIM,
        pred_dim: 16,
        projector: Projector { layers: 2, hidden_dim: Some(64) },
        batch_size: BATCH as u32,
        lr: 0.5,
        schedule: Schedule::Constant,
        augment: Augment { crop_size: 16, blur_prob: 0.0, ..Augment::default() },
        ablation,
        ..Pretrain::default()
    };
    let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu).unwrap();
    let mut sgd = Sgd::simsiam(model.params(), recipe.momentum, recipe.weight_decay).unwrap();
    let rates = LearningRate::new(&recipe, 1);
    let mut curve = Vec::new();
    for step in 0..steps {
        let options = LoaderOptions { epoch: step, batch: BATCH, prefetch: 1, ..LoaderOptions::default() };
        let batch =
            Loader::two_views(source.clone(), two_views(&recipe.augment), options).unwrap().next().unwrap().unwrap();
        let shape = batch.shape.map(|n| n as i64);
        let view = |i: usize| Tensor::from_slice(&batch.views[i]).reshape(shape);
        sgd.zero_grad().unwrap();
        let outputs = model.forward([&view(0), &view(1)], Pass::train(None)).unwrap();
        outputs.loss.backward();
        sgd.step(&rates.at(step).groups()).unwrap();
        curve.push((outputs.loss.double_value(&[]), output_std(&outputs.z[0]).unwrap().double_value(&[])));
    }
    curve
}

/// The method's own curve, trained once for all tests.
fn method() -> &'static [Point] {
    static CURVE: OnceLock<Vec<Point>> = OnceLock::new();
    CURVE.get_or_init(|| train(Ablation::None, STEPS))
}

const HEALTHY: f64 = 0.125; // 1/√64

/// Means over the last 20 steps.
fn end(curve: &[Point]) -> Point {
    let last = &curve[curve.len() - 20..];
    let mean = |of: fn(&Point) -> f64| last.iter().map(of).sum::<f64>() / last.len() as f64;
    (mean(|p| p.0), mean(|p| p.1))
}

fn is_collapsed(&(loss, std): &Point) -> bool {
    loss < -0.99 && std < 0.2 * HEALTHY
}

/// Several steps must show it, so that one lucky batch does not pass; at this learning rate a sixth of them or more do.
fn assert_collapses(ablation: Ablation) {
    let curve = train(ablation, LONG);
    let collapsed = curve.iter().filter(|point| is_collapsed(point)).count();
    println!("{collapsed} of {LONG} steps are collapsed");
    assert!(
        collapsed >= 13,
        "{collapsed} of {LONG} steps are collapsed; at the end loss and std are {:?}",
        end(&curve)
    );
}

#[test]
fn simsiam_does_not_collapse() {
    let (loss, std) = end(method());
    assert!((0.8 * HEALTHY..=1.02 * HEALTHY).contains(&std), "std {std}, healthy is near {HEALTHY}");
    assert!(loss < -0.4 && loss > -0.95, "loss {loss}");
    assert!(!method().iter().any(is_collapsed));
}

#[test]
fn simsiam_without_stop_gradient_collapses() {
    assert_collapses(Ablation::NoStopGradient);
}

#[test]
fn simsiam_without_predictor_collapses() {
    assert_collapses(Ablation::NoPredictor);
}

#[test]
fn loss_with_a_fixed_random_predictor_stays_high() {
    let (fixed, (method, _)) = (train(Ablation::FixedPredictor, STEPS), end(method()));
    let (loss, _) = end(&fixed);
    assert!(loss > -0.4 && loss > method + 0.2, "fixed predictor {loss}, the method {method}");
}
