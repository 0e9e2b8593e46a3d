//! Learning rates, SGD updates and initial values against PyTorch's (`tests/parity/README.md`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use simsiam::model::SimSiam;
use simsiam::training::fixture::Network;
use simsiam::training::larc;
use simsiam::training::schedule::LearningRate;
use simsiam_recipe::Pretrain;
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn read<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(name);
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[derive(Deserialize)]
struct Cases<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    lr: f64,
    batch_size: u32,
    epochs: u32,
    rates: Vec<f64>,
}

#[test]
fn learning_rates_match_the_reference() -> Result<()> {
    const STEPS_PER_EPOCH: u64 = 7;
    for Rates { lr, batch_size, epochs, rates } in read::<Cases<Rates>>("schedule.json")?.cases {
        let recipe = Pretrain { lr, batch_size, epochs, ..Pretrain::default() };
        let schedule = LearningRate::new(&recipe, STEPS_PER_EPOCH);
        for (epoch, &rate) in (0..).zip(&rates) {
            for step in [epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH - 1] {
                let ours = schedule.at(step);
                assert!((ours.encoder - rate).abs() <= 1e-12 * rates[0], "epoch {epoch}: {ours:?}, expected {rate}");
                assert_eq!(ours.predictor, rates[0], "fixPredLr keeps the predictor at its peak");
            }
        }
        assert_eq!(rates.len(), epochs as usize);
    }
    Ok(())
}

type Values<T> = BTreeMap<String, Vec<T>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sgd {
    momentum_factor: f64,
    weight_decay: f64,
    shapes: Values<i64>,
    start: Values<f64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    lr: f64,
    grad: Values<f64>,
    value: Values<f64>,
    momentum: Values<f64>,
}

/// Each list as a tensor, in the order of the names.
fn tensors(shapes: &Values<i64>, values: &Values<f64>) -> Result<Vec<Tensor>> {
    values.iter().map(|(name, list)| Ok(Tensor::f_from_slice(list)?.f_reshape(&shapes[name])?)).collect()
}

#[test]
fn sgd_updates_match_pytorch() -> Result<()> {
    let Sgd { momentum_factor, weight_decay, shapes, start, steps } = read("sgd.json")?;
    let params = tensors(&shapes, &start)?;
    let momentum: Vec<Tensor> = params.iter().map(Tensor::zeros_like).collect();
    for (index, step) in steps.iter().enumerate() {
        let grads = tensors(&shapes, &step.grad)?;
        tch_ext::fused_sgd(&params, &grads, &momentum, step.lr, momentum_factor, weight_decay, index == 0)?;
        for (what, ours, theirs) in [("parameters", &params, &step.value), ("momentum", &momentum, &step.momentum)] {
            for (a, b) in ours.iter().zip(tensors(&shapes, theirs)?) {
                assert!(a.f_allclose(&b, 1e-14, 1e-15, false)?, "{what} after step {index}: {a}, expected {b}");
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Larc {
    momentum_factor: f64,
    shapes: Values<i64>,
    start: Values<f64>,
    cases: Vec<LarcCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LarcCase {
    trust: f64,
    weight_decay: f64,
    steps: Vec<Step>,
}

/// Ten steps of LARS, with a parameter that starts at zero and a gradient that is zero once.
#[test]
fn lars_updates_match_the_reference() -> Result<()> {
    let Larc { momentum_factor, shapes, start, cases } = read("larc.json")?;
    for LarcCase { trust, weight_decay, steps } in cases {
        assert_eq!(steps.len(), 10);
        let params = tensors(&shapes, &start)?;
        let momentum: Vec<Tensor> = params.iter().map(Tensor::zeros_like).collect();
        for (index, step) in steps.iter().enumerate() {
            let grads = tensors(&shapes, &step.grad)?;
            let scaled: std::result::Result<Vec<_>, _> =
                params.iter().zip(&grads).map(|(p, g)| larc::scaled(p, g, trust, weight_decay)).collect();
            tch_ext::fused_sgd(&params, &scaled?, &momentum, step.lr, momentum_factor, 0.0, index == 0)?;
            for (what, ours, theirs) in [("parameters", &params, &step.value), ("momentum", &momentum, &step.momentum)]
            {
                for (a, b) in ours.iter().zip(tensors(&shapes, theirs)?) {
                    assert!(a.f_allclose(&b, 1e-13, 1e-14, false)?, "{what} after step {index}: {a}, expected {b}");
                }
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    #[serde(flatten)]
    network: Network,
    entries: Vec<(String, Vec<i64>, Start)>,
}

/// What a tensor is drawn from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Start {
    Normal { std: f64 },
    Uniform { bound: f64 },
    Constant(f64),
}

impl Start {
    fn check(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let values = tensor.f_detach()?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?;
        let std = match *self {
            Self::Constant(value) => {
                assert!(values.f_equal(&values.f_full_like(value)?)?, "{name} is not {value} everywhere");
                return Ok(());
            }
            Self::Normal { std } => std,
            Self::Uniform { bound } => {
                let largest = values.f_abs()?.f_max()?.f_double_value(&[])?;
                assert!(largest <= bound * (1.0 + 1e-6), "{name} reaches {largest}, bound {bound}");
                bound / 3f64.sqrt()
            }
        };
        let count = values.numel() as f64;
        if count < 1000.0 {
            return Ok(());
        }
        let mean = values.f_mean(Kind::Double)?.f_double_value(&[])?;
        assert!(mean.abs() <= 5.0 * std / count.sqrt(), "{name} has mean {mean}");
        let found = values.f_std(false)?.f_double_value(&[])?;
        let allowed = 5.0 / (2.0 * count).sqrt();
        assert!((found / std - 1.0).abs() <= allowed, "{name} has standard deviation {found}, expected {std}");
        // The fourth moment over the squared variance tells a normal distribution (3) from a uniform one (1.8).
        if count >= 10_000.0 {
            let kurtosis = values.f_pow_tensor_scalar(4)?.f_mean(Kind::Double)?.f_double_value(&[])? / found.powi(4);
            let expected = if matches!(self, Self::Normal { .. }) { 3.0 } else { 1.8 };
            assert!((kurtosis - expected).abs() < 0.4, "{name} has kurtosis {kurtosis}, expected {expected}");
        }
        Ok(())
    }
}

#[test]
fn initial_values_follow_their_distributions() -> Result<()> {
    for case in read::<Cases<Model>>("initialisation.json")?.cases {
        let recipe = case.network.pretrain();
        let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu)?;
        let ours: Vec<_> = model.params().entries().iter().map(|e| (e.name.as_str(), e.tensor.size())).collect();
        let theirs: Vec<_> = case.entries.iter().map(|(name, shape, _)| (name.as_str(), shape.clone())).collect();
        assert_eq!(ours, theirs, "{}: names, shapes and order", recipe.arch);
        for (entry, (name, _, start)) in model.params().entries().iter().zip(&case.entries) {
            start.check(name, &entry.tensor)?;
        }
    }
    Ok(())
}
