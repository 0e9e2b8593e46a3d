//! Alternation and the two-pair asymmetric loss through the whole stage, against loops by hand: the same bits.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use simsiam::checkpoint::{snapshot, store};
use simsiam::data::datasets::two_views;
use simsiam::dist::BucketSizes;
use simsiam::dist::rank::Rank;
use simsiam::model::{Outputs, Pass, SimSiam};
use simsiam::stage::pretrain::{self, PretrainInput};
use simsiam::storage::Storage;
use simsiam::training::schedule::LearningRate;
use simsiam::training::sgd::Sgd;
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{Batch, ImageFolder, Loader, LoaderOptions};
use simsiam_recipe::Recipe;
use tch::{Device, Kind, Tensor};

const EPOCHS: u64 = 2;
const STEPS_PER_EPOCH: u64 = 5;
const BATCH: usize = 16;

/// 80 images: five batches of 16.
fn images() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_per_class: 8, val_per_class: 1, size: 24, seed: 1 };
        synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
        folder
    });
    folder.path()
}

fn recipe(output: &Path, pretrain: Value) -> Recipe {
    let mut spec = json!({
        "dataset": {"train": images().join("train")},
        "output": {"uri": output},
        "pretrain": {
            "arch": "resnet18", "stem": "cifar", "baseWidth": 4, "dim": 16, "predDim": 8,
            "projector": {"layers": 2, "hiddenDim": 16}, "epochs": EPOCHS, "batchSize": BATCH, "lr": 0.3, "seed": 3,
            "augment": {"cropSize": 16, "blurProb": 0},
        },
        "checkpoint": {"everyEpochs": 0, "everySteps": 2, "keepLast": 100},
    });
    for (name, value) in pretrain.as_object().unwrap() {
        spec["pretrain"][name] = value.clone();
    }
    Recipe::from_json(&spec).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// Runs the stage and gives the SHA-256 of the weights and buffers at its end.
fn stage(output: &Path, pretrain: Value) -> String {
    let recipe = recipe(output, pretrain);
    let rank = Rank::alone(1).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let storage = Storage::open(&recipe.output, runtime.handle().clone()).unwrap();
    let input = PretrainInput { recipe: &recipe, storage, attempt: 1, buckets: BucketSizes::default() };
    pretrain::run(&rank, input).unwrap().weights_sha256.unwrap()
}

fn trained(pretrain: Value) -> String {
    stage(tempfile::tempdir().unwrap().path(), pretrain)
}

/// Trains by hand: `step` does with an epoch's batches, once for each pair of views, what makes the weights.
fn by_hand(pretrain: Value, pairs: &[u8], mut epoch: impl FnMut(&mut ByHand, Vec<Vec<[Tensor; 2]>>)) -> String {
    Rank::alone(1).unwrap();
    let recipe = recipe(Path::new("unused"), pretrain).pretrain.unwrap();
    let source = Arc::new(ImageFolder::open(&images().join("train")).unwrap());
    let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu).unwrap();
    let sgd = Sgd::simsiam(model.params(), recipe.momentum, recipe.weight_decay).unwrap();
    let rates = LearningRate::new(&recipe, STEPS_PER_EPOCH);
    let old = SimSiam::new(&recipe, Kind::Float, Device::Cpu).unwrap();
    let mut hand = ByHand { model, old, sgd, rates, step: 0 };
    for number in 0..EPOCHS {
        let load = |&first_view: &u8| {
            let options =
                LoaderOptions { seed: 3, epoch: number, batch: BATCH, first_view, ..LoaderOptions::default() };
            let loader = Loader::two_views(source.clone(), two_views(&recipe.augment), options).unwrap();
            loader.map(|batch| tensors(&batch.unwrap())).collect()
        };
        epoch(&mut hand, pairs.iter().map(load).collect());
    }
    assert_eq!(hand.step, EPOCHS * STEPS_PER_EPOCH);
    store::sha256(&snapshot::model_file(hand.model.params()).unwrap())
}

fn tensors(batch: &Batch) -> [Tensor; 2] {
    let shape = batch.shape.map(|n| n as i64);
    [0, 1].map(|i| Tensor::from_slice(&batch.views[i]).reshape(shape))
}

struct ByHand {
    model: SimSiam,
    /// A second network, to hold the weights of an earlier step.
    old: SimSiam,
    sgd: Sgd,
    rates: LearningRate,
    step: u64,
}

impl ByHand {
    fn update(&mut self, losses: impl Fn(&SimSiam) -> Vec<Outputs>) {
        self.sgd.zero_grad().unwrap();
        let outputs = losses(&self.model);
        for part in &outputs {
            (&part.loss / outputs.len() as f64).backward();
        }
        self.sgd.step(&self.rates.at(self.step).groups()).unwrap();
        self.step += 1;
    }

    /// Copies the weights into the old network.
    fn remember(&self) {
        for (old, new) in self.old.params().entries().iter().zip(self.model.params().entries()) {
            tch::no_grad(|| old.tensor.shallow_clone().copy_(&new.tensor));
        }
    }
}

#[test]
fn alternation_of_one_step_equals_simsiam() {
    for more in [json!({}), json!({"accumulate": 2}), json!({"precision": "bf16"})] {
        let mut alternating = more.clone();
        alternating["alternation"] = json!({"steps": 1});
        assert_eq!(trained(alternating), trained(more.clone()), "{more}");
    }
    assert_ne!(trained(json!({"alternation": {"steps": 3}})), trained(json!({})), "three steps must not be one");
}

/// Intervals of three and two steps an epoch, or of all five: all steps of one have the targets that the network of its
/// beginning gives.
#[test]
fn interval_uses_the_targets_of_its_start() {
    for (alternation, steps) in [(json!({"steps": 3}), 3), (json!({"epoch": true}), 5)] {
        let expected = by_hand(json!({}), &[0], |hand, pairs| {
            for interval in pairs[0].chunks(steps) {
                hand.remember();
                let target = |view: &Tensor| hand.old.project(view, Pass::train(None)).unwrap().detach();
                let targets: Vec<_> = interval.iter().map(|[one, two]| [target(one), target(two)]).collect();
                for ([one, two], [z1, z2]) in interval.iter().zip(&targets) {
                    hand.update(|model| vec![model.forward_towards([one, two], [z1, z2], Pass::train(None)).unwrap()]);
                }
            }
        });
        assert_eq!(trained(json!({"alternation": alternation})), expected, "{steps} steps");
    }
}

#[test]
fn asymmetric_double_draws_four_views() {
    let pretrain = json!({"ablation": "asymmetricDouble"});
    let expected = by_hand(pretrain.clone(), &[0, 2], |hand, pairs| {
        for (first, second) in pairs[0].iter().zip(&pairs[1]) {
            assert!(!first[0].equal(&second[0]) && !first[1].equal(&second[1]), "four different views");
            hand.update(|model| {
                [first, second]
                    .map(|[one, two]| model.forward([one, two], Pass::train(None)).unwrap())
                    .into_iter()
                    .collect()
            });
        }
    });
    assert_eq!(trained(pretrain), expected);
}

fn checkpoints(output: &Path) -> Vec<(u64, PathBuf)> {
    let folders = std::fs::read_dir(output.join("checkpoints")).unwrap();
    let step = |path: &Path| path.file_name().unwrap().to_str().unwrap()[5..14].parse().unwrap();
    let mut found: Vec<_> = folders.map(|f| f.unwrap().path()).map(|path| (step(&path), path)).collect();
    found.sort();
    found
}

/// `everySteps: 2` falls due within intervals of three and two steps; each checkpoint waits for its interval's end, and a
/// run that resumes from one ends with the same bits.
#[test]
fn checkpoint_waits_for_the_end_of_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let pretrain = json!({"alternation": {"steps": 3}});
    let undisturbed = stage(folder.path(), pretrain.clone());
    let steps = |found: &[(u64, PathBuf)]| found.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(steps(&checkpoints(folder.path())), [3, 5, 8, 10]);
    for (step, path) in checkpoints(folder.path()) {
        if step > 3 {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    assert_eq!(stage(folder.path(), pretrain), undisturbed);
    assert_eq!(steps(&checkpoints(folder.path())), [3, 5, 8, 10], "resumed after step 3, not from the beginning");
}
