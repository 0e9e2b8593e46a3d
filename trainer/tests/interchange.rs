//! Other programs' weights: files of PyTorch read, files of ours as PyTorch, torchvision and NumPy read them.
//!
//! `tests/parity/make_checkpoints.py` made the files that are read, `tests/parity/check_exports.py` tries ours.

#[path = "support/fixture.rs"]
#[allow(dead_code)] // Its other half is for other tests.
mod fixture;
#[path = "support/formula.rs"]
mod formula;
#[path = "support/python.rs"]
mod python;

use std::collections::{BTreeMap, BTreeSet};

use fixture::distance;
use simsiam::checkpoint::snapshot;
use simsiam::eval::feature_file::{Row, Table};
use simsiam::model::{Params, Pass, SimSiam};
use simsiam::training::schedule::Rates;
use simsiam::training::sgd::Sgd;
use simsiam::weights::huggingface::Card;
use simsiam::weights::optimizer::Settings;
use simsiam::weights::{Normalization, OptimizerState, Weights, names};
use simsiam_pth::{Dtype, Tensor as HostTensor, Value};
use simsiam_recipe::{Arch, ExportFormat, Pretrain, Projector, Stem};
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FORMATS: [ExportFormat; 5] = [
    ExportFormat::Safetensors,
    ExportFormat::Torchvision,
    ExportFormat::Timm,
    ExportFormat::Detectron2,
    ExportFormat::Pth,
];

/// A file of `tests/parity/checkpoints`.
fn stored(name: &str) -> Result<Weights> {
    Ok(Weights::from_bytes(&std::fs::read(fixture::path("checkpoints").join(name))?, name)?)
}

/// The network of those files.
fn small(base_width: u32) -> Pretrain {
    Pretrain {
        arch: Arch::Resnet18,
        stem: Stem::Cifar,
        base_width,
        projector: Projector { layers: 2, hidden_dim: Some(32) },
        dim: 16,
        pred_dim: 8,
        ..Pretrain::default()
    }
}

fn network(pretrain: &Pretrain) -> Result<SimSiam> {
    Ok(SimSiam::new(pretrain, Kind::Float, Device::Cpu)?)
}

/// A network's tensors as a checkpoint has them.
fn weights_of(params: &Params) -> Result<Weights> {
    Ok(Weights::from_bytes(&snapshot::model_file(params)?, "ours")?)
}

fn tensor(host: &HostTensor) -> Result<Tensor> {
    let shape: Vec<i64> = host.shape.iter().map(|&n| n as i64).collect();
    let kind = if host.dtype == Dtype::I64 { Kind::Int64 } else { Kind::Float };
    Ok(tch_ext::tensor_from_bytes(&host.data, kind, &shape)?)
}

fn host(tensor: &Tensor) -> Result<Value> {
    let dtype = if tensor.kind() == Kind::Int64 { Dtype::I64 } else { Dtype::F32 };
    let shape = tensor.size().iter().map(|&n| n as usize).collect();
    Ok(Value::Tensor(HostTensor { dtype, shape, data: tch_ext::tensor_bytes(tensor)? }))
}

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

/// A network of known weights.
fn filled(pretrain: &Pretrain) -> Result<SimSiam> {
    let model = network(pretrain)?;
    for entry in model.params().entries() {
        if let Some(value) = formula::fill(&entry.name, &entry.tensor.size())? {
            tch::no_grad(|| entry.tensor.shallow_clone().f_copy_(&value))?;
        }
    }
    Ok(model)
}

/// A backbone of known weights, written in some formats, and what we make of an input; paths in this order.
fn exported(arch: Arch, formats: &[ExportFormat], folder: &std::path::Path) -> Result<Vec<std::ffi::OsString>> {
    let model = filled(&Pretrain { arch, dim: 16, pred_dim: 8, ..Pretrain::default() })?;
    let weights = weights_of(model.params())?;
    let mut paths = Vec::new();
    for &format in formats {
        let file = weights.file(format)?;
        let path = folder.join(file.name);
        std::fs::write(&path, file.bytes)?;
        paths.push(path.into_os_string());
    }
    let input = formula::affine("input", &[2, 3, 64, 64], 0.0, 2.0)?;
    let mut maps = vec![("arch".into(), arch.name().into()), ("input".into(), host(&input)?)];
    for (i, map) in tch::no_grad(|| model.feature_maps(&input, Pass::EVAL))?.iter().enumerate() {
        maps.push((Value::Str(format!("layer{}", i + 1)), host(map)?));
    }
    let path = folder.join("maps.pth");
    std::fs::write(&path, simsiam_pth::write(&Value::Dict(maps))?)?;
    paths.push(path.into_os_string());
    Ok(paths)
}

/// A check of `check_exports.py` on ResNet-18 and ResNet-50.
fn check(python: &std::path::Path, what: &str, formats: &[ExportFormat]) -> Result<()> {
    for arch in [Arch::Resnet18, Arch::Resnet50] {
        let folder = tempfile::tempdir()?;
        let paths = exported(arch, formats, folder.path())?;
        let arguments = std::iter::once(what.as_ref()).chain(paths.iter().map(std::ffi::OsString::as_os_str));
        python::script(python, "check_exports.py", &arguments.collect::<Vec<_>>());
    }
    Ok(())
}

/// torchvision's ResNet-18 and ResNet-50 take our backbone, and their feature maps are ours.
#[test]
fn exported_backbone_loads_in_torchvision() -> Result<()> {
    let Some(python) = python::with_torch() else { return Ok(()) };
    check(&python, "backbone", &[ExportFormat::Torchvision, ExportFormat::Timm, ExportFormat::Detectron2])
}

/// timm's ResNet-18 and ResNet-50 load our file strictly, and their last feature map is ours.
#[test]
fn exported_backbone_loads_in_timm() -> Result<()> {
    let Some(python) = python::with_timm() else { return Ok(()) };
    check(&python, "timm", &[ExportFormat::Timm])
}

/// A network of known weights, with what it makes of images `shape`.
fn known(pretrain: &Pretrain, shape: &[i64]) -> Result<(Weights, Tensor, Tensor)> {
    let model = filled(pretrain)?;
    let images = formula::affine("images", shape, 0.5, 0.5)?;
    let features = tch::no_grad(|| model.features(&images, Pass::EVAL))?;
    Ok((weights_of(model.params())?, images, features))
}

/// ONNX Runtime computes our features from the graph of every architecture, for images of any size and number.
#[test]
fn onnx_of_every_architecture_gives_the_same_features() -> Result<()> {
    let Some(python) = python::with_onnxruntime() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut cases = Vec::new();
    // The published width for one, a quarter of it for the others.
    let narrow = Arch::ALL.into_iter().map(|arch| (arch, Stem::Imagenet, 16, [2, 3, 64, 96]));
    let more =
        [(Arch::Resnet50, Stem::Imagenet, 64, [3, 3, 64, 64]), (Arch::Resnet18, Stem::Cifar, 64, [2, 3, 32, 32])];
    for (i, (arch, stem, base_width, shape)) in narrow.chain(more).enumerate() {
        let pretrain = Pretrain { arch, stem, base_width, dim: 16, pred_dim: 8, ..Pretrain::default() };
        let (weights, images, features) = known(&pretrain, &shape)?;
        let name = |what: &str| folder.path().join(format!("{i}.{what}"));
        std::fs::write(name("onnx"), weights.file(ExportFormat::Onnx)?.bytes)?;
        std::fs::write(name("images"), &host(&images)?.as_tensor().ok_or("no tensor")?.data)?;
        std::fs::write(name("features"), &host(&features)?.as_tensor().ok_or("no tensor")?.data)?;
        let architecture = weights.architecture().ok_or("unknown")?.to_string();
        cases.push(serde_json::json!({"name": i.to_string(), "architecture": architecture, "shape": shape, "width": features.size()[1]}));
    }
    std::fs::write(folder.path().join("cases.json"), serde_json::to_vec(&cases)?)?;
    python::script(&python, "check_exports.py", &["onnx".as_ref(), folder.path().as_ref()]);
    Ok(())
}

/// The graph with the normalisation inside computes from images what the other one computes from normalised images.
#[test]
fn onnx_with_normalization_takes_images_as_they_are() -> Result<()> {
    let Some(python) = python::with_onnxruntime() else { return Ok(()) };
    let (mean, std) = ([0.4, 0.5, 0.6], [0.1, 0.2, 0.4]);
    let (mut weights, images, _) = known(&small(16), &[2, 3, 32, 32])?;
    let refused = weights.file(ExportFormat::OnnxWithNormalization).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("does not say how images were normalised"), "{refused}");
    weights.normalization = Some(Normalization { mean, std });
    let folder = tempfile::tempdir()?;
    for (name, format) in [("bare.onnx", ExportFormat::Onnx), ("whole.onnx", ExportFormat::OnnxWithNormalization)] {
        std::fs::write(folder.path().join(name), weights.file(format)?.bytes)?;
    }
    std::fs::write(folder.path().join("images"), &host(&images)?.as_tensor().ok_or("no tensor")?.data)?;
    let facts = serde_json::json!({"shape": images.size(), "mean": mean, "std": std});
    std::fs::write(folder.path().join("facts.json"), serde_json::to_vec(&facts)?)?;
    python::script(&python, "check_exports.py", &["normalization".as_ref(), folder.path().as_ref()]);
    Ok(())
}

/// A Hugging Face folder of a network, with a card.
fn huggingface_folder(pretrain: &Pretrain, weights: &Weights, folder: &std::path::Path) -> Result<Vec<String>> {
    let card = Card {
        run: "birds",
        pretrain,
        samples: 12_345,
        figures: vec![["kNN top-1".into(), "86.3 %".into(), "k=200 | T=0.1".into()]],
        curves: vec![("Loss".into(), "<svg xmlns=\"http://www.w3.org/2000/svg\"/>".into())],
    };
    let files = weights.huggingface(&card)?;
    for file in &files {
        let path = folder.join(&file.name);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, &file.bytes)?;
    }
    Ok(files.into_iter().map(|file| file.name).collect())
}

/// timm makes the network from the folder, with the preprocessing of our evaluation; the card's code runs.
#[test]
fn huggingface_folder_loads_in_timm() -> Result<()> {
    let Some(python) = python::with_timm() else { return Ok(()) };
    for arch in [Arch::Resnet18, Arch::Resnet50] {
        let pretrain = Pretrain { arch, dim: 16, pred_dim: 8, ..Pretrain::default() };
        let (weights, images, features) = known(&pretrain, &[2, 3, 64, 64])?;
        let folder = tempfile::tempdir()?;
        huggingface_folder(&pretrain, &weights, folder.path())?;
        let maps = vec![("images".into(), host(&images)?), ("features".into(), host(&features)?)];
        let maps_file = folder.path().join("maps.pth");
        std::fs::write(&maps_file, simsiam_pth::write(&Value::Dict(maps))?)?;
        let made = folder.path().join("huggingface");
        python::script(&python, "check_exports.py", &["huggingface".as_ref(), made.as_ref(), maps_file.as_ref()]);
    }
    Ok(())
}

#[test]
fn huggingface_folder_says_how_to_use_the_weights() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pretrain = Pretrain { arch: Arch::Resnet18, dim: 16, pred_dim: 8, ..Pretrain::default() };
    let (mut weights, ..) = known(&pretrain, &[2, 3, 32, 32])?;
    weights.normalization = Some(Normalization { mean: pretrain.augment.mean, std: pretrain.augment.std });
    let names = huggingface_folder(&pretrain, &weights, folder.path())?;
    let names: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("huggingface/")).collect();
    assert_eq!(names, ["model.safetensors", "config.json", "README.md", "loss.svg"]);
    let read = |name: &str| std::fs::read(folder.path().join("huggingface").join(name));
    let config: serde_json::Value = serde_json::from_slice(&read("config.json")?)?;
    let cfg = &config["pretrained_cfg"];
    let found =
        (&config["architecture"], &cfg["crop_pct"], &cfg["interpolation"], &cfg["mean"][0], &cfg["input_size"][2]);
    assert_eq!(serde_json::json!(found), serde_json::json!(["resnet18", 0.875, "bilinear", 0.485, 224]));
    let card = String::from_utf8(read("README.md")?)?;
    for part in ["# birds", "12345", "| kNN top-1 | 86.3 % | k=200 \\| T=0.1 |", "![Loss](loss.svg)", "[1, 512]"] {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    let refused = huggingface_folder(&small(64), &known(&small(64), &[1, 3, 32, 32])?.0, folder.path()).unwrap_err();
    assert!(refused.to_string().contains("resnet18 with the cifar stem, which timm does not have"), "{refused}");
    Ok(())
}

/// The code of the page on using the weights runs on exports of a ResNet-50: what needs PyTorch, where there is one.
#[test]
fn documented_code_for_the_weights_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pretrain = Pretrain { arch: Arch::Resnet50, dim: 16, pred_dim: 8, ..Pretrain::default() };
    let mut weights = weights_of(filled(&pretrain)?.params())?;
    weights.normalization = Some(Normalization { mean: pretrain.augment.mean, std: pretrain.augment.std });
    huggingface_folder(&pretrain, &weights, folder.path())?;
    for format in [ExportFormat::Torchvision, ExportFormat::Timm, ExportFormat::OnnxWithNormalization] {
        let file = weights.file(format)?;
        std::fs::write(folder.path().join(file.name), file.bytes)?;
    }
    let mut table = Table::create(&folder.path().join("features.parquet"), &[])?;
    let rows = [("a.jpg", [1.0, 0.0]), ("b.jpg", [0.8, 0.6]), ("c.jpg", [0.0, 1.0])];
    table.append(&rows.each_ref().map(|(path, vector)| Row { path, label: None, vector }))?;
    table.finish()?;
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/use-the-weights.md");
    for (python, blocks) in [(python::with_onnxruntime(), "2"), (python::with_timm(), "4")] {
        if let Some(python) = python {
            let arguments = ["documented".as_ref(), folder.path().as_os_str(), page.as_os_str(), blocks.as_ref()];
            python::script(&python, "check_exports.py", &arguments);
        }
    }
    Ok(())
}

/// The metadata of a safetensors file is of use, and equal weights give equal files.
#[test]
fn safetensors_file_has_facts_in_a_fixed_order() -> Result<()> {
    let mut weights = stored("reference.pth.tar")?;
    weights.normalization = Some(Normalization { mean: [0.5; 3], std: [0.25; 3] });
    let first = weights.file(ExportFormat::Safetensors)?.bytes;
    for _ in 0..20 {
        assert!(weights.file(ExportFormat::Safetensors)?.bytes == first, "the bytes differ from one file to the next");
    }
    let (_, header) = safetensors::SafeTensors::read_metadata(&first)?;
    let facts: BTreeMap<_, _> = header.metadata().clone().ok_or("no metadata")?.into_iter().collect();
    let found: Vec<_> = facts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let producer = concat!("simsiam ", env!("CARGO_PKG_VERSION"));
    let architecture = weights.architecture().ok_or("unknown")?.to_string();
    let (architecture, channels) = (architecture.as_str(), "[0.25,0.25,0.25]");
    assert_eq!(
        found,
        [
            ("architecture", architecture),
            ("epochs", "3"),
            ("format", "pt"),
            ("mean", "[0.5,0.5,0.5]"),
            ("producer", producer),
            ("std", channels)
        ]
    );
    Ok(())
}

#[test]
fn numpy_1_and_2_open_the_pickle_for_detectron2() -> Result<()> {
    let file = stored("legacy.pth.tar")?.file(ExportFormat::Detectron2)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(file.name);
    std::fs::write(&path, file.bytes)?;
    for version in ["1.26.4", "2.3.5"] {
        if let Some(python) = python::with_numpy(version) {
            python::script(&python, "check_exports.py", &["arrays".as_ref(), path.as_ref()]);
        }
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
