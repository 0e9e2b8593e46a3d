//! Other programs' weights: files of PyTorch are read, checkpoints of ours continue there.
//!
//! `tests/parity/make_checkpoints.py` made the files that are read, `tests/parity/check_exports.py` tries ours.

#[path = "support/fixture.rs"]
#[allow(dead_code)] // Its other half is for other tests.
mod fixture;
#[path = "support/formula.rs"]
#[allow(dead_code)]
mod formula;
#[path = "support/python.rs"]
#[allow(dead_code)]
mod python;
#[path = "support/weights.rs"]
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use fixture::distance;
use simsiam::model::Pass;
use simsiam::training::schedule::Rates;
use simsiam::training::sgd::Sgd;
use simsiam::weights::optimizer::Settings;
use simsiam::weights::{OptimizerState, Weights, names};
use simsiam_pth::{Dtype, Tensor as HostTensor, Value};
use simsiam_recipe::{Arch, Augment, ExportFormat, Pretrain};
use tch::{Kind, Tensor};
use weights::{host, network, small, stored, tensor, weights_of};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FORMATS: [ExportFormat; 5] = [
    ExportFormat::Safetensors,
    ExportFormat::Torchvision,
    ExportFormat::Timm,
    ExportFormat::Detectron2,
    ExportFormat::Pth,
];

/// The values that `make_checkpoints.py` gave each tensor.
#[track_caller]
fn assert_filled(tensors: &BTreeMap<String, HostTensor>, prefix: &str) -> Result<()> {
    for (name, found) in tensors {
        let found = tensor(found)?;
        let expected = match formula::fill(name, &found.size())? {
            Some(expected) => expected,
            None => Tensor::from(5i64),
        };
        let expected = match prefix {
            "" => expected,
            _ => formula::affine(&format!("{prefix}{name}"), &found.size(), 0.0, 0.1)?,
        };
        assert!(found.f_equal(&expected)?, "{prefix}{name}");
    }
    Ok(())
}

#[test]
fn checkpoint_of_the_reference_is_read_with_its_optimizer() -> Result<()> {
    for (name, base_width) in [("reference.pth.tar", 4), ("legacy.pth.tar", 2)] {
        let weights = stored(name)?;
        assert_eq!((weights.epochs, weights.arch.as_deref()), (Some(3), Some("resnet18")));
        let found = weights.architecture().ok_or("no architecture")?;
        assert_eq!((found.arch, found.base_width, found.stem), (Arch::Resnet18, base_width as usize, 3));
        assert_filled(&weights.tensors, "")?;
        let optimizer = weights.optimizer.as_ref().ok_or("no optimiser")?;
        assert_filled(&optimizer.momentum, "momentum/")?;
        let settings = Settings { lr: 0.05, fixed_lr: Some(0.05), momentum: 0.9, weight_decay: 1e-4 };
        assert_eq!(optimizer.settings, Some(settings));

        let model = network(&small(base_width))?;
        let sgd = Sgd::simsiam(model.params(), 0.9, 1e-4)?;
        let names: BTreeSet<_> = model.params().entries().iter().map(|e| e.name.clone()).collect();
        assert_eq!(weights.tensors.keys().cloned().collect::<BTreeSet<_>>(), names);
        let heads = weights.fill_network(model.params())?;
        assert!(heads.projector && heads.predictor && weights.fill_momentum(sgd.buffers())?);
        assert_filled(&weights_of(model.params())?.tensors, "")?;
        for (name, buffer) in sgd.buffers() {
            let expected = formula::affine(&format!("momentum/{name}"), &buffer.size(), 0.0, 0.1)?;
            assert!(buffer.f_equal(&expected)?, "{name}");
        }
    }
    Ok(())
}

/// MoCo's query encoder and a linear classifier have a backbone and nothing else of SimSiam's: the heads stay as the seed
/// made them.
#[test]
fn backbones_of_moco_and_linear_checkpoints_are_read() -> Result<()> {
    for (name, epochs) in [("moco.pth.tar", 200), ("linear.pth.tar", 90)] {
        let weights = stored(name)?;
        assert_eq!(weights.epochs, Some(epochs));
        assert!(weights.optimizer.is_none() && weights.tensors.keys().all(|name| name.starts_with("encoder.")));
        assert_filled(&weights.tensors, "")?;
        let (model, fresh) = (network(&small(2))?, network(&small(2))?);
        let heads = weights.fill_network(model.params())?;
        assert!(!heads.projector && !heads.predictor, "{name}");
        for (ours, fresh) in model.params().entries().iter().zip(fresh.params().entries()) {
            let of_head = ours.name.starts_with("encoder.fc.") || ours.name.starts_with("predictor.");
            assert_eq!(ours.tensor.f_equal(&fresh.tensor)?, of_head, "{}", ours.name);
        }
    }
    Ok(())
}

/// PyTorch's feature maps of `legacy.pth.tar`'s backbone, from that file and from each format that we make of it.
#[test]
fn feature_maps_equal_pytorchs() -> Result<()> {
    let maps = simsiam_pth::read(&std::fs::read(fixture::path("checkpoints/feature-maps.pth"))?)?;
    let stored_map = |name: &str| tensor(maps.get(name).and_then(Value::as_tensor).ok_or("no such map")?);
    let weights = stored("legacy.pth.tar")?;
    for format in FORMATS {
        let again = Weights::from_bytes(&weights.file(format)?.bytes, "again")?;
        assert_eq!(again.backbone(), weights.backbone(), "{format:?}");
        let model = network(&small(2))?;
        again.fill_simsiam_backbone(model.params())?;
        let found = model.feature_maps(&stored_map("input")?, Pass::EVAL)?;
        assert_eq!(found.len(), 4);
        for (i, found) in found.iter().enumerate() {
            let expected = stored_map(&format!("layer{}", i + 1))?;
            assert_eq!(found.size(), expected.size());
            assert!(distance(found, &expected)? < 1e-5, "layer{}", i + 1);
        }
    }
    Ok(())
}

#[test]
fn checkpoint_survives_a_round_trip_through_pth() -> Result<()> {
    let weights = stored("reference.pth.tar")?;
    let file = weights.file(ExportFormat::Pth)?;
    assert_eq!(file.name, "checkpoint_0002.pth.tar", "the third epoch's file");
    let again = Weights::from_bytes(&file.bytes, "again")?;
    assert_eq!((again.epochs, &again.arch), (weights.epochs, &weights.arch));
    assert!(again.tensors == weights.tensors && again.optimizer == weights.optimizer);
    Ok(())
}

/// The order that PyTorch numbers parameters in, whichever order the file has.
#[test]
fn tensor_names_sort_as_pytorch_registers_them() -> Result<()> {
    for arch in Arch::ALL {
        let pretrain = Pretrain { arch, dim: 16, pred_dim: 8, ..Pretrain::default() };
        if matches!(arch, Arch::Resnet18 | Arch::Resnet50 | Arch::Resnext50_32x4d) {
            let model = network(&pretrain)?;
            let registered: Vec<_> = model.params().entries().iter().map(|e| e.name.clone()).collect();
            let mut sorted = registered.clone();
            sorted.sort_by_cached_key(|name| names::order(name));
            assert_eq!(sorted, registered, "{arch}");
            assert_eq!(weights_of(model.params())?.architecture().map(|found| found.arch), Some(arch));
        }
    }
    let listing: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture::path("architectures.json"))?)?;
    for (arch, network) in listing["architectures"].as_object().ok_or("architectures")? {
        let entries = network["entries"].as_array().ok_or("entries")?;
        let listed: Vec<_> = entries.iter().filter_map(|entry| entry[0].as_str()).collect();
        let mut sorted = listed.clone();
        sorted.reverse();
        sorted.sort_by_cached_key(|name| names::order(name));
        assert_eq!(sorted, listed, "{arch}");
    }
    Ok(())
}

/// Every name that Detectron2's ResNet-50 has, built from its own structure: a stem, `res2` to `res5` of 3, 4, 6 and 3
/// bottlenecks of three convolutions each with its norm, and a shortcut in the first of each.
#[test]
fn detectron2_names_of_resnet50() -> Result<()> {
    let model = network(&Pretrain { dim: 16, pred_dim: 8, ..Pretrain::default() })?;
    let file = simsiam_pth::read(&weights_of(model.params())?.file(ExportFormat::Detectron2)?.bytes)?;
    assert!(file.get("__author__").is_some() && file.get("matching_heuristics") == Some(&true.into()));
    let mut expected: BTreeMap<String, (String, Vec<usize>)> = BTreeMap::new();
    let mut conv = |ours: &str, norm: &str, theirs: &str, shape: [usize; 4]| {
        expected.insert(format!("{theirs}.weight"), (format!("encoder.{ours}.weight"), shape.to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            expected.insert(format!("{theirs}.norm.{part}"), (format!("encoder.{norm}.{part}"), vec![shape[0]]));
        }
        let counter = "num_batches_tracked";
        expected.insert(format!("{theirs}.norm.{counter}"), (format!("encoder.{norm}.{counter}"), vec![]));
    };
    conv("conv1", "bn1", "stem.conv1", [64, 3, 7, 7]);
    let mut input = 64;
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..blocks {
            let (ours, theirs) = (format!("layer{}.{block}", stage + 1), format!("res{}.{block}", stage + 2));
            if block == 0 {
                let shortcut = format!("{theirs}.shortcut");
                conv(
                    &format!("{ours}.downsample.0"),
                    &format!("{ours}.downsample.1"),
                    &shortcut,
                    [4 * width, input, 1, 1],
                );
            }
            for (i, shape) in
                [[width, input, 1, 1], [width, width, 3, 3], [4 * width, width, 1, 1]].into_iter().enumerate()
            {
                let i = i + 1;
                conv(&format!("{ours}.conv{i}"), &format!("{ours}.bn{i}"), &format!("{theirs}.conv{i}"), shape);
            }
            input = 4 * width;
        }
    }
    let found = file.get("model").and_then(Value::entries).ok_or("no model")?;
    let found: BTreeMap<_, _> =
        found.iter().filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_tensor()?))).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (theirs, (ours, shape)) in &expected {
        assert_eq!(&found[theirs].shape, shape, "{theirs}");
        let value = model.params().get(ours).ok_or_else(|| ours.clone())?;
        assert!(tensor(found[theirs])?.f_equal(value)?, "{theirs} is not {ours}");
    }
    Ok(())
}

#[track_caller]
fn refused(weights: &Weights, pretrain: &Pretrain, expected: &[&str]) -> Result<()> {
    let error = weights.fill_network(network(pretrain)?.params()).err().ok_or("accepted")?;
    assert_eq!(error.exit_code().code(), 65);
    for expected in expected {
        assert!(error.to_string().contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() -> Result<()> {
    let weights = stored("reference.pth.tar")?;
    let holds = "the file holds a resnet18 of baseWidth 4 with the cifar stem";
    refused(&weights, &small(8), &[holds, "reference.pth.tar", "is F32 [4, 3, 3, 3], expected Float [8, 3, 3, 3]"])?;
    refused(
        &weights,
        &Pretrain { dim: 32, ..small(4) },
        &["encoder.fc.3.weight is F32 [16, 32], expected Float [32, 32]"],
    )?;
    refused(&weights, &Pretrain { pred_dim: 9, ..small(4) }, &["predictor.0.weight is F32 [8, 16]"])?;
    refused(&weights, &Pretrain { arch: Arch::Resnet34, ..small(4) }, &["lacks encoder.layer1.2.conv1.weight", holds])?;
    let deeper = weights_of(network(&Pretrain { arch: Arch::Resnet34, ..small(4) })?.params())?;
    refused(
        &deeper,
        &small(4),
        &["has encoder.layer1.2.conv1.weight, which the network does not have", "holds a resnet34"],
    )?;
    for (bytes, expected) in [
        (&b"not a checkpoint at all"[..], "unrecognised format"),
        (&b"\x80\x02}."[..], "it has no tensors"),
        (&b"\x80\x02cos\nsystem\n."[..], "os.system"),
        (&b"PK\x03\x04"[..], "archive"),
    ] {
        let error = Weights::from_bytes(bytes, "x.pth").err().ok_or("accepted")?;
        assert!(error.to_string().contains(expected) && error.exit_code().code() == 65, "{error}");
    }
    let strange = simsiam_pth::write(&Value::Dict(vec![("layers.0.weight".into(), host(&Tensor::from(1f32))?)]))?;
    let error = Weights::from_bytes(&strange, "x.pth").err().ok_or("accepted")?;
    assert!(error.to_string().contains("layers.0.weight"), "{error}");
    Ok(())
}

/// The recipe for images of `channels`.
fn of_channels(pretrain: Pretrain, channels: usize) -> Pretrain {
    let augment = Augment { mean: vec![0.5; channels], std: vec![0.25; channels], ..pretrain.augment };
    Pretrain { augment, ..pretrain }
}

/// timm's rule: the sum over R, G and B for one channel, R, G, B, R, … times 3 / C for more. All else is as in the file.
#[test]
fn first_convolution_for_rgb_is_adapted_to_other_channels() -> Result<()> {
    let weights = stored("reference.pth.tar")?;
    let rgb = tensor(&weights.tensors["encoder.conv1.weight"])?;
    for channels in [1, 2, 5] {
        let model = network(&of_channels(small(4), channels))?;
        let sgd = Sgd::simsiam(model.params(), 0.9, 1e-4)?;
        let heads = weights.fill_network(model.params())?;
        assert!(heads.projector && heads.predictor && heads.adapted);
        assert!(!weights.fill_momentum(sgd.buffers())?, "the momentum is not that of these weights");
        let conv = model.params().get("encoder.conv1.weight").ok_or("no conv1")?;
        assert_eq!(conv.size(), [4, channels as i64, 3, 3]);
        for channel in 0..channels as i64 {
            let part = |i: i64| rgb.narrow(1, i, 1);
            let expected = match channels {
                1 => part(0) + part(1) + part(2),
                _ => part(channel % 3) * (3.0 / channels as f64),
            };
            assert!(distance(&conv.narrow(1, channel, 1), &expected)? < 1e-6, "channel {channel} of {channels}");
        }
        let mut others = weights_of(model.params())?.tensors;
        others.remove("encoder.conv1.weight");
        assert_filled(&others, "")?;
    }
    // A grayscale image gives what its RGB copy gave.
    let (gray, colours) = (network(&of_channels(small(4), 1))?, network(&small(4))?);
    let heads = weights.fill_network(colours.params())?;
    assert!(!heads.adapted);
    weights.fill_simsiam_backbone(gray.params())?;
    let image = formula::affine("gray", &[3, 1, 16, 16], 0.0, 2.0)?;
    let copy = image.expand([3, 3, 16, 16], false);
    let features = tch::no_grad(|| {
        Ok::<_, simsiam::Error>([gray.features(&image, Pass::EVAL)?, colours.features(&copy, Pass::EVAL)?])
    })?;
    assert!(distance(&features[0], &features[1])? < 1e-5);
    Ok(())
}

/// Weights for any channels load into a network for as many, to the bit, from every format; and into no other.
#[test]
fn weights_for_other_channels_fit_only_as_many() -> Result<()> {
    let five = of_channels(small(4), 5);
    let model = network(&Pretrain { seed: 3, ..five.clone() })?;
    let weights = weights_of(model.params())?;
    assert_eq!(weights.architecture().ok_or("unknown")?.channels, 5);
    for format in FORMATS {
        let again = Weights::from_bytes(&weights.file(format)?.bytes, "again")?;
        let other = network(&five)?;
        again.fill_simsiam_backbone(other.params())?;
        assert_eq!(weights_of(other.params())?.backbone(), weights.backbone(), "{format:?}");
    }
    let holds = "holds a resnet18 of baseWidth 4 with the cifar stem for images of 5 channels";
    for channels in [1, 3, 4] {
        refused(
            &weights,
            &of_channels(small(4), channels),
            &[holds, &format!("expected Float [4, {channels}, 3, 3]"), "and spec.dataset.channels"],
        )?;
    }
    Ok(())
}

/// Half precision is widened, counters may be missing.
#[test]
fn weights_of_other_precision_or_without_counters_are_accepted() -> Result<()> {
    let mut weights = stored("linear.pth.tar")?;
    weights.tensors.retain(|name, _| !names::is_counter(name));
    for host in weights.tensors.values_mut() {
        let half = tensor(host)?.f_to_kind(Kind::Half)?;
        (host.dtype, host.data) = (Dtype::F16, tch_ext::tensor_bytes(&half)?);
    }
    let model = network(&small(2))?;
    weights.fill_simsiam_backbone(model.params())?;
    let conv = model.params().get("encoder.conv1.weight").ok_or("no conv1")?;
    let expected = formula::fill("encoder.conv1.weight", &conv.size())?.ok_or("counter")?;
    assert!(distance(conv, &expected)? < 1e-3 && conv.kind() == Kind::Float);
    Ok(())
}

/// PyTorch loads our checkpoint, network and optimiser, and its next step is ours.
#[test]
fn exported_checkpoint_resumes_in_pytorch() -> Result<()> {
    let Some(python) = python::with_torch() else { return Ok(()) };
    for fixed in [true, false] {
        let (pretrain, rates) = (small(4), Rates { encoder: 0.03, predictor: if fixed { 0.05 } else { 0.03 } });
        let model = network(&pretrain)?;
        // Away from the zeros that training starts with, which hide gradients.
        for entry in model.params().entries() {
            if let Some(value) = formula::fill(&entry.name, &entry.tensor.size())? {
                tch::no_grad(|| entry.tensor.shallow_clone().f_copy_(&value))?;
            }
        }
        let mut sgd = Sgd::simsiam(model.params(), pretrain.momentum, pretrain.weight_decay)?;
        let view = |name: &str| formula::affine(name, &[8, 3, 16, 16], 0.0, 2.0);
        let train = |sgd: &mut Sgd, n: usize| -> Result<(Tensor, Tensor, f64)> {
            let (one, two) = (view(&format!("one {n}"))?, view(&format!("two {n}"))?);
            let outputs = model.forward([&one, &two], Pass::train(None))?;
            sgd.zero_grad()?;
            tch_ext::backward(&outputs.loss)?;
            sgd.step(&rates.groups())?;
            Ok((one, two, outputs.loss.f_double_value(&[])?))
        };
        let _ = train(&mut sgd, 0)?;
        let mut weights = weights_of(model.params())?;
        let momentum: Result<BTreeMap<_, _>> = sgd
            .buffers()
            .map(|(name, buffer)| match host(buffer)? {
                Value::Tensor(buffer) => Ok((name.to_owned(), buffer)),
                _ => Err("no tensor".into()),
            })
            .collect();
        let (momentum_factor, weight_decay) = (pretrain.momentum, pretrain.weight_decay);
        let fixed_lr = fixed.then_some(rates.predictor);
        let settings = Settings { lr: rates.encoder, fixed_lr, momentum: momentum_factor, weight_decay };
        weights.optimizer = Some(OptimizerState { momentum: momentum?, settings: Some(settings) });
        weights.epochs = Some(1);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("checkpoint_0000.pth.tar");
        std::fs::write(&file, weights.file(ExportFormat::Pth)?.bytes)?;

        let (one, two, loss) = train(&mut sgd, 1)?;
        let dict = |tensors: Vec<(&str, &Tensor)>| -> Result<Value> {
            let entries: Result<Vec<_>> = tensors.into_iter().map(|(name, t)| Ok((name.into(), host(t)?))).collect();
            Ok(Value::Dict(entries?))
        };
        let after = model.params().entries().iter().map(|e| (e.name.as_str(), &e.tensor)).collect();
        let expected = Value::Dict(vec![
            ("epoch".into(), 1.into()),
            ("arch".into(), "resnet18".into()),
            ("stem".into(), "cifar".into()),
            ("base_width".into(), 4.into()),
            ("layers".into(), 2.into()),
            ("hidden_dim".into(), 32.into()),
            ("dim".into(), 16.into()),
            ("pred_dim".into(), 8.into()),
            ("fixed".into(), fixed.into()),
            ("view1".into(), host(&one)?),
            ("view2".into(), host(&two)?),
            ("loss".into(), loss.into()),
            ("after".into(), dict(after)?),
            ("momentum".into(), dict(sgd.buffers().collect())?),
        ]);
        let expected_file = folder.path().join("expected.pth");
        std::fs::write(&expected_file, simsiam_pth::write(&expected)?)?;
        python::script(&python, "check_exports.py", &["step".as_ref(), file.as_ref(), expected_file.as_ref()]);
    }
    Ok(())
}

#[test]
fn optimizer_of_another_network_is_ignored() -> Result<()> {
    let group = |params: i64| {
        let params = Value::List((0..params).map(Value::Int).collect());
        Value::Dict(vec![("lr".into(), 0.1.into()), ("params".into(), params)])
    };
    let optimizer =
        |groups| Value::Dict(vec![("state".into(), Value::Dict(vec![])), ("param_groups".into(), Value::List(groups))]);
    assert_eq!(OptimizerState::read(&optimizer(vec![group(3)]), &["a.weight", "b.weight"]), None);
    assert!(OptimizerState::read(&optimizer(vec![group(2)]), &["a.weight", "b.weight"]).is_some());
    Ok(())
}
