//! Files of ours as torchvision, timm, NumPy, ONNX Runtime and the Hugging Face layout's readers take them.
//!
//! `tests/parity/check_exports.py` tries them.

#[path = "support/fixture.rs"]
#[allow(dead_code)] // Its other half is for other tests.
mod fixture;
#[path = "support/formula.rs"]
#[allow(dead_code)]
mod formula;
#[path = "support/python.rs"]
mod python;
#[path = "support/weights.rs"]
#[allow(dead_code)]
mod weights;

use std::collections::BTreeMap;

use simsiam::eval::feature_file::{Row, Table};
use simsiam::model::{Pass, SimSiam};
use simsiam::weights::huggingface::Card;
use simsiam::weights::{Normalization, Weights};
use simsiam_pth::Value;
use simsiam_recipe::{Arch, Augment, ExportFormat, Pretrain, Stem};
use tch::Tensor;
use weights::{host, network, small, stored, weights_of};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

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

/// The augmentation of images of `channels`.
fn augment(channels: i64) -> Augment {
    if channels == 3 {
        return Augment::default();
    }
    let mean = (0..channels).map(|channel| 0.4 + 0.05 * channel as f64).collect();
    Augment { mean, std: vec![0.25; channels as usize], ..Augment::default() }
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
    let more = [
        (Arch::Resnet50, Stem::Imagenet, 64, [3, 3, 64, 64]),
        (Arch::Resnet18, Stem::Cifar, 64, [2, 3, 32, 32]),
        (Arch::Resnet18, Stem::Imagenet, 16, [2, 5, 64, 96]),
        (Arch::Resnet18, Stem::Cifar, 16, [2, 1, 32, 32]),
    ];
    for (i, (arch, stem, base_width, shape)) in narrow.chain(more).enumerate() {
        let pretrain = Pretrain {
            arch,
            stem,
            base_width,
            dim: 16,
            pred_dim: 8,
            augment: augment(shape[1]),
            ..Pretrain::default()
        };
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
    for (mean, std) in [(vec![0.4, 0.5, 0.6], vec![0.1, 0.2, 0.4]), (vec![0.3, 0.4, 0.5, 0.6, 0.7], vec![0.2; 5])] {
        let channels = mean.len() as i64;
        let pretrain = Pretrain { augment: augment(channels), ..small(16) };
        let (mut weights, images, _) = known(&pretrain, &[2, channels, 32, 32])?;
        let refusal =
            |weights: &Weights| weights.file(ExportFormat::OnnxWithNormalization).map(|_| ()).unwrap_err().to_string();
        assert!(refusal(&weights).contains("does not say how images were normalised"), "{}", refusal(&weights));
        weights.normalization = Some(Normalization { mean: vec![0.5; 4], std: vec![0.5; 4] });
        assert!(refusal(&weights).contains("has a mean of 4 channels for a network of"), "{}", refusal(&weights));
        weights.normalization = Some(Normalization { mean: mean.clone(), std: std.clone() });
        let folder = tempfile::tempdir()?;
        for (name, format) in [("bare.onnx", ExportFormat::Onnx), ("whole.onnx", ExportFormat::OnnxWithNormalization)] {
            std::fs::write(folder.path().join(name), weights.file(format)?.bytes)?;
        }
        std::fs::write(folder.path().join("images"), &host(&images)?.as_tensor().ok_or("no tensor")?.data)?;
        let facts = serde_json::json!({"shape": images.size(), "mean": mean, "std": std});
        std::fs::write(folder.path().join("facts.json"), serde_json::to_vec(&facts)?)?;
        python::script(&python, "check_exports.py", &["normalization".as_ref(), folder.path().as_ref()]);
    }
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
    for (arch, channels) in [(Arch::Resnet18, 3), (Arch::Resnet50, 3), (Arch::Resnet18, 1), (Arch::Resnet18, 5)] {
        let pretrain = Pretrain { arch, dim: 16, pred_dim: 8, augment: augment(channels), ..Pretrain::default() };
        let (weights, images, features) = known(&pretrain, &[2, channels, 64, 64])?;
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
    weights.normalization =
        Some(Normalization { mean: pretrain.augment.mean.clone(), std: pretrain.augment.std.clone() });
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
    // One channel: timm must not take the first convolution for one of RGB.
    let gray = Pretrain { augment: augment(1), ..pretrain.clone() };
    huggingface_folder(&gray, &known(&gray, &[1, 1, 32, 32])?.0, folder.path())?;
    let config: serde_json::Value = serde_json::from_slice(&read("config.json")?)?;
    let cfg = &config["pretrained_cfg"];
    let found = (&config["model_args"]["in_chans"], &cfg["input_size"][0], &cfg["mean"], &cfg["first_conv"]);
    assert_eq!(serde_json::json!(found), serde_json::json!([1, 1, [0.4], null]));
    let card = String::from_utf8(read("README.md")?)?;
    assert!(card.contains("resnet18 backbone for images of 1 channel ") && card.contains("convert(\"L\")"), "{card}");
    let error = huggingface_folder(&gray, &weights, folder.path()).unwrap_err().to_string();
    assert!(error.contains("has 3 channels, spec.dataset.channels is 1"), "{error}");
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
    weights.normalization =
        Some(Normalization { mean: pretrain.augment.mean.clone(), std: pretrain.augment.std.clone() });
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
    weights.normalization = Some(Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] });
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
