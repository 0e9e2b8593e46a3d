//! The paper's collapse experiments (section 4.1, figure 2; section 4.2, table 1) in small: without
//! stop-gradient, and without a predictor, the representation collapses within a stated number of steps; with a
//! fixed random predictor the loss stays high; the method itself stays healthy.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::sync::Arc;

use simsiam::model::simsiam::output_std;
use simsiam::model::{Pass, SimSiam};
use simsiam::optim::Sgd;
use simsiam::pretrain::two_views;
use simsiam::schedule::LearningRate;
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{ImageFolder, Loader, LoaderOptions};
use simsiam_recipe::{Ablation, Augment, Pretrain, Projector, Schedule, Stem};
use tch::{Device, Kind, Tensor};

const DIM: u32 = 64;
const STEPS: u64 = 150;

/// Loss and std after every step.
fn train(ablation: Ablation) -> Vec<(f64, f64)> {
    let folder = tempfile::tempdir().unwrap();
    let options = SynthOptions { train_per_class: 32, val_per_class: 1, size: 24, seed: 1 };
    synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
    let source = Arc::new(ImageFolder::open(&folder.path().join("train")).unwrap());
    let recipe = Pretrain {
        arch: simsiam_recipe::Arch::Resnet18,
        stem: Stem::Cifar,
        base_width: 8,
        dim: DIM,
        pred_dim: 16,
        projector: Projector { layers: 2, hidden_dim: Some(64) },
        batch_size: 64,
        lr: 0.2,
        epochs: 100,
        schedule: Schedule::Constant,
        augment: Augment { crop_size: 16, blur_prob: 0.0, ..Augment::default() },
        ablation,
        ..Pretrain::default()
    };
    let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu).unwrap();
    let mut sgd = Sgd::new(model.params(), recipe.momentum, recipe.weight_decay).unwrap();
    let rates = LearningRate::new(&recipe, 5);
    let mut curve = Vec::new();
    for step in 0..STEPS {
        let options = LoaderOptions {
            seed: 0,
            epoch: step / 5,
            batch: 64,
            rank: 0,
            world: 1,
            first_batch: (step % 5) as usize,
            threads: 1,
            prefetch: 1,
            max_corrupt: 0,
        };
        let batch =
            Loader::two_views(source.clone(), two_views(&recipe.augment), options).unwrap().next().unwrap().unwrap();
        let shape = batch.shape.map(|n| n as i64);
        let view = |i: usize| Tensor::from_slice(&batch.views[i]).reshape(shape);
        sgd.zero_grad().unwrap();
        let outputs = model.forward([&view(0), &view(1)], Pass::train(None)).unwrap();
        outputs.loss.backward();
        sgd.step(rates.at(step)).unwrap();
        curve.push((outputs.loss.double_value(&[]), output_std(&outputs.z[0]).unwrap().double_value(&[])));
    }
    curve
}

const HEALTHY: f64 = 0.125; // 1/√64

fn end(curve: &[(f64, f64)]) -> (f64, f64) {
    *curve.last().unwrap()
}

#[test]
fn the_method_stays_healthy() {
    let curve = train(Ablation::None);
    let (loss, std) = end(&curve);
    assert!((0.6 * HEALTHY..=1.02 * HEALTHY).contains(&std), "std {std}, healthy is near {HEALTHY}");
    assert!(loss < -0.3 && loss > -0.99, "loss {loss}");
}

#[test]
fn without_stop_gradient_it_collapses() {
    let curve = train(Ablation::NoStopGradient);
    let (loss, std) = end(&curve);
    assert!(loss < -0.99 && std < 0.2 * HEALTHY, "after {STEPS} steps: loss {loss}, std {std}");
}

#[test]
fn without_a_predictor_it_collapses() {
    let curve = train(Ablation::NoPredictor);
    let (loss, std) = end(&curve);
    assert!(loss < -0.99 && std < 0.2 * HEALTHY, "after {STEPS} steps: loss {loss}, std {std}");
}

#[test]
fn with_a_fixed_random_predictor_the_loss_stays_high() {
    let (loss, _) = end(&train(Ablation::FixedPredictor));
    let (method, _) = end(&train(Ablation::None));
    assert!(loss > method + 0.1, "fixed predictor {loss}, the method {method}");
}
