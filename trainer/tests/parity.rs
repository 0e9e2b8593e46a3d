//! Five training steps of the whole SimSiam model against PyTorch's, from the same weights and images: loss,
//! projections, predictions, every gradient, and parameters, buffers and momentum afterwards.
//!
//! `tests/parity/README.md` says where the expected values come from and what the tolerances are.

#[path = "support/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;

use fixture::distance;
use simsiam::model::SimSiam;
use simsiam::model::params::Role;
use simsiam::training::fixture::{Fixture, Tensors};
use simsiam_recipe::Pretrain;
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

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

/// Trains the case `name` in `kind` and compares all of it.
fn compare(name: &str, kind: Kind) -> Result<()> {
    let (suffix, tolerance) = match kind {
        Kind::Double => ("f64", Tolerance::Elementwise),
        _ => ("f32", Tolerance::Norm),
    };
    let given = Fixture::read(&fixture::path(&format!("fixtures/{name}.inputs.safetensors")))?;
    let (expected, _) = fixture::read(&format!("fixtures/{name}.{suffix}.safetensors"))?;
    let mut found = given.train(kind, Device::Cpu)?;

    // The frozen bias has neither gradient nor momentum, and stays as it was, to the bit.
    let name = &given.case.frozen;
    let frozen = &found[&format!("after.{name}")];
    assert!(frozen.f_equal(&given.inputs[&format!("state.{name}")].f_to_kind(kind)?)?, "{name} moved");
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
