//! Presets and defaults against the published figures.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use simsiam_recipe::{
    Arch, Augment, AugmentPreset, LinearOptimizer, LinearPreset, Preset, Pretrain, Recipe, RunFile, Schedule,
    SecondView, Stem,
};

fn run(spec: &str) -> Recipe {
    let text = format!(
        "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
         dataset: {{train: ./a, val: ./b}}\n  output: {{uri: ./out}}\n  {spec}\n"
    );
    RunFile::parse(&text, "run.yaml").unwrap_or_else(|error| panic!("{error}")).recipe
}

fn pretrain(fields: &str) -> Pretrain {
    run(&format!("pretrain: {{{fields}}}")).pretrain.expect("pretrain")
}

#[test]
fn defaults_match_paper() {
    let p = pretrain("");
    assert_eq!(p, Pretrain::default());
    assert_eq!((p.arch, p.stem, p.base_width), (Arch::Resnet50, Stem::Imagenet, 64));
    assert_eq!((p.epochs, p.batch_size, p.warmup_epochs, p.accumulate), (100, 512, 0, 1));
    assert_eq!((p.lr, p.momentum, p.weight_decay), (0.05, 0.9, 1e-4));
    assert_eq!((p.schedule, p.fix_pred_lr, p.seed), (Schedule::CosinePerEpoch, true, 0));
    assert_eq!((p.projector.layers, p.projector_hidden_dim(), p.dim, p.pred_dim), (3, 2048, 2048, 512));
    assert_eq!((p.collapse.patience_steps, p.collapse.threshold), (None, 0.2));
    let a = &p.augment;
    assert_eq!((a.crop_size, a.min_scale, a.max_scale, a.eval_resize()), (224, 0.2, 1.0, 256));
    assert_eq!((a.jitter_prob, a.brightness, a.contrast, a.saturation, a.hue), (0.8, 0.4, 0.4, 0.4, 0.1));
    assert_eq!((a.grayscale_prob, a.blur_prob, a.blur_sigma, a.flip_prob), (0.2, 0.5, [0.1, 2.0], 0.5));
    assert_eq!(
        (a.vertical_flip_prob, a.quarter_turn_prob, a.solarize_prob, a.solarize_threshold),
        (0.0, 0.0, 0.0, 128)
    );
    assert_eq!((&a.preset, &a.second_view), (&None, &SecondView::default()));
    assert_eq!((&a.mean[..], &a.std[..]), (&[0.485, 0.456, 0.406][..], &[0.229, 0.224, 0.225][..]));

    let run = run("knn: {}");
    let knn = run.knn.expect("knn");
    let protocols: Vec<_> = knn.protocols.iter().map(|p| (p.k, p.temperature)).collect();
    assert_eq!(protocols, [(200, 0.1), (20, 0.07)]);
    assert_eq!((knn.every_epochs, knn.batch_size), (0, 256));
    assert_eq!((run.pretrain, run.linear, run.export.len()), (None, None, 0));
    let checkpoint = run.checkpoint;
    assert_eq!(
        (checkpoint.every_steps, checkpoint.every_epochs, checkpoint.keep_last, checkpoint.keep_every_epochs),
        (None, 1, 3, 0)
    );
}

/// lr, weight decay, epochs, batch size, fixPredLr.
#[test]
fn presets_match_published_recipes() {
    for (name, preset, lr, decay, epochs, batch, fixed) in [
        ("imagenet-100ep", Preset::Imagenet100ep, 0.05, 1e-4, 100, 512, true),
        ("imagenet-100ep-bs256", Preset::Imagenet100epBs256, 0.05, 1e-4, 100, 256, true),
        ("transfer-optimal", Preset::TransferOptimal, 0.5, 1e-5, 200, 512, true),
        ("paper-baseline", Preset::PaperBaseline, 0.05, 1e-4, 100, 512, false),
        ("cifar10", Preset::Cifar10, 0.03, 5e-4, 800, 512, true),
    ] {
        let p = pretrain(&format!("preset: {name}"));
        assert_eq!(p.preset, Some(preset), "{name}");
        assert_eq!((p.lr, p.weight_decay, p.epochs, p.batch_size), (lr, decay, epochs, batch), "{name}");
        assert_eq!((p.fix_pred_lr, p.momentum, p.dim, p.pred_dim), (fixed, 0.9, 2048, 512), "{name}");
        assert_eq!(p.schedule, Schedule::CosinePerEpoch, "{name}");
        if preset != Preset::Cifar10 {
            assert_eq!((p.arch, p.stem, p.projector.layers), (Arch::Resnet50, Stem::Imagenet, 3), "{name}");
            assert_eq!(p.augment, Pretrain::default().augment, "{name}");
        }
    }
    let cifar = pretrain("preset: cifar10");
    assert_eq!((cifar.arch, cifar.stem), (Arch::Resnet18, Stem::Cifar));
    assert_eq!((cifar.projector.layers, cifar.projector_hidden_dim()), (2, 2048));
    assert_eq!((cifar.augment.crop_size, cifar.augment.blur_prob, cifar.augment.eval_resize()), (32, 0.0, 32));
    assert_eq!(cifar.augment.jitter_prob, 0.8);
}

#[test]
fn linear_presets_match_published_recipes() {
    let (lars, sgd) = (LinearOptimizer::Lars, LinearOptimizer::Sgd);
    for (fields, preset, optimizer, lr, batch) in [
        ("", None, lars, 0.1, 4096),
        ("preset: linear-lars", Some(LinearPreset::LinearLars), lars, 0.1, 4096),
        ("preset: linear-paper", Some(LinearPreset::LinearPaper), lars, 0.02, 4096),
        ("preset: linear-sgd", Some(LinearPreset::LinearSgd), sgd, 30.0, 256),
    ] {
        let l = run(&format!("linear: {{{fields}}}")).linear.expect("linear");
        assert_eq!((l.preset, l.optimizer, l.lr, l.batch_size), (preset, optimizer, lr, batch));
        assert_eq!((l.epochs, l.momentum, l.weight_decay), (90, 0.9, 0.0));
        assert_eq!((l.trust_coefficient, l.seed), (0.001, 0));
    }
}

/// As in the table of `docs/views.md`.
#[test]
fn augment_presets_set_what_is_documented() {
    let augment = |name: &str| pretrain(&format!("augment: {{preset: {name}}}")).augment;
    let usual = Augment::default();
    let aerial = Augment { preset: Some(AugmentPreset::Aerial), quarter_turn_prob: 0.75, hue: 0.05, ..usual.clone() };
    assert_eq!(augment("aerial"), aerial);
    let microscopy = Augment {
        preset: Some(AugmentPreset::Microscopy),
        quarter_turn_prob: 0.75,
        min_scale: 0.4,
        saturation: 0.2,
        hue: 0.05,
        grayscale_prob: 0.0,
        blur_sigma: [0.1, 1.0],
        ..usual.clone()
    };
    assert_eq!(augment("microscopy"), microscopy);
    let medical = Augment {
        preset: Some(AugmentPreset::Medical),
        min_scale: 0.5,
        saturation: 0.0,
        hue: 0.0,
        grayscale_prob: 0.0,
        blur_prob: 0.0,
        ..usual
    };
    assert_eq!(augment("medical"), medical);
    for preset in AugmentPreset::ALL {
        assert_eq!(serde_json::to_value(preset).expect("a name"), preset.name());
        assert_eq!(augment(preset.name()).preset, Some(preset));
    }
}

/// The user's fields, then the preset of `augment`, then that of `pretrain`.
#[test]
fn augment_preset_is_between_the_user_and_the_pretrain_preset() {
    let augment =
        pretrain("preset: cifar10, augment: {preset: microscopy, hue: 0.2, secondView: {blurProb: 1}}").augment;
    assert_eq!((augment.hue, augment.saturation, augment.quarter_turn_prob), (0.2, 0.2, 0.75));
    assert_eq!((augment.crop_size, augment.blur_prob, augment.eval_resize()), (32, 0.0, 32));
    assert_eq!(augment.second_view, SecondView { blur_prob: Some(1.0), ..SecondView::default() });
}

/// What the user writes wins, also where it equals a default, and inside nested objects.
#[test]
fn user_field_overrides_preset() {
    let p = pretrain("preset: cifar10, epochs: 100, augment: {blurProb: 0.5}, projector: {layers: 3}");
    assert_eq!((p.epochs, p.augment.blur_prob, p.projector.layers), (100, 0.5, 3));
    assert_eq!((p.lr, p.augment.crop_size, p.projector.hidden_dim), (0.03, 32, Some(2048)));
    let l = run("linear: {preset: linear-paper, lr: 0.1}").linear.expect("linear");
    assert_eq!(l.lr, 0.1);
}

/// A preset that named a field that does not exist would be refused wherever it is used.
#[test]
fn every_preset_is_listed_and_valid() {
    let names = simsiam_recipe::schema();
    let names = &names["properties"]["pretrain"]["properties"]["preset"]["enum"];
    assert_eq!(names.as_array().map(Vec::len), Some(Preset::ALL.len()));
    for preset in Preset::ALL {
        let mut fields = preset.fields();
        fields["preset"] = serde_json::to_value(preset).expect("a name");
        let recipe = serde_json::json!({"dataset": {"train": "a"}, "output": {"uri": "b"}, "pretrain": fields});
        Recipe::from_json(&recipe).unwrap_or_else(|wrong| panic!("{preset:?}: {wrong:?}"));
    }
    let names = simsiam_recipe::schema();
    let names = &names["properties"]["pretrain"]["properties"]["augment"]["properties"]["preset"]["enum"];
    assert_eq!(names.as_array().map(Vec::len), Some(AugmentPreset::ALL.len()));
    for preset in AugmentPreset::ALL {
        let recipe = serde_json::json!({
            "dataset": {"train": "a"}, "output": {"uri": "b"}, "pretrain": {"augment": preset.fields()},
        });
        Recipe::from_json(&recipe).unwrap_or_else(|wrong| panic!("{preset:?}: {wrong:?}"));
    }
    for preset in LinearPreset::ALL {
        let recipe = serde_json::json!({
            "dataset": {"train": "a", "val": "b"}, "output": {"uri": "b"}, "linear": preset.fields(),
        });
        Recipe::from_json(&recipe).unwrap_or_else(|wrong| panic!("{preset:?}: {wrong:?}"));
    }
}

#[test]
fn feature_width_of_each_arch_matches_torchvision() {
    for (arch, base_width, width) in [
        (Arch::Resnet18, 64, 512),
        (Arch::Resnet34, 64, 512),
        (Arch::Resnet50, 64, 2048),
        (Arch::Resnet101, 64, 2048),
        (Arch::Resnet152, 64, 2048),
        (Arch::WideResnet50_2, 64, 2048),
        (Arch::WideResnet101_2, 64, 2048),
        (Arch::Resnext50_32x4d, 64, 2048),
        (Arch::Resnext101_32x8d, 64, 2048),
        (Arch::Resnext101_64x4d, 64, 2048),
        (Arch::Resnet18, 16, 128),
        (Arch::Resnet50, 16, 512),
    ] {
        let p = Pretrain { arch, base_width, ..Pretrain::default() };
        assert_eq!(p.feature_width(), width, "{arch} {base_width}");
        assert_eq!(p.projector_hidden_dim(), width, "{arch} {base_width}");
        assert_eq!(serde_json::to_value(arch).expect("a name"), arch.name());
    }
}
