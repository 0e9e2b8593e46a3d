//! What is written is what is read; what belongs to the cluster is split off; the digest.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use serde_json::{Value, json};
use simsiam_recipe::{Ablation, CLUSTER_ONLY, Precision, Recipe, RunFile, schema};

fn minimal() -> Value {
    json!({"dataset": {"train": "./a"}, "output": {"uri": "./out"}, "pretrain": {}})
}

fn recipe(change: impl FnOnce(&mut Value)) -> Recipe {
    let mut spec = minimal();
    change(&mut spec);
    Recipe::from_json(&spec).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn run(text: &str) -> RunFile {
    RunFile::parse(text, "run.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn recipe_round_trips_through_serde() {
    let full = recipe(|spec| {
        *spec = json!({
            "dataset": {"train": "s3://b/t", "val": "s3://b/v", "maxCorrupt": 3, "loaderThreads": 4},
            "output": {"uri": "s3://b/o", "credentialsSecret": "s", "endpoint": "https://h:1", "region": "r"},
            "pretrain": {"preset": "cifar10", "precision": "bf16", "ablation": "noPredictor", "seed": 7},
            "knn": {"everyEpochs": 2}, "linear": {"preset": "linear-paper"},
            "export": ["safetensors", "torchvision", "timm", "detectron2", "pth"],
            "checkpoint": {"everySteps": 10}, "weights": "s3://b/w.pth.tar",
            "track": {"mlflow": {"uri": "https://mlflow.example.com", "experiment": "e", "credentialsSecret": "m"}},
        });
    });
    let pretrain = full.pretrain.as_ref().expect("pretrain");
    assert_eq!((pretrain.precision, pretrain.ablation), (Precision::Bf16, Ablation::NoPredictor));
    // What the user wrote stays, also where it is the default and the preset has another value.
    let overridden = recipe(|spec| {
        spec["pretrain"]["augment"] = json!({
            "preset": "microscopy", "quarterTurnProb": 0, "minScale": 0.2, "secondView": {"flipProb": 0},
        });
    });
    for recipe in [full, overridden, recipe(|_| {})] {
        let json = serde_json::to_value(&recipe).expect("json");
        assert_eq!(serde_json::from_value::<Recipe>(json.clone()).expect("serde"), recipe);
        assert_eq!(Recipe::from_json(&json).expect("checked"), recipe);
        recipe.check().expect("valid");
    }
}

/// As the operator reads it: plain serde also puts the preset underneath.
#[test]
fn deserialized_recipe_has_preset_merged() {
    let spec = json!({"dataset": {"train": "a"}, "output": {"uri": "b"}, "pretrain": {"preset": "cifar10"}});
    let recipe: Recipe = serde_json::from_value(spec).expect("serde");
    assert_eq!(recipe.pretrain.expect("pretrain").epochs, 800);
    let unknown = json!({"dataset": {"train": "a"}, "output": {"uri": "b"}, "pretrain": {"epoch": 1}});
    assert!(serde_json::from_value::<Recipe>(unknown).is_err());
}

#[test]
fn changed_recipe_is_validated() {
    let mut recipe = recipe(|_| {});
    let pretrain = recipe.pretrain.as_mut().expect("pretrain");
    pretrain.lr = f64::NAN;
    pretrain.epochs = 0;
    let wrong = recipe.check().expect_err("two mistakes");
    let lines: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "spec.pretrain.lr: Invalid value: null: must be of type number, not null",
            "spec.pretrain.epochs: Invalid value: 0: must be between 1 and 100000",
        ]
    );
}

/// An object as `kubectl get -o yaml` prints it.
#[test]
fn object_from_api_server_is_accepted() {
    let run = run("
apiVersion: simsiam.dev/v1alpha1
kind: SimSiamRun
metadata:
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}
  creationTimestamp: \"2026-01-05T03:12:00Z\"
  finalizers: [simsiam.dev/run]
  generation: 2
  labels: {team: vision}
  managedFields: [{manager: kubectl, operation: Apply}]
  name: imagenet-r50-100ep
  namespace: ml
  resourceVersion: \"4711\"
  uid: 0b2d6a2c-6f0f-4f6e-9d0c-1f0e4b7c8d9a
spec:
  image: registry.example.com/simsiam-trainer:0.1.0
  dataset:
    train: s3://datasets/imagenet/train
    val: s3://datasets/imagenet/val
    cache: {sizeLimit: 200Gi, volume: {hostPath: /var/cache/simsiam}}
  output: {uri: s3://models/r50-100ep, credentialsSecret: s3-credentials, endpoint: https://s3.example.com, region: us-east-1}
  pretrain: {arch: resnet50, epochs: 100, batchSize: 512, lr: 0.05, fixPredLr: true, precision: bf16, seed: 0}
  linear: {epochs: 90, batchSize: 4096, lr: 0.1, optimizer: lars}
  knn: {everyEpochs: 5}
  export: [safetensors, torchvision, detectron2]
  checkpoint: {everySteps: 1000, keepLast: 3}
  workers: {nodes: 4, gpusPerNode: 8, threadsPerRank: 12, network: {hostNetwork: false, env: {}}, tolerations: []}
  restartPolicy: {maxRestarts: 10, maxPreemptions: 20, stallTimeout: 10m, scheduleTimeout: 10m}
  suspend: false
status:
  phase: Training
  progress: {epoch: 37, loss: -0.9213}
");
    assert_eq!(run.name, "imagenet-r50-100ep");
    let keys: Vec<_> = run.cluster_only.keys().map(String::as_str).collect();
    assert_eq!(keys, ["dataset.cache.volume", "image", "restartPolicy", "suspend", "workers"]);
    assert_eq!(run.cluster_only["workers"]["nodes"], 4);
    assert_eq!(run.cluster_only["dataset.cache.volume"]["hostPath"], "/var/cache/simsiam");
    assert_eq!(run.recipe.dataset.cache.as_ref().expect("cache").size_limit_bytes(), 200 << 30);
    assert_eq!(run.threads_per_rank(), Some(12));
    assert_eq!(run.recipe.knn.expect("knn").every_epochs, 5);
    assert_eq!(run.recipe.checkpoint.every_steps, Some(1000));
}

/// As on an API server, a field without a value is a field that is not there.
#[test]
fn empty_fields_are_not_serialized() {
    let run = run("
apiVersion: simsiam.dev/v1alpha1
kind: SimSiamRun
metadata: {name: a, labels: }
spec:
  dataset: {train: ./a, val: }
  output: {uri: ./b}
  pretrain: {epochs: , lr: 1e-2}
  knn:
");
    assert_eq!((run.recipe.knn, run.recipe.dataset.val), (None, None));
    let pretrain = run.recipe.pretrain.expect("pretrain");
    assert_eq!((pretrain.epochs, pretrain.lr), (100, 0.01));
    assert_eq!(run.cluster_only.len(), 0);
}

/// A name can be the recipe's or the cluster's, not both.
#[test]
fn cluster_only_names_are_not_recipe_fields() {
    let schema = schema();
    for name in CLUSTER_ONLY {
        assert!(schema["properties"][name].is_null(), "{name}");
    }
    assert!(schema["properties"]["dataset"]["properties"]["cache"]["properties"]["volume"].is_null());
}

#[test]
fn digest_changes_with_arithmetic_fields_alone() {
    let digest = recipe(|_| {}).digest();
    assert_eq!(digest.len(), 64);
    // Checkpoints of earlier versions carry this; change it only together with the arithmetic.
    assert_eq!(digest, "02bdb4a224d5b1d6fcebcd0ba58e89475baa8a8ee48519b2cce863ff725491fb");
    assert_eq!(recipe(|s| s["pretrain"] = json!({"preset": "imagenet-100ep"})).arithmetic()["pretrain"]["epochs"], 100);

    let same: &[fn(&mut Value)] = &[
        |s| s["pretrain"]["epochs"] = json!(100),
        |s| s["pretrain"]["collapse"] = json!({"patienceSteps": 5, "threshold": 0.5}),
        |s| s["pretrain"]["augment"] = json!({"evalResize": 300}),
        |s| s["pretrain"]["augment"] = json!({"verticalFlipProb": 0, "quarterTurnProb": 0.0, "secondView": {}}),
        |s| s["pretrain"]["augment"] = json!({"solarizeProb": 0, "solarizeThreshold": 128}),
        |s| s["dataset"] = json!({"train": "./a", "val": "./b", "maxCorrupt": 5, "loaderThreads": 2, "cache": {}}),
        |s| s["dataset"] = json!({"train": "./a", "pages": "first", "range": {"mode": "auto"}}),
        |s| s["output"]["uri"] = json!("/elsewhere"),
        |s| s["export"] = json!(["pth"]),
        |s| s["checkpoint"] = json!({"keepLast": 9}),
        |s| {
            s["dataset"]["val"] = json!("./b");
            s["knn"] = json!({});
            s["linear"] = json!({});
        },
    ];
    for change in same {
        let changed = recipe(change);
        assert_eq!(changed.digest(), digest, "{changed:?}");
    }
    for (field, value) in [
        ("arch", json!("resnet18")),
        ("stem", json!("cifar")),
        ("baseWidth", json!(16)),
        ("epochs", json!(101)),
        ("batchSize", json!(256)),
        ("lr", json!(0.06)),
        ("momentum", json!(0.8)),
        ("weightDecay", json!(0.0)),
        ("schedule", json!("constant")),
        ("warmupEpochs", json!(1)),
        ("fixPredLr", json!(false)),
        ("precision", json!("bf16")),
        ("seed", json!(1)),
        ("accumulate", json!(2)),
        ("projector", json!({"layers": 2})),
        ("dim", json!(1024)),
        ("predDim", json!(256)),
        ("augment", json!({"blurProb": 0})),
        ("augment", json!({"verticalFlipProb": 0.5})),
        ("augment", json!({"quarterTurnProb": 0.75})),
        ("augment", json!({"solarizeProb": 0.2})),
        ("augment", json!({"solarizeThreshold": 100})),
        ("augment", json!({"secondView": {"blurProb": 0.1}})),
        ("augment", json!({"preset": "aerial"})),
        ("ablation", json!("noPredictor")),
        ("ablation", json!("asymmetricDouble")),
        ("alternation", json!({"steps": 1})),
        ("alternation", json!({"epoch": true})),
    ] {
        let changed = recipe(|spec| spec["pretrain"][field] = value);
        assert_ne!(changed.digest(), digest, "{field}");
    }
    for (field, value) in [
        ("decode", json!("fast")),
        ("pack", json!({"maxSide": 400})),
        ("pages", json!("all")),
        ("range", json!({"mode": "pillow"})),
        ("range", json!({"mode": "fixed", "low": 0, "high": 4095})),
    ] {
        let changed = recipe(|spec| spec["dataset"][field] = value);
        assert_ne!(changed.digest(), digest, "{field}");
    }
    // The values of a preset count, not its name.
    let digest_with = |augment| recipe(|spec| spec["pretrain"]["augment"] = augment).digest();
    assert_eq!(digest_with(json!({"preset": "aerial"})), digest_with(json!({"quarterTurnProb": 0.75, "hue": 0.05})));
    assert_eq!(digest_with(json!({"preset": "aerial", "quarterTurnProb": 0, "hue": 0.1})), digest);
    let changed = recipe(|spec| spec["weights"] = json!("./checkpoint_0099.pth.tar"));
    assert_ne!(changed.digest(), digest, "weights");
    // The same images under another mount point are the same images.
    assert_eq!(recipe(|s| s["dataset"]["train"] = json!("./other")).digest(), digest);
}

/// Other than three channels bring their own mean and standard deviation, and switch off what needs RGB; a preset's fields
/// and the user's stay.
#[test]
fn channels_bring_defaults_of_their_own() {
    let of = |dataset: Value, pretrain: Value| {
        let recipe = recipe(|spec| {
            spec["dataset"] = dataset;
            spec["pretrain"] = pretrain;
        });
        // As a stage's request passes it on.
        let json = serde_json::to_value(&recipe).expect("json");
        assert_eq!(serde_json::from_value::<Recipe>(json.clone()).expect("serde"), recipe);
        assert_eq!(Recipe::from_json(&json).expect("checked"), recipe);
        recipe
    };
    let five = of(json!({"train": "a", "channels": 5}), json!({"preset": "cifar10", "augment": {"brightness": 0.3}}));
    let augment = five.pretrain.as_ref().expect("pretrain").augment.clone();
    assert_eq!((augment.channels(), five.dataset.channels()), (5, 5));
    assert_eq!((&augment.mean[..], &augment.std[..]), (&[0.5; 5][..], &[0.25; 5][..]));
    assert_eq!((augment.saturation, augment.hue, augment.grayscale_prob), (0.0, 0.0, 0.0));
    assert_eq!((augment.brightness, augment.contrast, augment.crop_size, augment.blur_prob), (0.3, 0.4, 32, 0.0));
    let own = json!({"augment": {"mean": [0.1], "std": [0.2]}});
    let gray = of(json!({"train": "a", "channels": 1}), own);
    let augment = gray.pretrain.as_ref().expect("pretrain").augment.clone();
    assert_eq!((augment.mean, augment.std), (vec![0.1], vec![0.2]));
    let rgb = of(json!({"train": "a", "channels": 3}), json!({}));
    assert_eq!(rgb.pretrain, recipe(|_| {}).pretrain);
}

/// Three channels are the default, however they are asked for.
#[test]
fn digest_changes_with_channels() {
    let digest = |channels: Option<u32>| {
        recipe(|spec| {
            if let Some(channels) = channels {
                spec["dataset"]["channels"] = json!(channels);
            }
        })
        .digest()
    };
    assert_eq!(digest(None), digest(Some(3)));
    assert_ne!(digest(None), digest(Some(1)));
    assert_ne!(digest(Some(1)), digest(Some(4)));
    let arithmetic = recipe(|spec| spec["dataset"]["channels"] = json!(4)).arithmetic();
    assert_eq!(arithmetic["dataset"]["channels"], 4);
}
