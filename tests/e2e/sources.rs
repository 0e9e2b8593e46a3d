//! Data sets in object storage: the same samples as on a disk, and what happens when the storage fails. `advise` is what
//! `simsiam advise` finds in a data set.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

mod advise;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use simsiam_data::cache::Cache;
use simsiam_data::storage::{StorageErrorKind, StorageOptions};
use simsiam_data::{Access, Error, Loader, LoaderOptions, Source, TwoViews, open};
use simsiam_tests::s3::{ALL, KEYS, Server};
use simsiam_tests::{RunFile, command, output_of, synth, text, wait_until};

/// Credentials come from the environment, so a test runs itself again with them. Returns `false` in the outer process.
fn with_keys(test: &str) -> bool {
    if std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|key| key == KEYS[0]) {
        return true;
    }
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", test, "--nocapture"]);
    inner.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]);
    assert!(inner.status().unwrap().success(), "{test}: see above");
    false
}

struct Fixture {
    folder: tempfile::TempDir,
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    /// Bucket `data` with `images/train`, the same packed as `packed/train`, and its shards alone in `tars`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path().join("buckets/data");
        fs::create_dir_all(&bucket).unwrap();
        fs::rename(synth(folder.path(), 6, 2), bucket.join("images")).unwrap();
        let (from, to) = (bucket.join("images/train"), bucket.join("packed/train"));
        let pack = ["data", "pack", text(&from), text(&to), "--shard-samples", "25"];
        let (code, out, err) = simsiam_tests::run(&pack);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("60 images in 3 shards (0 reused)"), "{out}");
        fs::create_dir(bucket.join("tars")).unwrap();
        for shard in 0..3 {
            let name = format!("shard-{shard:05}.tar");
            fs::copy(to.join(&name), bucket.join("tars").join(&name)).unwrap();
        }
        let server = Server::start(bucket.parent().unwrap());
        Self { folder, server, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn bucket(&self) -> PathBuf {
        self.folder.path().join("buckets/data")
    }

    fn access(&self, cache: Option<u64>, retry_timeout: u64) -> Access {
        let folder = self.folder.path().join("cache");
        Access {
            storage: StorageOptions {
                endpoint: Some(self.server.endpoint()),
                region: Some("us-east-1".into()),
                retry_timeout: Duration::from_secs(retry_timeout),
            },
            cache: cache.map(|limit| Arc::new(Cache::open(&folder, limit).unwrap())),
            extracts: cache.map(|limit| (folder.clone(), limit)),
            ..Access::new(self.runtime.handle().clone())
        }
    }

    /// Copies the images of the tests of Parquet files to `parquet/…` of the bucket: `images` as files, and `data`.
    fn add_parquet(&self) -> PathBuf {
        let to = self.bucket().join("parquet");
        let copied = Command::new("cp").arg("-r").arg(parquet("")).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }

    fn local(&self) -> Arc<dyn Source> {
        open(text(&self.bucket().join("images/train")), None, &self.access(None, 1)).unwrap()
    }
}

/// A file or folder of the tests of Parquet files.
fn parquet(name: &str) -> PathBuf {
    simsiam_tests::root().join("trainer/data/tests/parquet").join(name)
}

fn assert_same(a: &dyn Source, b: &dyn Source) {
    assert_eq!((a.len(), a.classes()), (b.len(), b.classes()));
    for id in 0..a.len() as u64 {
        assert_eq!((a.name(id), a.label(id)), (b.name(id), b.label(id)), "sample {id}");
        assert_eq!(a.read(id).unwrap(), b.read(id).unwrap(), "{}", a.name(id));
    }
}

/// Returns the files in the cache, except those being written.
fn copies(fixture: &Fixture) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(fixture.folder.path().join("cache")).unwrap() {
        let files = fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_none()));
    }
    found
}

const LAYOUTS: [&str; 3] = ["images/train", "packed/train", "tars"];

#[test]
fn samples_are_equal_in_every_layout() {
    if !with_keys("samples_are_equal_in_every_layout") {
        return;
    }
    let fixture = Fixture::new();
    for layout in LAYOUTS {
        let remote = open(&format!("s3://data/{layout}"), None, &fixture.access(None, 20)).unwrap();
        assert_same(&*fixture.local(), &*remote);
        // Random access: one sample does not cost the set.
        let before = fixture.server.served();
        remote.read(37).unwrap();
        assert_eq!(fixture.server.served() - before, 1, "{layout}");
        // Prefetched samples are equal.
        remote.prefetch(&[3, 5, 59]);
        for id in [59, 3, 5, 4] {
            assert_eq!(remote.read(id).unwrap(), fixture.local().read(id).unwrap(), "{layout}, {id}");
        }
    }
    let one = open("s3://data/tars/shard-00001.tar", None, &fixture.access(None, 20)).unwrap();
    assert_eq!(one.len(), 25);
    let missing = open("s3://data/nothing-here", None, &fixture.access(None, 20)).map(drop).unwrap_err();
    assert!(matches!(missing, Error::EmptyFolder { .. }), "{missing}");
    let bucket = open("s3://no-such-bucket/x", None, &fixture.access(None, 20)).map(drop).unwrap_err();
    assert!(
        matches!(bucket, Error::Storage { kind: StorageErrorKind::Refused | StorageErrorKind::Missing, .. }),
        "{bucket}"
    );
}

#[test]
fn object_whose_key_cannot_be_used_is_skipped_and_named() {
    if !with_keys("object_whose_key_cannot_be_used_is_skipped_and_named") {
        return;
    }
    let fixture = Fixture::new();
    let local = fixture.local();
    let class = fixture.bucket().join("images/train").join(&local.classes()[0]);
    fs::write(class.join("a\tb.jpg"), local.read(0).unwrap()).unwrap();
    let remote = open("s3://data/images/train", None, &fixture.access(None, 20)).unwrap();
    assert_same(&*local, &*remote);
    let named = format!("{}/a\tb.jpg", local.classes()[0]);
    assert_eq!(remote.listing_report().unusable_keys, std::slice::from_ref(&named));
    let at = ["--endpoint", &fixture.server.endpoint(), "--region", "us-east-1"];
    let (code, out, err) = simsiam_tests::run(&[&["data", "verify", "s3://data/images/train"], &at[..]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("60 images, all readable; 1 other files were skipped (1 unusable key)"), "{out}");
    assert!(err.contains(&format!("{named:?}")) && err.contains("rename"), "{err}");
}

#[test]
fn cached_copies_serve_during_an_outage_and_damage_is_refetched() {
    if !with_keys("cached_copies_serve_during_an_outage_and_damage_is_refetched") {
        return;
    }
    let fixture = Fixture::new();
    for (layout, files) in [("packed/train", 3), ("tars", 6), ("images/train", 60)] {
        let remote = open(&format!("s3://data/{layout}"), None, &fixture.access(Some(1 << 30), 20)).unwrap();
        if layout == "images/train" {
            assert_same(&*fixture.local(), &*remote);
        }
        wait_until(Duration::from_secs(30), "the copies", || (copies(&fixture).len() == files).then_some(()));
        // The filling thread hands each shard over after its rename.
        std::thread::sleep(Duration::from_millis(200));
        fixture.server.unavailable(ALL);
        assert_same(&*fixture.local(), &*remote);
        fixture.server.unavailable(0);
        for copy in copies(&fixture) {
            let mut bytes = fs::read(&copy).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&copy, bytes).unwrap();
        }
        if layout != "tars" {
            // Plain tars have no checksums of their samples.
            assert_same(&*fixture.local(), &*remote);
        }
        drop(remote);
        fs::remove_dir_all(fixture.folder.path().join("cache")).unwrap();
    }
}

#[test]
fn cache_filled_by_two_readers_stays_within_its_limit() {
    if !with_keys("cache_filled_by_two_readers_stays_within_its_limit") {
        return;
    }
    let fixture = Fixture::new();
    let shard = fs::metadata(fixture.bucket().join("packed/train/shard-00000.tar")).unwrap().len();
    // Room for two of the three shards.
    let limit = shard * 5 / 2;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let remote = open("s3://data/packed/train", None, &fixture.access(Some(limit), 20)).unwrap();
                for _ in 0..3 {
                    assert_same(&*fixture.local(), &*remote);
                }
            });
        }
    });
    let kept: u64 = copies(&fixture).iter().map(|copy| fs::metadata(copy).unwrap().len()).sum();
    assert!((1..=limit).contains(&kept), "{kept} of {limit} bytes");
}

#[test]
fn storage_faults_are_retried_and_lasting_ones_reported() {
    if !with_keys("storage_faults_are_retried_and_lasting_ones_reported") {
        return;
    }
    let fixture = Fixture::new();
    for layout in ["images/train", "packed/train"] {
        let remote = open(&format!("s3://data/{layout}"), None, &fixture.access(None, 4)).unwrap();
        fixture.server.unavailable(3);
        assert_eq!(remote.read(0).unwrap(), fixture.local().read(0).unwrap());
        fixture.server.stalled(1);
        assert_eq!(remote.read(1).unwrap(), fixture.local().read(1).unwrap());
        let lasting = |what: &str| {
            let start = std::time::Instant::now();
            let error = remote.read(2).unwrap_err();
            assert!(
                matches!(error, Error::Storage { kind: StorageErrorKind::Unavailable, .. }) && !error.is_bad_image(),
                "{what}: {error}"
            );
            assert!(error.to_string().contains("s3://data/"), "{what}: {error}");
            assert!(start.elapsed() < Duration::from_secs(30), "{what}: {:?}", start.elapsed());
        };
        fixture.server.unavailable(ALL);
        lasting("503");
        fixture.server.unavailable(0);
        fixture.server.stalled(ALL);
        lasting("silence");
        fixture.server.stalled(0);
    }
}

#[test]
fn vanished_object_is_replaced() {
    if !with_keys("vanished_object_is_replaced") {
        return;
    }
    let fixture = Fixture::new();
    let remote = open("s3://data/images/train", None, &fixture.access(None, 20)).unwrap();
    let gone = remote.name(11).to_owned();
    fs::remove_file(fixture.bucket().join("images/train").join(&gone)).unwrap();
    let load = |max_corrupt| {
        let views = TwoViews { crop_size: 16, ..TwoViews::default() };
        let options = LoaderOptions { batch: 20, max_corrupt, threads: 2, ..LoaderOptions::default() };
        Loader::two_views(remote.clone(), views, options).unwrap().collect::<Result<Vec<_>, _>>()
    };
    let batches = load(1).unwrap();
    let replaced: Vec<_> = batches.iter().flat_map(|batch| &batch.replaced).collect();
    assert_eq!(replaced.len(), 1);
    assert_eq!((replaced[0].name.as_str(), replaced[0].id), (gone.as_str(), 11));
    let error = load(0).unwrap_err();
    assert!(matches!(&error, Error::TooManyCorrupt { name, .. } if *name == gone), "{error}");
}

fn run_on(file: &RunFile, cache: &Path, retry_timeout: &str) -> (i32, String, String) {
    let mut command = command(&["run", "-f", file.write(), "--metrics-addr", "127.0.0.1:0"]);
    command.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]);
    command.env("SIMSIAM_CACHE", cache).env("SIMSIAM_STORAGE_RETRY_TIMEOUT", retry_timeout);
    output_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap())
}

#[test]
fn run_from_s3_ends_with_the_weights_of_a_local_run() {
    let fixture = Fixture::new();
    let (data, cache) = (fixture.bucket().join("images"), fixture.folder.path().join("run-cache"));
    let mut local = RunFile::new(fixture.folder.path(), &data, "val");
    local.set("/pretrain/epochs", 2.into()).set("/pretrain/batchSize", 20.into());
    let (code, _, err) = run_on(&local, &cache, "20");
    assert_eq!(code, 0, "{err}");
    let expected = local.result()["weightsSha256"].clone();

    let mut remote = local.clone();
    let dataset = json!({
        "train": "s3://data/images/train", "val": "s3://data/images/val", "endpoint": fixture.server.endpoint(),
        "region": "us-east-1", "cache": {"sizeLimit": "1Gi"},
    });
    remote
        .set("/dataset", dataset)
        .set("/output/uri", json!(fixture.folder.path().join("remote")))
        .set("/knn", json!({}));
    let (code, _, err) = run_on(&remote, &cache, "20");
    assert_eq!(code, 0, "{err}");
    assert_eq!(remote.result()["weightsSha256"], expected, "the same images in the same order");

    // Packed first, into an output on S3; the images keep their bytes, so the weights are the same again.
    let mut packed = remote.clone();
    packed.set("/dataset/pack", json!({}));
    packed
        .set("/output", json!({"uri": "s3://data/run", "endpoint": fixture.server.endpoint(), "region": "us-east-1"}));
    let (code, out, err) = run_on(&packed, &cache, "20");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("time of prepare"), "{out}");
    let result = fs::read(fixture.bucket().join("run/result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["weightsSha256"], expected);
    let stamp = || fs::metadata(fixture.bucket().join("run/packed/train/packed.json")).unwrap().modified().unwrap();
    let before = stamp();
    let (code, _, err) = run_on(&packed, &cache, "20");
    assert_eq!(code, 0, "{err}");
    assert_eq!(stamp(), before, "a complete packed set is not written again");

    // A storage outage ends the run as temporary, and the message names the address.
    fixture.server.unavailable(ALL);
    let (code, _, err) = run_on(&remote, &fixture.folder.path().join("no-cache"), "3");
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("s3://data/images/train"), "{err}");
}

/// A run on 16-bit TIFF files, one of them with pages, and WebP files.
#[test]
fn run_on_tiff_and_webp_follows_range_and_pages() {
    let folder = tempfile::tempdir().unwrap();
    let formats = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/data/tests/formats"));
    for (class, files) in [("tiff", ["u16.tif", "rgb16.tif", "i16.tif"]), ("webp", ["lossy.webp"; 3])] {
        let class = folder.path().join("data/train").join(class);
        fs::create_dir_all(&class).unwrap();
        for (number, file) in files.iter().cycle().take(12).enumerate() {
            let ending = file.rsplit('.').next().unwrap();
            fs::copy(formats.join(file), class.join(format!("{number:02}.{ending}"))).unwrap();
        }
    }
    fs::copy(formats.join("pages.tif"), folder.path().join("data/train/tiff/pages.tif")).unwrap();
    let run = |output: &str, fields: &[(&str, serde_json::Value)]| {
        let mut file = RunFile::new(folder.path(), &folder.path().join("data"), "train");
        file.set("/output/uri", json!(folder.path().join(output)))
            .set("/pretrain/epochs", 1.into())
            .set("/pretrain/batchSize", 8.into())
            .set("/knn", json!({"protocols": [{"k": 5, "temperature": 0.1}]}));
        for (field, value) in fields {
            file.set(field, value.clone());
        }
        let (code, _, err) = run_on(&file, &folder.path().join("run-cache"), "20");
        assert_eq!(code, 0, "{err}");
        let result = file.result();
        assert!(result["knn"]["top1"].as_f64().unwrap() > 90.0, "the classes are easy to distinguish: {result}");
        (result["weightsSha256"].clone(), err)
    };
    let (weights, log) = run("auto", &[]);
    assert!(!log.contains("skipped"), "{log}");
    let range = json!({"mode": "fixed", "low": 0, "high": 20000});
    let fields = [("/dataset/range", range), ("/dataset/pages", json!("all")), ("/dataset/pack", json!({}))];
    let (other, log) = run("other", &fields);
    assert_ne!(other, weights, "other values are black and white, and there are more samples");
    assert!(log.contains("3 samples are the pages of 1 TIFF files"), "{log}");
}

#[test]
fn unlabelled_run_is_evaluated_on_its_probe_in_every_layout() {
    let fixture = Fixture::new();
    let (bucket, cache) = (fixture.bucket(), fixture.folder.path().join("run-cache"));
    let (images, val) = (bucket.join("images"), bucket.join("packed/val"));
    simsiam_tests::run_ok(&["data", "pack", text(&images.join("val")), text(&val), "--shard-samples", "20"]);
    fs::copy(val.join("shard-00000.tar"), bucket.join("val.tar")).unwrap();
    let flat = fixture.folder.path().join("flat");
    fs::create_dir(&flat).unwrap();
    for class in fs::read_dir(images.join("train")).unwrap().map(|class| class.unwrap()) {
        for image in fs::read_dir(class.path()).unwrap().map(|image| image.unwrap()) {
            let name = format!("{}-{}", text(Path::new(&class.file_name())), text(Path::new(&image.file_name())));
            fs::copy(image.path(), flat.join(name)).unwrap();
        }
    }
    let mut file = RunFile::new(fixture.folder.path(), &images, "val");
    let stage = json!({"epochs": 1, "batchSize": 20});
    file.set("/dataset", json!({"train": flat, "endpoint": fixture.server.endpoint(), "region": "us-east-1"}))
        .set("/pretrain/epochs", 1.into())
        .set("/pretrain/batchSize", 20.into())
        .set("/knn", json!({"everyEpochs": 1, "protocols": [{"k": 5, "temperature": 0.07}]}))
        .set("/linear", stage.clone())
        .set("/finetune", stage)
        .set("/report", json!({}));

    // Without a probe there is nothing to evaluate on, which is said before any training.
    file.set("/dataset/val", json!(images.join("val")));
    let (code, _, err) = run_on(&file, &cache, "20");
    assert!(code == 78 && err.contains("has no class") && err.contains("dataset.probe"), "{code} {err}");
    assert!(file.checkpoints().is_empty());
    let with = |file: &mut RunFile, train: serde_json::Value, val: serde_json::Value| {
        file.spec["dataset"].as_object_mut().unwrap().remove("val");
        file.set("/dataset/probe", json!({"train": train, "val": val}));
    };
    // So is a probe that cannot be found.
    with(&mut file, json!(images.join("train")), json!("s3://data/no-such-images"));
    let (code, _, err) = run_on(&file, &cache, "20");
    assert!(code != 0 && err.contains("s3://data/no-such-images"), "{code} {err}");
    assert!(file.checkpoints().is_empty());

    with(&mut file, json!(images.join("train")), json!(images.join("val")));
    let (code, _, err) = run_on(&file, &cache, "20");
    assert_eq!(code, 0, "{err}");
    let result = file.result();
    let knn = &result["knn"]["top1"];
    assert!(knn.as_f64().is_some(), "{result}");
    assert!(result["linear"].is_object() && result["finetune"].is_object(), "{result}");
    let journal = fs::read_to_string(file.output().join("logs/metrics-pretrain-a1.jsonl")).unwrap();
    assert!(journal.contains("\"kind\":\"knn\""), "{journal}");
    let report = fs::read_to_string(file.output().join("report.html")).unwrap();
    assert!(report.contains("60 training images") && report.contains("20 validation images"));
    assert!(report.contains("its nearest images of dataset.probe.train") && report.contains("class=\"right\""));

    // The same images at other addresses have the same accuracy.
    for (train, val) in [
        ("s3://data/images/train", "s3://data/images/val"),
        ("s3://data/packed/train", "s3://data/packed/val"),
        ("s3://data/tars", "s3://data/val.tar"),
        (text(&bucket.join("packed/train")), text(&bucket.join("val.tar"))),
    ] {
        with(&mut file, json!(train), json!(val));
        let mut again = command(&["knn", "-f", file.write()]);
        again.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]).env("SIMSIAM_CACHE", &cache);
        let (code, out, err) = output_of(again.output().unwrap());
        assert_eq!(code, 0, "{train}: {err}");
        let expected = format!("trained    {:5.2} %", knn.as_f64().unwrap());
        assert!(out.contains(&expected), "{train}: {out}, expected {expected}");
    }
    let local = format!("dataset.probe.train={}", text(&bucket.join("packed/train")));
    let packed = [&local, "dataset.probe.val=./nowhere"];
    let (code, _, err) = simsiam_tests::run(&["knn", "-f", file.write(), "--set", packed[0], "--set", packed[1]]);
    assert!(code != 0 && err.contains("nowhere"), "{code} {err}");
}

#[test]
fn parquet_in_object_storage_has_the_samples_of_its_folder() {
    if !with_keys("parquet_in_object_storage_has_the_samples_of_its_folder") {
        return;
    }
    let fixture = Fixture::new();
    let folder = open(text(&fixture.add_parquet().join("images/train")), None, &fixture.access(None, 20)).unwrap();
    let remote = open("s3://data/parquet/data/train", None, &fixture.access(None, 20)).unwrap();
    // One request for the page of a sample, and none for the others of the page.
    let before = fixture.server.served();
    let first = remote.read(0).unwrap();
    assert_eq!((fixture.server.served() - before, &first), (1, &folder.read(0).unwrap()));
    assert_same(&*folder, &*remote);
    assert_eq!(fixture.server.served() - before, 2, "two files, each with one page of images");
    let prefetched = open("s3://data/parquet/data/train", None, &fixture.access(None, 20)).unwrap();
    prefetched.prefetch(&(0..24).collect::<Vec<_>>());
    assert_same(&*folder, &*prefetched);
    for (address, samples) in [("data/test-00000-of-00001.parquet", 6), ("forms/scanned.parquet", 24)] {
        let one = open(&format!("s3://data/parquet/{address}"), None, &fixture.access(None, 20)).unwrap();
        assert_eq!(one.len(), samples);
        one.read(samples as u64 - 1).unwrap();
    }
    let splits = open("s3://data/parquet/data", None, &fixture.access(None, 20)).map(drop).unwrap_err();
    assert!(matches!(&splits, Error::Selection { reason, .. } if reason.contains("test, train")), "{splits}");

    // Tables and extracts in the cache serve a whole run; a lasting outage without them is no fault of the data.
    let cached = open("s3://data/parquet/data/train", None, &fixture.access(Some(1 << 30), 20)).unwrap();
    wait_until(Duration::from_secs(30), "the copies", || (copies(&fixture).len() == 4).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    fixture.server.unavailable(ALL);
    assert_same(&*folder, &*cached);
    let remote = open("s3://data/parquet/data/train", None, &fixture.access(None, 2)).map(drop).unwrap_err();
    assert!(matches!(remote, Error::Storage { kind: StorageErrorKind::Unavailable, .. }), "{remote}");
    fixture.server.unavailable(0);
    drop(cached);
    // Damaged extracts and tables are made again.
    for (number, copy) in copies(&fixture).iter().enumerate() {
        let mut bytes = fs::read(copy).unwrap();
        let half = bytes.len() / 2;
        bytes[half / 2] ^= 1;
        fs::write(copy, if number % 2 == 0 { &bytes } else { &bytes[..half] }).unwrap();
    }
    let again = open("s3://data/parquet/data/train", None, &fixture.access(Some(1 << 30), 20)).unwrap();
    assert_same(&*folder, &*again);
}

#[test]
fn run_on_parquet_ends_with_the_weights_of_a_run_on_its_folder() {
    let fixture = Fixture::new();
    let (at, cache) = (fixture.add_parquet(), fixture.folder.path().join("run-cache"));
    let mut file = RunFile::new(fixture.folder.path(), &at, "val");
    file.set("/pretrain/epochs", 2.into()).set("/pretrain/batchSize", 12.into()).set("/knn", json!({}));
    let mut results = Vec::new();
    for (name, train, val) in [
        ("folder", text(&at.join("images/train")), text(&at.join("images/test"))),
        ("local", text(&at.join("data/train")), text(&at.join("data/test"))),
        ("remote", "s3://data/parquet/data/train", "s3://data/parquet/data/test-00000-of-00001.parquet"),
        ("packed", "s3://data/parquet/data/train", "s3://data/parquet/data/test"),
    ] {
        let dataset = json!({
            "train": train, "val": val, "endpoint": fixture.server.endpoint(), "region": "us-east-1",
            "imageColumn": "image", "labelColumn": "label",
        });
        file.set("/dataset", dataset).set("/output/uri", json!(fixture.folder.path().join(name)));
        if name == "packed" {
            file.set("/dataset/pack", json!({}));
        }
        let (code, out, err) = run_on(&file, &cache, "20");
        assert_eq!(code, 0, "{name}: {err}");
        assert_eq!(out.contains("time of prepare"), name == "packed", "{out}");
        let result = file.result();
        results.push((name, result["weightsSha256"].clone(), result["knn"].clone()));
    }
    let (_, weights, knn) = results[0].clone();
    assert!(weights.is_string() && knn.is_object(), "{results:?}");
    for (name, its_weights, its_knn) in &results[1..3] {
        assert_eq!((its_weights, &its_knn["top1"]), (&weights, &knn["top1"]), "{name}");
    }
    // `pack` is part of the recipe; its images keep their bytes unless they are PNG.
    assert!(results[3].2.is_object(), "{results:?}");
}

#[test]
fn parquet_is_verified_packed_and_refused_by_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let say = |arguments: &[&str]| {
        let mut say = command(&[&["data"], arguments].concat());
        output_of(say.env("SIMSIAM_CACHE", folder.path().join("cache")).output().unwrap())
    };
    let (code, out, err) = say(&["verify", text(&parquet("data/train"))]);
    assert_eq!((code, out.contains("24 images, all readable")), (0, true), "{out}{err}");
    let (code, out, err) = say(&["stat", text(&parquet("forms/plain.parquet")), "--json"]);
    let stat: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &stat["images"], &stat["classes"]), (0, &json!(24), &json!(3)), "{err}");
    let (code, out, err) = say(&["pack", text(&parquet("data/train")), text(&folder.path().join("packed"))]);
    assert_eq!((code, out.contains("24 images in 1 shards")), (0, true), "{out}{err}");
    assert!(!folder.path().join("cache").exists(), "a small local set is not extracted");

    let (code, out, err) = say(&["verify", text(&parquet("bad/nulls.parquet"))]);
    assert_eq!(code, 65, "{out}{err}");
    assert!(out.contains("the image is null, or only its path was saved"), "{out}");
    let several = parquet("bad/several.parquet");
    let (code, _, err) = say(&["stat", text(&several)]);
    assert_eq!((code, err.contains("set dataset.imageColumn (--image-column)")), (78, true), "{err}");
    let columns = ["--image-column", "left", "--label-column", "b_label"];
    let (code, out, err) = say(&[&["stat", text(&several)], &columns[..]].concat());
    assert_eq!((code, out.contains("classes  3, of 2 to 2 images")), (0, true), "{out}{err}");
    let (code, _, err) = say(&["stat", text(&several), "--image-column", ""]);
    assert_eq!((code, err.contains("must be the name of a column")), (64, true), "{err}");
    let (code, _, err) = say(&["stat", text(&parquet("bad/mixed.parquet"))]);
    assert_eq!((code, err.contains("2 of 6 images have no label")), (0, true), "{err}");
}

#[test]
fn verify_and_stat_report_the_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let data = synth(folder.path(), 3, 1);
    let (train, packed) = (data.join("train"), folder.path().join("packed"));
    let say = |arguments: &[&str]| simsiam_tests::run(&[&["data"], arguments].concat());
    let (code, _, err) = say(&["pack", text(&train), text(&packed), "--max-side", "32", "--shard-samples", "10"]);
    assert_eq!(code, 0, "{err}");
    for at in [text(&train), text(&packed)] {
        let (code, out, err) = say(&["verify", at]);
        assert_eq!((code, out.contains("30 images, all readable")), (0, true), "{out}{err}");
    }
    let (_, out, _) = say(&["stat", text(&packed), "--json"]);
    let stat: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&stat["images"], &stat["classes"], &stat["meanWidth"]), (&json!(30), &json!(10), &json!(32.0)));
    let (_, out, _) = say(&["stat", text(&train)]);
    assert!(out.contains("classes  10, of 3 to 3 images") && out.contains("48×48"), "{out}");

    let shard = packed.join("shard-00001.tar");
    let alone = folder.path().join("alone.tar");
    fs::copy(&shard, &alone).unwrap();
    let (code, out, err) = say(&["verify", text(&alone)]);
    assert_eq!((code, out.contains("10 images, all readable")), (0, true), "{out}{err}");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[600] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let (code, out, err) = say(&["verify", text(&packed)]);
    assert_eq!(code, 65, "{out}{err}");
    assert!(
        out.contains("shard-00001.tar: has SHA-256") && err.contains("2 unusable files in a data set of 30 images"),
        "{out}{err}"
    );
    fs::write(&shard, &bytes[..2048]).unwrap();
    let (code, out, _) = say(&["verify", text(&packed)]);
    assert_eq!(code, 65);
    assert!(out.contains("shard-00001.tar: has 2048 bytes"), "{out}");
    let (code, _, err) = say(&["pack", text(&train), text(&packed), "--max-side", "5"]);
    assert_eq!(code, 64, "{err}");
    let (code, _, err) = say(&["verify", "ftp://x/y"]);
    assert!(code == 78 || code == 65, "{code} {err}");
    assert!(err.contains("ftp"), "{err}");
}
