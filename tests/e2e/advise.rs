//! `simsiam advise` on sets with planted faults, and its perceptual hash on photographs.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use simsiam_data::describe::{HashIndex, PerceptualHash};
use simsiam_data::ops::Resizer;
use simsiam_data::rng::CounterRng;
use simsiam_data::{Access, Decoder, RgbImage, TargetSize, Transcoder, encode_jpeg, open};
use simsiam_tests::{RunFile, root, run, run_ok, text};

/// A smooth picture of 96 × 72 pixels: three waves in each channel, as the name decides.
fn picture(name: &str) -> Vec<u8> {
    let mut rng = CounterRng::named(1, name);
    let waves: Vec<[f64; 4]> = (0..9).map(|_| [rng.uniform(), rng.uniform(), rng.uniform(), rng.uniform()]).collect();
    let value = |x: usize, y: usize, channel: usize| {
        let at = |[right, down, phase, strength]: &[f64; 4]| {
            strength * (TAU * (3.0 * right * x as f64 / 96.0 + 3.0 * down * y as f64 / 72.0 + phase)).sin()
        };
        (128.0 + 42.0 * waves[3 * channel..3 * channel + 3].iter().map(at).sum::<f64>()) as u8
    };
    let pixels = (0..96 * 72 * 3).map(|i| value(i / 3 % 96, i / 3 / 96, i % 3)).collect();
    encode_jpeg(&RgbImage { width: 96, height: 72, pixels }, 90).unwrap()
}

fn copied(bytes: &[u8], size: TargetSize, quality: u8) -> Vec<u8> {
    let mut copy = Vec::new();
    Transcoder::new(size, quality).unwrap().transcode("x", bytes, &mut copy).unwrap();
    copy
}

/// 40 different pictures in `train` and 6 in `val`, and the planted ones.
fn planted(data: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for class in ["a", "b"] {
        (0..20).for_each(|n| write(&format!("train/{class}/{n:02}.jpg"), &picture(&format!("{class}{n}"))));
        (0..3).for_each(|n| write(&format!("val/{class}/{n:02}.jpg"), &picture(&format!("val {class}{n}"))));
    }
    write("train/a/copy.jpg", &picture("a0"));
    write("train/b/near.jpg", &copied(&picture("b3"), TargetSize::MaxSide(60), 60));
    let even = RgbImage { width: 60, height: 60, pixels: [240, 240, 235].repeat(3600) };
    write("train/b/blank.jpg", &encode_jpeg(&even, 80).unwrap());
    let whole = picture("broken");
    write("train/a/broken.jpg", &whole[..whole.len() / 2]);
    write("val/a/leak.jpg", &picture("a5"));
    write("val/b/near-leak.jpg", &copied(&picture("b7"), TargetSize::MaxSide(80), 50));
}

fn copies(name: &str, of: &str) -> Value {
    json!({"count": 1, "first": [{"name": name, "of": of}]})
}

#[test]
fn advise_finds_what_was_planted_and_writes_a_run_that_trains() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    planted(&data);
    let file = RunFile::new(folder.path(), &data, "val");
    let path = file.write();
    let original = fs::read_to_string(path).unwrap();

    let report: Value = serde_json::from_str(&run_ok(&["advise", "-f", path, "--json", "--no-measure"])).unwrap();
    let (train, val) = (&report["facts"]["sets"][0], &report["facts"]["sets"][1]);
    assert_eq!((&train["images"], &train["read"], &train["classes"]), (&json!(44), &json!(44), &json!(2)), "{train}");
    assert_eq!(train["copies"], copies("a/copy.jpg", "a/00.jpg"));
    assert_eq!(train["nearCopies"], copies("b/near.jpg", "b/03.jpg"));
    assert_eq!(train["blank"], json!({"count": 1, "first": ["b/blank.jpg"]}));
    assert_eq!((&train["broken"]["count"], &train["broken"]["first"][0]["name"]), (&json!(1), &json!("a/broken.jpg")));
    assert_eq!((&train["longSide"]["median"], &train["longSide"]["min"]), (&json!(96.0), &json!(60.0)));
    for kind in ["copies", "nearCopies", "blank", "broken"] {
        assert_eq!(val[kind]["count"], 0, "{kind}");
    }
    let leaks = report["facts"]["leaks"].as_array().unwrap();
    assert_eq!((leaks.len(), &leaks[0]["compared"]), (1, &json!(8)));
    assert_eq!(leaks[0]["copies"], copies("a/leak.jpg", "a/05.jpg"));
    assert_eq!(leaks[0]["nearCopies"], copies("b/near-leak.jpg", "b/07.jpg"));
    assert!(report["facts"]["rates"].is_null() && report["expected"]["time"].is_null(), "{report}");
    let rules: Vec<_> = report["proposals"].as_array().unwrap().iter().map(|p| p["rule"].as_str().unwrap()).collect();
    for rule in ["batch-of-small-set", "epochs", "knn", "leak", "copies", "blank", "max-corrupt"] {
        assert!(rules.contains(&rule), "{rule}: {rules:?}");
    }

    // As it is, the run fails: the batch is larger than the set.
    let quiet = ["--metrics-addr", "127.0.0.1:0"];
    let (code, _, err) = run(&[&["run", "-f", path], &quiet[..]].concat());
    assert!(code != 0 && err.contains("batch"), "{code} {err}");
    let (code, out, err) = run(&["advise", "-f", path, "--write"]);
    assert_eq!(code, 0, "{err}");
    for words in [
        "a/copy.jpg is a/00.jpg",
        "b/near-leak.jpg is b/07.jpg",
        "a/broken.jpg",
        "pretrain.batchSize: 48 → 32",
        "measured just now",
        "images/s, without evaluations",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let advised = folder.path().join("run.advised.yaml");
    assert!(err.contains(text(&advised)), "{err}");
    assert!(run_ok(&["validate", "-f", text(&advised)]).contains("batch 32"));
    let step = ["run", "-f", text(&advised), "--set", "pretrain.epochs=1"];
    let (code, _, err) = run(&[&step[..], &quiet].concat());
    assert_eq!(code, 0, "{err}");
    assert_eq!(file.checkpoints().len(), 1, "one epoch of one step");

    // What the user wrote stays: the file itself, and what an earlier command wrote.
    let before = fs::read_to_string(&advised).unwrap();
    assert!(before.contains("# 1 of 44 images read cannot be decoded"), "{before}");
    for path in [text(&advised), path] {
        let (code, _, err) = run(&["advise", "-f", file.write(), "--no-measure", "--write", path]);
        assert!(code == 64 && err.contains("exists"), "{code} {err}");
    }
    assert_eq!((fs::read_to_string(path).unwrap(), fs::read_to_string(&advised).unwrap()), (original, before));
}

#[test]
fn advise_on_a_sample_draws_it_by_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    planted(&data);
    let file = RunFile::new(folder.path(), &data, "val");
    let advise = |seed: &str| {
        let json = run_ok(&["advise", "-f", file.write(), "--json", "--no-measure", "--limit", "10", "--seed", seed]);
        serde_json::from_str::<Value>(&json).unwrap()["facts"]["sets"][0].clone()
    };
    let first = advise("0");
    assert_eq!((&first["images"], &first["read"]), (&json!(44), &json!(10)));
    assert_eq!(first, advise("0"));
    assert_ne!(first, advise("1"));
}

#[test]
fn advise_that_cannot_succeed_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut file = RunFile::new(folder.path(), &data, "val");
    let fails = |file: &RunFile, code: i32, words: &str| {
        let (found, _, err) = run(&["advise", "-f", file.write()]);
        assert!(found == code && err.contains(words), "{found} {err}");
    };
    fails(&file, 65, "data/train");
    fs::create_dir_all(data.join("train/a")).unwrap();
    fs::create_dir_all(data.join("val/a")).unwrap();
    fs::write(data.join("train/a/x.jpg"), "no image").unwrap();
    fs::write(data.join("val/a/x.jpg"), "no image").unwrap();
    fails(&file, 65, "none of the 1 images can be read");
    file.set("/pretrain/epochs", 0.into());
    fails(&file, 78, "spec.pretrain.epochs");
    file.spec.as_object_mut().unwrap().remove("pretrain");
    file.set("/knn", json!({}));
    fails(&file, 78, "spec.pretrain: missing; simsiam advise needs it");
}

#[test]
fn perceptual_hash_finds_copies_of_photographs_and_confuses_none() {
    let archive = root().join("../shared/data/imagenet-sample.tar");
    if !archive.exists() {
        eprintln!("SKIPPED: {} is not on this machine", archive.display());
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = open(text(&archive), None, &Access::new(runtime.handle().clone())).unwrap();
    let (mut decoder, mut image, mut resizer) = (Decoder::new(), RgbImage::default(), Resizer::default());
    let mut hash = |bytes: &[u8]| {
        decoder.decode("x", bytes, &mut image).unwrap();
        PerceptualHash::of(&image, &mut resizer)
    };
    let photographs: Vec<Vec<u8>> = (0..source.len() as u64).map(|id| source.read(id).unwrap()).collect();
    let hashes: Vec<_> = photographs.iter().map(|bytes| hash(bytes)).collect();
    let index = HashIndex::new(&hashes);
    let confused = (0..hashes.len()).filter(|at| index.first_near(&hashes[*at], *at).is_some()).count();
    assert_eq!((hashes.len(), confused), (250, 0), "pairs of different photographs that count as copies");
    for (size, quality, at_least) in [
        (TargetSize::MaxSide(65_500), 30, 245),
        (TargetSize::MaxSide(256), 75, 245),
        (TargetSize::MaxSide(100), 75, 245),
    ] {
        let found = |(at, bytes): &(usize, &Vec<u8>)| {
            index.first_near(&hash(&copied(bytes, size, quality)), hashes.len()) == Some(*at)
        };
        let found = photographs.iter().enumerate().filter(found).count();
        println!("{size:?}, quality {quality}: {found} of 250 copies found");
        assert!(found >= at_least, "{size:?}, quality {quality}: {found} of 250");
    }
}
