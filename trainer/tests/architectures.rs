//! Every architecture against torchvision's: names, shapes and order of the state dict, and the pooled features of a
//! model filled by a closed formula (`tests/parity/README.md`).

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/formula.rs"]
mod formula;

use serde::Deserialize;
use simsiam::model::params::Role;
use simsiam::model::{Init, Params, Pass, ResNet};
use simsiam_recipe::{Arch, Stem};
use std::collections::BTreeMap;
use tch::{Device, Kind};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `architectures.json`.
#[derive(Deserialize)]
struct Listing {
    hash: Hash,
    architectures: BTreeMap<String, Architecture>,
}

#[derive(Deserialize)]
struct Hash {
    name: String,
    first: Vec<u32>,
}

#[derive(Deserialize)]
struct Architecture {
    features: i64,
    parameters: i64,
    entries: Vec<(String, Vec<i64>)>,
}

fn listing() -> Result<Listing> {
    Ok(serde_json::from_slice(&std::fs::read(fixture::path("architectures.json"))?)?)
}

#[test]
fn formula_matches_the_listing() -> Result<()> {
    let Hash { name, first } = listing()?.hash;
    assert_eq!(formula::hash(&name).take(first.len()).collect::<Vec<_>>(), first);
    Ok(())
}

#[test]
fn every_listed_architecture_has_a_test() -> Result<()> {
    let tested: Vec<&str> = TESTED.iter().map(|arch| arch.name()).collect();
    let mut listed: Vec<String> = listing()?.architectures.into_keys().collect();
    listed.sort_by_key(|name| tested.iter().position(|t| t == name));
    assert_eq!(listed, tested);
    Ok(())
}

fn compare(arch: Arch) -> Result<()> {
    let expected = listing()?.architectures.remove(arch.name()).ok_or("not in the listing")?;
    let mut params = Params::default();
    let init = Init::new(&mut params, 0, Kind::Float, Device::Cpu);
    let net = ResNet::new(init, arch, Stem::Imagenet, 3, 64)?;

    let entries: Vec<_> = params.entries().iter().map(|e| (e.name.clone(), e.tensor.size())).collect();
    assert_eq!(entries, expected.entries, "state dict");
    let parameters: i64 = params.with_role(Role::Trained).map(|(_, t)| t.numel() as i64).sum();
    assert_eq!((net.features(), parameters), (expected.features, expected.parameters));

    for entry in params.entries() {
        if let Some(value) = formula::fill(&entry.name, &entry.tensor.size())? {
            tch::no_grad(|| entry.tensor.shallow_clone().f_copy_(&value))?;
        }
    }
    let images = formula::affine("input", &[2, 3, 64, 64], 0.0, 2.0)?;
    let features = tch::no_grad(|| net.forward(&images, Pass::EVAL))?;
    let (outputs, _) = fixture::read("architectures.safetensors")?;
    let theirs = &outputs[arch.name()];
    assert_eq!(features.size(), theirs.size());
    let away = fixture::distance(&features, theirs)?;
    assert!(away <= 1e-4, "features are off by {away:.1e} of their norm");
    Ok(())
}

macro_rules! architectures {
    ($($test:ident: $arch:ident),* $(,)?) => {
        const TESTED: &[Arch] = &[$(Arch::$arch),*];
        $(
            #[test]
            fn $test() -> Result<()> {
                compare(Arch::$arch)
            }
        )*
    };
}

architectures! {
    resnet18: Resnet18,
    resnet34: Resnet34,
    resnet50: Resnet50,
    resnet101: Resnet101,
    resnet152: Resnet152,
    wide_resnet50_2: WideResnet50_2,
    wide_resnet101_2: WideResnet101_2,
    resnext50_32x4d: Resnext50_32x4d,
    resnext101_32x8d: Resnext101_32x8d,
    resnext101_64x4d: Resnext101_64x4d,
}
