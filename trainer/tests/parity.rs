//! Five training steps of the whole SimSiam model against PyTorch's, from the same weights and images: loss,
//! projections, predictions, every gradient, and parameters, buffers and momentum afterwards.
//!
//! `tests/parity/README.md` says where the expected values come from and what the tolerances are.

#[path = "support/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;

use fixture::{Tensors, distance};
use serde::Deserialize;
use simsiam::model::params::Role;
use simsiam::model::{Params, Pass, SimSiam};
use simsiam::optim::Sgd;
use simsiam::schedule::Rates;
use simsiam_recipe::{Arch, Pretrain, Projector, Stem};
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The metadata of a fixture, as far as the model and the optimiser need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    arch: Arch,
    stem: Stem,
    base_width: u32,
    projector: Heads,
    dim: u32,
    pred_dim: u32,
    momentum: f64,
    weight_decay: f64,
    encoder_lr: Vec<f64>,
    predictor_lr: f64,
    frozen: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heads {
    layers: u32,
    hidden_dim: Option<u32>,
}

impl Case {
    fn pretrain(&self) -> Pretrain {
        Pretrain {
            arch: self.arch,
            stem: self.stem,
            base_width: self.base_width,
            projector: Projector { layers: self.projector.layers, hidden_dim: self.projector.hidden_dim },
            dim: self.dim,
            pred_dim: self.pred_dim,
            ..Pretrain::default()
        }
    }
}

/// How close two tensors have to be.
#[derive(Clone, Copy)]
enum Tolerance {
    /// Each element within 1e-8 of its own size; 1e-10 of the largest for those that are zero but for rounding.
    Elementwise,
    /// ‖a − b‖ ≤ 1e-3 ‖b‖.
    Norm,
}

impl Tolerance {
    /// What is wrong with `found`, if anything.
    fn check(self, name: &str, found: &Tensor, expected: &Tensor) -> Result<Option<String>> {
        if found.size() != expected.size() || found.kind() != expected.kind() {
            return Ok(Some(format!("{name} is {found:?}, expected {expected:?}")));
        }
        if found.kind() == Kind::Int64 {
            let equal = found.f_equal(expected)?;
            return Ok((!equal).then(|| format!("{name} is {found}, expected {expected}")));
        }
        let away = distance(found, expected)?;
        let close = match self {
            Self::Elementwise => {
                let bound = expected.f_abs()? * 1e-8 + expected.f_abs()?.f_max()? * 1e-10;
                found.f_sub(expected)?.f_abs()?.f_le_tensor(&bound)?.f_all()?.f_int64_value(&[])? == 1
            }
            Self::Norm => away <= 1e-3,
        };
        Ok((!close).then(|| format!("{name} is off by {away:.1e} of its norm")))
    }
}

/// Sets every tensor of `params` to the value of its name; both sides must have the same names.
fn load(params: &Params, inputs: &Tensors) -> Result<()> {
    let ours: BTreeSet<String> = params.entries().iter().map(|e| format!("state.{}", e.name)).collect();
    let theirs: BTreeSet<String> = inputs.keys().filter(|k| k.starts_with("state.")).cloned().collect();
    assert_eq!(ours, theirs, "names of parameters and buffers");
    for entry in params.entries() {
        let value = &inputs[&format!("state.{}", entry.name)];
        assert_eq!(entry.tensor.size(), value.size(), "shape of {}", entry.name);
        tch::no_grad(|| entry.tensor.shallow_clone().f_copy_(value))?;
    }
    Ok(())
}

/// One step's view as `kind`, `[N, 3, H, W]`.
fn view(inputs: &Tensors, name: &str, step: usize, kind: Kind) -> Result<Tensor> {
    Ok((inputs[name].f_get(step as i64)?.f_to_kind(kind)? - 128) / 64)
}

/// Trains the case and names the tensors as its file does.
fn train(case: &Case, inputs: &Tensors, kind: Kind) -> Result<Tensors> {
    let model = SimSiam::new(&case.pretrain(), kind, Device::Cpu)?;
    load(model.params(), inputs)?;
    let mut sgd = Sgd::new(model.params(), case.momentum, case.weight_decay)?;
    let (mut found, mut losses) = (Tensors::new(), Vec::new());
    for (step, &encoder) in case.encoder_lr.iter().enumerate() {
        let views = [view(inputs, "view1", step, kind)?, view(inputs, "view2", step, kind)?];
        let outputs = model.forward([&views[0], &views[1]], Pass::train(None))?;
        sgd.zero_grad()?;
        outputs.loss.f_backward()?;
        if step == 0 {
            let [z1, z2] = &outputs.z;
            let [p1, p2] = &outputs.p;
            for (name, tensor) in [("z1", z1), ("z2", z2), ("p1", p1), ("p2", p2)] {
                found.insert(name.to_owned(), tensor.f_detach()?);
            }
            for entry in model.params().entries() {
                if entry.tensor.grad().defined() {
                    found.insert(format!("grad.{}", entry.name), entry.tensor.grad().copy());
                }
            }
        }
        losses.push(outputs.loss.f_detach()?);
        sgd.step(Rates { encoder, predictor: case.predictor_lr })?;
    }
    found.insert("losses".to_owned(), Tensor::f_stack(&losses, 0)?);
    for entry in model.params().entries() {
        found.insert(format!("after.{}", entry.name), entry.tensor.f_detach()?);
    }
    for (name, buffer) in sgd.buffers() {
        found.insert(format!("momentum.{name}"), buffer.shallow_clone());
    }
    Ok(found)
}

/// Trains the case `name` in `kind` and compares all of it.
fn compare(name: &str, kind: Kind) -> Result<()> {
    let (suffix, tolerance) = match kind {
        Kind::Double => ("f64", Tolerance::Elementwise),
        _ => ("f32", Tolerance::Norm),
    };
    let (inputs, metadata) = fixture::read(&format!("fixtures/{name}.inputs.safetensors"))?;
    let (expected, _) = fixture::read(&format!("fixtures/{name}.{suffix}.safetensors"))?;
    let case: Case = serde_json::from_str(metadata.get("case").ok_or("no metadata `case`")?)?;
    let mut found = train(&case, &inputs, kind)?;

    // The frozen bias has neither gradient nor momentum, and stays as it was, to the bit.
    let frozen = &found[&format!("after.{}", case.frozen)];
    assert!(frozen.f_equal(&inputs[&format!("state.{}", case.frozen)].f_to_kind(kind)?)?, "{} moved", case.frozen);
    let names = |tensors: &Tensors| tensors.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&found), names(&expected), "what has a gradient, a momentum buffer, a state");

    if kind == Kind::Float
        && let (Some(ours), Some(theirs)) = (found.remove("losses"), expected.get("losses"))
    {
        let away = ours.f_sub(theirs)?.f_abs()?.f_max()?.f_double_value(&[])?;
        assert!(away <= 1e-5, "losses are off by {away:.1e}");
    }
    let mut wrong = Vec::new();
    for (name, tensor) in &found {
        wrong.extend(tolerance.check(name, tensor, &expected[name])?);
    }
    assert!(wrong.is_empty(), "{} of {} tensors differ:\n{}", wrong.len(), found.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn basic_blocks_and_cifar_stem_in_f64() -> Result<()> {
    compare("basic", Kind::Double)
}

#[test]
fn basic_blocks_and_cifar_stem_in_f32() -> Result<()> {
    compare("basic", Kind::Float)
}

#[test]
fn bottlenecks_and_imagenet_stem_in_f64() -> Result<()> {
    compare("bottleneck", Kind::Double)
}

#[test]
fn two_layer_projector_in_f64() -> Result<()> {
    compare("two-layer", Kind::Double)
}

#[test]
fn only_the_last_projector_bias_is_frozen() -> Result<()> {
    let model = SimSiam::new(&Pretrain { base_width: 8, ..Pretrain::default() }, Kind::Float, Device::Cpu)?;
    let frozen: Vec<&str> = model.params().with_role(Role::Frozen).map(|(name, _)| name).collect();
    assert_eq!(frozen, ["encoder.fc.6.bias"]);
    Ok(())
}
