//! Tables: for each rule a case in which it applies, and one in which it does not.

use serde_json::{Value, json};
use simsiam_recipe::Recipe;

use super::super::facts::{Broken, CopyOf, Facts, Found, Leak, Quantiles, Rates, SetFacts, SparseCrops};
use super::*;
use crate::doctor::{GpuFacts, MachineFacts};

/// ImageNet on a machine with eight GPUs: nothing to say about it.
fn facts() -> Facts {
    let gpu = GpuFacts { name: "NVIDIA H100".into(), free_memory: 80 << 30, bf16: true };
    let side = |median: f64| Quantiles { min: median, p5: median, median, p95: median, max: median };
    Facts {
        sets: vec![SetFacts {
            field: "dataset.train".into(),
            images: 1_281_167,
            classes: 1000,
            fewest_in_a_class: 732,
            most_in_a_class: 1300,
            read: 2000,
            mean_bytes: 110e3,
            short_side: side(375.0),
            long_side: side(500.0),
            aspect: side(1.33),
            gray_share: 0.01,
            mean: [0.48, 0.46, 0.41],
            std: [0.24, 0.23, 0.24],
            sparse_crops: [0.2, 0.3, 0.5].map(|min_scale| SparseCrops { min_scale, share: 0.02 }).to_vec(),
            ..SetFacts::default()
        }],
        leaks: Vec::new(),
        sibling_val: None,
        machine: MachineFacts {
            cores: 128,
            cpu: "A Chip (avx2)".into(),
            cpu_bf16: false,
            free_memory: 512 << 30,
            gpus: vec![gpu; 8],
            cache_free: None,
        },
        rates: Some(Rates { loading: 90_000.0, loader_threads: 128, training: 1300.0, step_images: 64 }),
    }
}

/// The 100-epoch recipe for it.
fn spec() -> Value {
    json!({
        "dataset": {"train": "./train", "val": "./val"}, "output": {"uri": "./out"},
        "pretrain": {"preset": "imagenet-100ep"}, "knn": {},
    })
}

type OfFacts = fn(&mut Facts);
type OfSpec = fn(&mut Value);

/// What a rule proposes: its changes, or `None` if it does not apply.
fn proposed(rule: &str, of_facts: OfFacts, of_spec: OfSpec) -> Option<Value> {
    let (mut facts, mut spec) = (facts(), spec());
    of_facts(&mut facts);
    of_spec(&mut spec);
    let recipe = Recipe::from_json(&spec).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let rules: Vec<Rule> =
        OF_IMAGES.iter().chain(OF_RATES).copied().flatten().filter(|one| one.name == rule).copied().collect();
    assert_eq!(rules.len(), 1, "{rule}");
    let (changed, proposals) = apply(&[&rules], &facts, &recipe).unwrap();
    let proposal = proposals.into_iter().next()?;
    assert!(proposal.reason.len() > 20 && !proposal.source.is_empty(), "{proposal:?}");
    assert_eq!(proposal.changes.is_empty(), changed == recipe, "{proposal:?}");
    let changes = proposal.changes.into_iter().map(|change| (change.field.to_owned(), change.proposed));
    Some(Value::Object(changes.collect()))
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
}

fn without_knn(spec: &mut Value) {
    spec.as_object_mut().unwrap().remove("knn");
}

fn cpu(facts: &mut Facts) {
    facts.machine.gpus.clear();
    facts.machine.cores = 4;
}

fn sides(facts: &mut Facts, side: f64) {
    facts.sets[0].short_side.median = side;
    facts.sets[0].long_side.median = side;
}

fn broken(facts: &mut Facts, count: usize, images: usize) {
    facts.sets[0].images = images;
    let one = || Broken { name: "a.jpg".into(), reason: "cut".into() };
    (0..count).for_each(|_| facts.sets[0].broken.add(one()));
}

fn one_copy() -> Found<CopyOf> {
    Found { count: 1, first: vec![CopyOf { name: "a".into(), of: "b".into() }] }
}

/// For each rule: when it applies and with what, and when it does not.
#[test]
fn every_rule_applies_where_it_should_and_only_there() {
    let nothing: OfFacts = |_| {};
    let as_is: OfSpec = |_| {};
    let cases: Vec<(&str, OfFacts, OfSpec, Option<Value>)> = vec![
        (
            "crop-size",
            |f| sides(f, 100.0),
            |s| set(s, "/pretrain/augment", json!({"evalResize": 256})),
            Some(json!({"pretrain.augment.cropSize": 96, "pretrain.augment.evalResize": 109})),
        ),
        (
            "crop-size",
            |f| sides(f, 33.0),
            as_is,
            Some(json!({"pretrain.augment.cropSize": 32, "pretrain.augment.evalResize": 32})),
        ),
        ("crop-size", |f| sides(f, 180.0), as_is, None),
        (
            "stem",
            nothing,
            |s| set(s, "/pretrain/augment", json!({"cropSize": 32})),
            Some(json!({"pretrain.stem": "cifar"})),
        ),
        ("stem", nothing, as_is, None),
        (
            "stem",
            nothing,
            |s| {
                set(s, "/pretrain/augment", json!({"cropSize": 32}));
                set(s, "/weights", json!("w.pth"));
            },
            None,
        ),
        (
            "blur",
            nothing,
            |s| set(s, "/pretrain/augment", json!({"cropSize": 64})),
            Some(json!({"pretrain.augment.blurProb": 0})),
        ),
        ("blur", nothing, as_is, None),
        (
            "min-scale",
            |f| {
                f.sets[0].sparse_crops[0].share = 0.4;
                f.sets[0].sparse_crops[1].share = 0.2;
            },
            as_is,
            Some(json!({"pretrain.augment.minScale": 0.5})),
        ),
        ("min-scale", nothing, as_is, None),
        (
            "normalisation",
            |f| f.sets[0].mean = [0.7, 0.46, 0.41],
            as_is,
            Some(json!({"pretrain.augment.mean": [0.7, 0.46, 0.41], "pretrain.augment.std": [0.24, 0.23, 0.24]})),
        ),
        (
            "normalisation",
            |f| f.sets[0].std = [0.0, 0.23, 0.24],
            as_is,
            Some(json!({"pretrain.augment.mean": [0.48, 0.46, 0.41], "pretrain.augment.std": [0.01, 0.23, 0.24]})),
        ),
        ("normalisation", nothing, as_is, None),
        ("normalisation", |f| f.sets[0].mean = [0.7; 3], |s| set(s, "/weights", json!("w.pth")), None),
        (
            "gray",
            |f| f.sets[0].gray_share = 1.0,
            |s| set(s, "/pretrain/augment", json!({"hue": 0})),
            Some(json!({"pretrain.augment.saturation": 0, "pretrain.augment.grayscaleProb": 0})),
        ),
        ("gray", |f| f.sets[0].gray_share = 0.5, as_is, None),
        (
            "precision",
            cpu,
            |s| set(s, "/pretrain/precision", json!("bf16")),
            Some(json!({"pretrain.precision": "fp32"})),
        ),
        ("precision", nothing, |s| set(s, "/pretrain/precision", json!("bf16")), None),
        ("precision", cpu, as_is, None),
        (
            "batch-of-small-set",
            |f| f.sets[0].images = 1000,
            |s| set(s, "/pretrain/accumulate", json!(8)),
            Some(json!({"pretrain.batchSize": 64})),
        ),
        ("batch-of-small-set", |f| f.sets[0].images = 21, as_is, Some(json!({"pretrain.batchSize": 20}))),
        ("batch-of-small-set", |f| f.sets[0].images = 5000, as_is, None),
        ("batch-norm", nothing, |s| set(s, "/pretrain/batchSize", json!(64)), Some(json!({"pretrain.batchSize": 256}))),
        ("batch-norm", |f| f.sets[0].images = 900, |s| set(s, "/pretrain/batchSize", json!(64)), None),
        ("batch-norm", nothing, |s| set(s, "/pretrain/batchSize", json!(128)), None),
        // 32 of the 64 images per GPU at 0.24 GB each.
        (
            "batch-memory",
            |f| f.machine.gpus.iter_mut().for_each(|gpu| gpu.free_memory = 12 << 30),
            as_is,
            Some(json!({"pretrain.batchSize": 256})),
        ),
        ("batch-memory", nothing, as_is, None),
        (
            "batch-memory",
            |f| f.machine.gpus.iter_mut().for_each(|gpu| gpu.free_memory = 1 << 30),
            as_is,
            Some(json!({})),
        ),
        (
            "warm-up",
            nothing,
            |s| set(s, "/pretrain/batchSize", json!(2048)),
            Some(json!({"pretrain.warmupEpochs": 10})),
        ),
        ("warm-up", nothing, as_is, None),
        // 20 steps an epoch.
        (
            "epochs",
            |f| f.sets[0].images = 20 * 512 + 5,
            |s| set(s, "/pretrain/epochs", json!(10)),
            Some(json!({"pretrain.epochs": 800})),
        ),
        ("epochs", |f| f.sets[0].images = 51_200, as_is, Some(json!({"pretrain.epochs": 200}))),
        ("epochs", nothing, as_is, None),
        ("epochs", |f| f.sets[0].images = 51_200, |s| set(s, "/weights", json!("w.pth")), None),
        (
            "knn",
            |f| f.sibling_val = Some("./val".into()),
            |s| {
                set(s, "/dataset", json!({"train": "./train"}));
                without_knn(s);
            },
            Some(json!({"dataset.val": "./val", "knn": {}})),
        ),
        ("knn", nothing, |s| without_knn(s), Some(json!({"knn": {}}))),
        (
            "knn",
            |f| f.sets[0].classes = 0,
            |s| {
                set(s, "/dataset", json!({"train": "./train"}));
                without_knn(s);
            },
            Some(json!({})),
        ),
        ("knn", nothing, as_is, None),
        (
            "leak",
            |f| {
                let field = |name: &str| format!("dataset.{name}");
                let (copies, near_copies) = (one_copy(), one_copy());
                f.leaks.push(Leak { field: field("val"), train: field("train"), compared: 9, copies, near_copies });
            },
            as_is,
            Some(json!({})),
        ),
        ("leak", nothing, as_is, None),
        ("copies", |f| f.sets[0].near_copies.count = 20, as_is, Some(json!({}))),
        ("copies", |f| f.sets[0].copies.count = 19, as_is, None),
        ("blank", |f| f.sets[0].blank.add("a.jpg".into()), as_is, Some(json!({}))),
        ("blank", nothing, as_is, None),
        // 4 of 2,000 read, of 20,000: (4 + 2 · 2 + 2) · 10.
        ("max-corrupt", |f| broken(f, 4, 20_000), as_is, Some(json!({"dataset.maxCorrupt": 100}))),
        ("max-corrupt", |f| broken(f, 4, 2000), as_is, Some(json!({"dataset.maxCorrupt": 4}))),
        ("max-corrupt", |f| broken(f, 4, 2000), |s| set(s, "/dataset/maxCorrupt", json!(4)), None),
        ("max-corrupt", |f| broken(f, 101, 2000), as_is, Some(json!({}))),
        ("max-corrupt", nothing, as_is, None),
        (
            "pack",
            |f| {
                sides(f, 1000.0);
                f.rates = None;
            },
            as_is,
            Some(json!({"dataset.pack": {"maxSide": 400}})),
        ),
        // Loading is 8.7 times as fast as training.
        ("pack", |f| sides(f, 1000.0), as_is, None),
        ("pack", |f| f.rates = None, as_is, None),
        (
            "loader-threads",
            nothing,
            |s| set(s, "/dataset/loaderThreads", json!(32)),
            Some(json!({"dataset.loaderThreads": 16})),
        ),
        ("loader-threads", nothing, |s| set(s, "/dataset/loaderThreads", json!(2)), None),
        (
            "loader-threads",
            |f| f.rates = Some(Rates { loading: 5000.0, loader_threads: 2, training: 1300.0, step_images: 64 }),
            |s| set(s, "/dataset/loaderThreads", json!(2)),
            Some(json!({"dataset.loaderThreads": 16})),
        ),
        ("loader-threads", nothing, as_is, None),
        (
            "augment-device",
            |f| f.rates = Some(Rates { loading: 9000.0, loader_threads: 128, training: 1300.0, step_images: 64 }),
            as_is,
            Some(json!({"pretrain.augment.device": "gpu"})),
        ),
        ("augment-device", nothing, as_is, None),
    ];
    for (number, (rule, of_facts, of_spec, expected)) in cases.iter().enumerate() {
        assert_eq!(proposed(rule, *of_facts, *of_spec), *expected, "case {number}: {rule}");
    }
    for rule in OF_IMAGES.iter().chain(OF_RATES).copied().flatten() {
        let of_rule = |applies: bool| cases.iter().any(|case| case.0 == rule.name && case.3.is_some() == applies);
        assert!(of_rule(true) && of_rule(false), "{} needs a case that applies and one that does not", rule.name);
    }
}

#[test]
fn published_recipe_on_its_data_has_no_proposals() {
    let recipe = Recipe::from_json(&spec()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let rules: Vec<&[Rule]> = OF_IMAGES.iter().chain(OF_RATES).copied().collect();
    let (same, proposals) = apply(&rules, &facts(), &recipe).unwrap();
    assert_eq!((same, proposals), (recipe, Vec::new()));
}

#[test]
fn later_rules_see_what_earlier_ones_proposed() {
    let mut facts = facts();
    sides(&mut facts, 32.0);
    facts.sets[0].images = 1000;
    let recipe = Recipe::from_json(&spec()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let (changed, proposals) = apply(OF_IMAGES, &facts, &recipe).unwrap();
    let names: Vec<_> = proposals.iter().map(|proposal| proposal.rule).collect();
    assert_eq!(names, ["crop-size", "stem", "blur", "batch-of-small-set", "epochs"]);
    let pretrain = changed.pretrain.unwrap();
    // 1000 / 64 = 15 steps an epoch, of which 800 epochs are allowed.
    assert_eq!((pretrain.augment.crop_size, pretrain.batch_size, pretrain.epochs), (32, 64, 800));
    assert_eq!(proposals[0].changes[0].present, json!(224));
}

/// docs/advise.md lists every rule with its source.
#[test]
fn every_rule_is_documented_with_its_source() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/advise.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let rules = || OF_IMAGES.iter().chain(OF_RATES).copied().flatten();
    for rule in rules() {
        let row = rows.iter().find(|row| row.starts_with(&format!("| `{}` |", rule.name)));
        let row = row.unwrap_or_else(|| panic!("docs/advise.md has no row for rule {}", rule.name));
        // Links in the page have the name of the page that the source names.
        let plain = row.replace(['[', ']'], "");
        let first = rule.source.split([',', ':']).next().unwrap();
        assert!(plain.contains(first.trim_start_matches("docs/").trim_end_matches(".md")), "{}: {first}", rule.name);
    }
    let named = rows.iter().filter_map(|row| row.split('`').nth(1));
    for name in named {
        assert!(rules().any(|rule| rule.name == name), "docs/advise.md describes a rule {name} that does not exist");
    }
}
