//! Weights in and out by the command line: `spec.weights`, the export stage, `simsiam export`, `convert`, `knn --weights`.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::{Path, PathBuf};

use serde_json::json;
use simsiam_pth::Value;
use simsiam_tests::{RunFile, root, run, run_ok, synth, tensors, text};

/// A reference's checkpoint of three epochs, of the network that `like_the_checkpoint` describes.
fn reference() -> PathBuf {
    root().join("tests/parity/checkpoints/reference.pth.tar")
}

fn like_the_checkpoint(folder: &Path) -> RunFile {
    let data = synth(folder, 5, 2);
    let mut file = RunFile::new(folder, &data, "val");
    let pretrain =
        json!({"baseWidth": 4, "dim": 16, "predDim": 8, "projector": {"layers": 2, "hiddenDim": 32}, "batchSize": 25});
    for (field, value) in pretrain.as_object().unwrap() {
        file.set(&format!("/pretrain/{field}"), value.clone());
    }
    file.set("/weights", json!(reference())).set("/knn", json!({"protocols": [{"k": 5, "temperature": 0.1}]}));
    file
}

fn execute(file: &RunFile) -> (i32, String, String) {
    run(&["run", "-f", file.write(), "--nproc", "1", "--metrics-addr", "127.0.0.1:0"])
}

fn read(path: &Path) -> Value {
    simsiam_pth::read(&std::fs::read(path).unwrap()).unwrap()
}

/// `simsiam run` with a finished checkpoint trains nothing, evaluates and exports it.
#[test]
fn finished_checkpoint_is_evaluated_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = like_the_checkpoint(folder.path());
    file.set("/pretrain/epochs", 3.into());
    file.set(
        "/export",
        json!(["safetensors", "torchvision", "timm", "detectron2", "pth", "onnx", "onnxWithNormalization"]),
    );
    let (code, out, err) = execute(&file);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(err.contains("momentum loaded, 3 of 3 epochs done"), "{err}");
    let result = file.result();
    assert_eq!((&result["epochs"], &result["steps"]), (&json!(3), &json!(6)), "{result}");
    assert!(result["knn"]["top1"].is_number(), "{result}");
    assert_eq!(file.checkpoints(), ["step-000000006-a1"]);

    // The weights that went in came out.
    let exported = file.output().join("export/checkpoint_0002.pth.tar");
    let (theirs, ours) = (read(&reference()), read(&exported));
    assert_eq!(ours.get("epoch"), Some(&3.into()));
    assert_eq!(ours.get("arch"), Some(&"resnet18".into()));
    assert_eq!(ours.get("state_dict"), theirs.get("state_dict"));
    let state = |value: &Value| value.get("optimizer").and_then(|o| o.get("state")).cloned();
    assert_eq!(state(&ours), state(&theirs));
    let listed = result["exports"].as_array().unwrap();
    assert_eq!(listed.len(), 7);
    for entry in listed {
        let path = file.output().join(entry["file"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(entry["bytes"], bytes.len());
        let sum = std::process::Command::new("sha256sum").arg(&path).output().unwrap().stdout;
        assert!(sum.starts_with(entry["sha256"].as_str().unwrap().as_bytes()), "{entry}");
    }

    // The same weights under each name give the same kNN.
    let knn = |weights: &Path| {
        let out = run_ok(&["knn", "-f", file.write(), "--weights", text(weights)]);
        assert!(out.contains(text(weights)), "{out}");
        out.lines().nth(1).unwrap().to_owned()
    };
    let expected = knn(&reference());
    let checkpoint = file.output().join("checkpoints/step-000000006-a1");
    for weights in ["backbone.safetensors", "backbone.torchvision.pth", "backbone.detectron2.pkl"] {
        assert_eq!(knn(&file.output().join("export").join(weights)), expected, "{weights}");
    }
    assert_eq!(knn(&checkpoint), expected);
    assert_eq!(knn(&checkpoint.join("model.safetensors")), expected);

    // By hand, elsewhere.
    let elsewhere = folder.path().join("elsewhere");
    run_ok(&["export", "-f", file.write(), "--format", "pth", "-o", text(&elsewhere)]);
    assert_eq!(std::fs::read(elsewhere.join("checkpoint_0002.pth.tar")).unwrap(), std::fs::read(&exported).unwrap());
    let (pickle, back) = (folder.path().join("r18.pkl"), folder.path().join("back.safetensors"));
    run_ok(&["convert", text(&checkpoint), text(&pickle), "--format", "detectron2"]);
    run_ok(&["convert", text(&pickle), text(&back), "--format", "safetensors"]);
    let original = file.output().join("export/backbone.safetensors");
    assert!(tensors(&back) == tensors(&original), "a pickle has no metadata, but every tensor");
    let leftovers = std::fs::read_dir(folder.path()).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with("r18.pkl") || name.starts_with("back.")
    });
    assert_eq!(leftovers.count(), 2, "nothing temporary is left");
}

/// The card of a run has its figures and curves, and names no address: it is made to be published.
#[test]
fn huggingface_folder_of_a_run_has_its_figures_and_no_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let data = synth(folder.path(), 10, 5);
    let mut file = RunFile::new(folder.path(), &data, "val");
    file.set("/pretrain/stem", json!("imagenet")).set("/pretrain/baseWidth", json!(64));
    file.set("/pretrain/epochs", json!(1))
        .set("/pretrain/batchSize", json!(50))
        .set("/knn", json!({"protocols": [{"k": 5, "temperature": 0.1}]}));
    file.set("/export", json!(["huggingface"]));
    let (code, out, err) = execute(&file);
    assert_eq!(code, 0, "{out}\n{err}");
    let made = file.output().join("export/huggingface");
    let result = file.result();
    let listed: Vec<_> = result["exports"].as_array().unwrap().iter().map(|e| e["file"].as_str().unwrap()).collect();
    let names = ["model.safetensors", "config.json", "README.md", "loss.svg", "knn-accuracy.svg"];
    assert_eq!(listed, names.map(|name| format!("export/huggingface/{name}")));
    let card = std::fs::read_to_string(made.join("README.md")).unwrap();
    let top1 = format!("| kNN top-1 | {:.1} % | k=5, T=0.1, untrained", result["knn"]["top1"].as_f64().unwrap());
    for part in [&top1[..], "| Epochs | 1 |", "| images | ", "![Loss](loss.svg)", "![kNN accuracy](knn-accuracy.svg)"] {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    for name in names {
        let bytes = std::fs::read(made.join(name)).unwrap();
        let address = text(folder.path()).as_bytes();
        assert!(!bytes.windows(address.len()).any(|window| window == address), "{name} names the run's folder");
    }
    let curve = std::fs::read_to_string(made.join("loss.svg")).unwrap();
    assert!(curve.starts_with("<svg xmlns=") && curve.contains("<polyline"), "{curve}");
    let elsewhere = folder.path().join("elsewhere");
    let (code, _, err) =
        run(&["convert", text(&made.join("model.safetensors")), text(&elsewhere), "--format", "huggingface"]);
    assert!(code == 64 && err.contains("possible values") && !elsewhere.exists(), "{code} {err}");
}

/// A classifier on other weights, and their features, are those of the checkpoint that they came from; the run's own
/// results stay.
#[test]
fn other_weights_are_evaluated_like_the_runs_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = like_the_checkpoint(folder.path());
    file.set("/pretrain/epochs", 3.into()).set("/export", json!(["safetensors", "torchvision"]));
    let (code, _, err) = execute(&file);
    assert_eq!(code, 0, "{err}");
    file.set("/linear", json!({"epochs": 2, "batchSize": 20, "lr": 5, "optimizer": "sgd"}));
    file.set("/finetune", json!({"epochs": 1, "batchSize": 20, "lr": 0.1}));
    let export = file.output().join("export");
    let best = |file: &RunFile, stage: &str| std::fs::read(file.output().join(stage).join("model_best.safetensors"));

    // The same recipe with an output without checkpoints, so the result is that of --weights.
    let mut other = file.clone();
    other.set("/output/uri", json!(folder.path().join("other")));
    for (stage, row) in [("linear", "linear top-1"), ("finetune", "fine-tuned top-1")] {
        let figures = |file: &RunFile, weights: &[&str]| {
            let arguments = [stage, "-f", file.write(), "--nproc", "2", "--metrics-addr", "127.0.0.1:0"];
            let out = run_ok(&[&arguments[..], weights].concat());
            let line = out.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("{row}: {out}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let expected = figures(&file, &[]);
        let before = (file.result(), best(&file, stage).unwrap());
        for name in ["backbone.safetensors", "backbone.torchvision.pth"] {
            let weights = export.join(name);
            assert_eq!(figures(&other, &["--weights", text(&weights)]), expected, "{name}");
        }
        // One digest of the weights, however they came: the second call found the first one's end.
        let folders: Vec<_> =
            std::fs::read_dir(other.output().join(stage)).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        assert!(
            std::fs::read(folders[0].join("model_best.safetensors")).unwrap() == before.1,
            "{stage}: another network"
        );
        assert!(!other.output().join("result.json").exists() && !other.output().join("logs").exists());
        figures(&file, &["--weights", text(&reference())]);
        assert!((file.result(), best(&file, stage).unwrap()) == before, "{stage}: the run's own results changed");
    }

    let embed = |file: &RunFile, name: &str, rest: &[&str]| {
        let path = folder.path().join(name);
        let arguments = ["embed", "-f", file.write(), "-o", text(&path), "--threads", "1"];
        let (code, _, err) = run(&[&arguments[..], rest].concat());
        // The metadata, which names the weights, is at the end, after the columns.
        (code, err, std::fs::read(path).unwrap_or_default())
    };
    let backbone = export.join("backbone.safetensors");
    let (_, err, own) = embed(&file, "own.parquet", &[]);
    let (code, _, theirs) = embed(&other, "theirs.parquet", &["--weights", text(&backbone)]);
    assert_eq!(code, 0, "{err}");
    // 20 vectors of 32 floats and what else a column has, before the metadata that names the weights.
    let same = own.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    assert!(same > 20 * 32 * 4, "the first {same} bytes of {} are the same", own.len());
    let projections = ["--layer", "projector", "--weights", text(&backbone)];
    let (code, err, _) = embed(&other, "none.parquet", &projections);
    assert!(code == 65 && err.contains("has no projector"), "{code} {err}");
}

/// Training continues at the file's epoch; afterwards the run's own checkpoints count.
#[test]
fn training_continues_from_a_reference_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = like_the_checkpoint(folder.path());
    file.set("/pretrain/epochs", 4.into());
    let (code, _, err) = execute(&file);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("momentum loaded, 3 of 4 epochs done"), "{err}");
    assert_eq!((&file.result()["epochs"], &file.result()["steps"]), (&json!(4), &json!(8)));
    assert_eq!(file.checkpoints(), ["step-000000008-a1"], "one epoch of two steps was trained");
    let (code, _, err) = execute(&file);
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("starting from") && err.contains("step-000000008-a1"), "{err}");

    // Other weights are another run.
    file.set("/weights", json!(root().join("tests/parity/checkpoints/legacy.pth.tar")));
    let (code, _, err) = execute(&file);
    assert!(code == 65 && err.contains("spec.weights was"), "{code} {err}");
}

/// Rank 0 reads the weights and the other ranks get them: with two ranks the end is that of one, but for the order of sums.
#[test]
fn two_ranks_start_with_equal_weights() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = like_the_checkpoint(folder.path());
    file.set("/pretrain/epochs", 4.into()).set("/pretrain/batchSize", 24.into());
    let mut trained = Vec::new();
    for ranks in ["1", "2"] {
        file.set("/output/uri", json!(folder.path().join(format!("out-{ranks}"))));
        let (code, _, err) = run(&["run", "-f", file.write(), "--nproc", ranks, "--metrics-addr", "127.0.0.1:0"]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("momentum loaded, 3 of 4 epochs done"), "{err}");
        trained.push(file.weights(file.checkpoints().last().unwrap()));
    }
    let begun = simsiam_pth::read(&std::fs::read(reference()).unwrap()).unwrap();
    let begun = begun.get("state_dict").unwrap();
    let mut moved = 0.0_f64;
    for (name, one) in &trained[0] {
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let apart = far(one, &trained[1][name]);
        assert!(apart < 1e-3, "{name}: one and two ranks differ by {apart}");
        let bytes = &begun.get(name).and_then(Value::as_tensor).unwrap_or_else(|| panic!("{name}")).data;
        let before = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        moved = moved.max(far(one, &before.collect::<Vec<_>>()));
    }
    assert!(moved > 1e-2, "it was trained: {moved}");
}

/// Detectron2 is not here: its file must at least be Python, and each configuration must find the one below it.
#[test]
fn detectron2_files_are_consistent() {
    let folder = root().join("transfer/detection");
    let program = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')";
    let python = std::process::Command::new("python3").args(["-c", program]).arg(folder.join("train_net.py")).output();
    let python = python.unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let source = std::fs::read_to_string(folder.join("train_net.py")).unwrap();
    for name in ["base-c4", "voc0712", "coco-1x", "coco-2x"] {
        let text = std::fs::read_to_string(folder.join(format!("configs/{name}.yaml"))).unwrap();
        for line in text.lines() {
            if let Some(base) = line.strip_prefix("_BASE_: ") {
                assert!(folder.join("configs").join(base).exists(), "{name} is based on {base}");
            }
            if let Some(head) = line.trim().strip_prefix("NAME: ") {
                let class = head.split(' ').next().unwrap();
                assert!(source.contains(&format!("class {class}(")), "{class}");
            }
        }
    }
}

#[test]
fn weights_of_another_shape_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = like_the_checkpoint(folder.path());
    file.set("/pretrain/baseWidth", 8.into());
    let (code, _, err) = execute(&file);
    assert_eq!(code, 65, "{err}");
    for part in ["reference.pth.tar", "encoder.", "expected", "the file holds a resnet18 of baseWidth 4"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    file.set("/weights", json!(folder.path().join("missing.pth")));
    let (code, _, err) = execute(&file);
    assert!(code == 78 && err.contains("spec.weights") && err.contains("missing.pth"), "{code} {err}");
    let (code, _, err) = run(&["convert", file.write(), "out.pth", "--format", "pth"]);
    assert!(code == 65 && err.contains("unrecognised format"), "{code} {err}");
    let (code, _, err) = run(&["export", "-f", file.write()]);
    assert!(code == 78 && err.contains("spec.export"), "{code} {err}");
}

/// A small image as a `.npy` file of `[24, 24, 5]` in single precision: the class decides which band has stripes.
fn five_bands(striped: usize, number: usize) -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (24, 24, 5), }\n";
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    for pixel in 0..24 * 24 {
        for band in 0..5 {
            let (x, y) = (pixel % 24, pixel / 24);
            let stripe = band == striped && ((x + number) / 3).is_multiple_of(2);
            let noise = (number * 31 + pixel * 7 + band * 13 + y * number) % 11;
            let value: f32 = if stripe { 0.9 } else { 0.2 } + 0.01 * noise as f32;
            file.extend(value.to_le_bytes());
        }
    }
    file
}

/// A grayscale PNG of 24 × 24: horizontal or vertical stripes.
fn gray(striped: usize, number: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 24, 24);
    encoder.set_color(png::ColorType::Grayscale);
    let at = |pixel: usize| if striped == 1 { pixel % 24 } else { pixel / 24 };
    let pixels: Vec<u8> =
        (0..24 * 24).map(|p| 40 + 150 * ((at(p) + number) / 4 % 2) as u8 + (p * number % 17) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

/// `train` and `val` of two classes, of files that `image` makes from the number of the class and of the image.
fn two_classes(folder: &Path, ending: &str, image: fn(usize, usize) -> Vec<u8>) -> PathBuf {
    for (part, count) in [("train", 12), ("val", 4)] {
        for class in [1, 4] {
            let folder = folder.join(format!("data/{part}/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                std::fs::write(folder.join(format!("{number:02}.{ending}")), image(class, number)).unwrap();
            }
        }
    }
    folder.join("data")
}

/// A whole run on arrays of five channels, packed: the first convolution has five, and so have the exports.
#[test]
fn run_on_arrays_of_five_channels_is_trained_evaluated_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_classes(folder.path(), "npy", five_bands);
    let mut file = RunFile::new(folder.path(), &data, "val");
    file.set("/dataset/channels", json!(5)).set("/dataset/pack", json!({}));
    file.set("/pretrain/augment", json!({"cropSize": 16, "evalResize": 20}));
    file.set("/pretrain/batchSize", json!(12)).set("/knn", json!({"protocols": [{"k": 5, "temperature": 0.1}]}));
    file.set("/linear", json!({"epochs": 2, "batchSize": 12, "optimizer": "sgd"}));
    file.set("/export", json!(["timm", "detectron2", "onnx", "onnxWithNormalization"]));
    file.set("/report", json!({"views": 2, "queries": 2, "points": 10, "bank": 10}));
    let (code, out, err) = execute(&file);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(err.contains("images of 5 channel(s): saturation, hue and grayscale are off"), "{err}");
    assert!(err.contains("for images of 5 channels, which torchvision, timm and Detectron2 do not have"), "{err}");
    let result = file.result();
    assert!(result["knn"]["top1"].is_number() && result["linear"]["top1"].is_number(), "{result}");
    let last = file.checkpoints().pop().unwrap();
    assert_eq!(file.weights(&last)["module.encoder.conv1.weight"].len(), 8 * 5 * 3 * 3);
    let report = std::fs::read_to_string(file.output().join("report.html")).unwrap();
    assert!(report.contains("Pictures show the first three of the 5 channels as red, green and blue."));
    assert!(report.matches("data:image/jpeg").count() > 6);
    let export = |name: &str| file.output().join("export").join(name);
    let (header, _) = tensors(&export("backbone.timm.safetensors"));
    assert_eq!(header["conv1.weight"]["shape"], json!([8, 5, 3, 3]));
    let detectron2 = read(&export("backbone.detectron2.pkl"));
    let stem = detectron2.get("model").and_then(|model| model.get("stem.conv1.weight")).and_then(Value::as_tensor);
    assert_eq!(stem.unwrap().shape, [8, 5, 3, 3]);
    // Packed files keep their bytes.
    let shard = std::fs::read(file.output().join("packed/train/shard-00000.tar")).unwrap();
    let first = five_bands(1, 0);
    assert!(shard.windows(first.len()).any(|part| part == first));

    let embedded = folder.path().join("features.parquet");
    assert!(run_ok(&["embed", "-f", file.write(), "-o", text(&embedded)]).contains("8 vectors"));
    let train = text(&data.join("train")).to_owned();
    let verified = run_ok(&["data", "verify", &train, "--channels", "5"]);
    assert!(verified.contains("24 images, all readable"), "{verified}");
    let (code, out, _) = run(&["data", "verify", &train]);
    assert!(code == 65 && out.contains("set dataset.channels to 5"), "{out}");

    // What was trained for five channels is not continued for four.
    file.spec["dataset"].as_object_mut().unwrap().remove("pack");
    file.set("/dataset/channels", json!(4));
    let (code, out, err) = execute(&file);
    assert_eq!(code, 65, "{out}\n{err}");
    assert!(err.contains("spec.dataset.channels was 5 when it was written, is 4 now"), "{err}");
}

/// Weights of an RGB network are adapted to grayscale images, and trained from the first epoch on.
#[test]
fn run_on_grayscale_images_starts_from_weights_for_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_classes(&folder.path().join("gray"), "png", gray);
    let mut file = like_the_checkpoint(folder.path());
    file.set("/dataset", json!({"train": data.join("train"), "val": data.join("val"), "channels": 1}));
    file.set("/pretrain/augment", json!({"cropSize": 16, "evalResize": 20})).set("/pretrain/batchSize", json!(12));
    file.set("/pretrain/epochs", json!(1)).set("/export", json!(["onnxWithNormalization"]));
    file.set("/report", json!({"views": 1, "queries": 1, "points": 10, "bank": 10}));
    let (code, out, err) = execute(&file);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(
        err.contains("encoder.conv1.weight is for RGB images; adapted to 1 channel: the sum over R, G and B"),
        "{err}"
    );
    assert!(err.contains("momentum initialised, 0 of 1 epochs done"), "{err}");
    let last = file.checkpoints().pop().unwrap();
    assert_eq!(file.weights(&last)["module.encoder.conv1.weight"].len(), 4 * 3 * 3);
    assert!(file.result()["knn"]["top1"].is_number());
    let report = std::fs::read_to_string(file.output().join("report.html")).unwrap();
    assert!(report.contains("Pictures show the one channel in gray."));
}
