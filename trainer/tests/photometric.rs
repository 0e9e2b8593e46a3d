//! The photometric part of the augmentation on the device agrees with the CPU's, sample by sample.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::sync::Arc;

use simsiam::data::photometric::Photometric;
use simsiam_data::synth::{self, SynthOptions};
use simsiam_data::{ImageFolder, Jitter, JitterOp, Loader, LoaderOptions, Probabilities, TwoViews, ViewFormat};
use tch::{Device, Tensor};

const N: usize = 60;
const SIDE: usize = 32;

/// All batches of one epoch, as planes and as crops.
fn both(views: &TwoViews) -> Vec<(simsiam_data::Batch, simsiam_data::Batch)> {
    let folder = tempfile::tempdir().unwrap();
    let options = SynthOptions { train_per_class: 24, val_per_class: 1, size: 48, seed: 3 };
    synth::write(folder.path(), &options, &mut |_, _| {}).unwrap();
    let source = Arc::new(ImageFolder::open(&folder.path().join("train")).unwrap());
    let load = |output| {
        let options = LoaderOptions { batch: N, output, ..LoaderOptions::default() };
        Loader::two_views(source.clone(), views.clone(), options).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    load(ViewFormat::Planes).into_iter().zip(load(ViewFormat::Crops)).collect()
}

/// Largest and mean difference in levels of 0 to 255, undoing the division by the standard deviation.
fn difference(views: &TwoViews) -> (f64, f64) {
    let photometric = Photometric::new(&views.mean, &views.std, Device::Cpu).unwrap();
    let std = Tensor::from_slice(&views.std.iter().map(|&s| s as f32).collect::<Vec<_>>()).reshape([1, 3, 1, 1]);
    let (mut largest, mut sum, mut count) = (0.0f64, 0.0, 0.0);
    for (planes, crops) in both(views) {
        assert_eq!(planes.ids, crops.ids);
        for i in 0..2 {
            let (n, s) = (N as i64, SIDE as i64);
            let expected = Tensor::from_slice(&planes.views[i]).reshape([n, 3, s, s]);
            let crop = Tensor::from_slice(&crops.crops[i]).reshape([n, s, s, 3]);
            let found = photometric.apply(&crop, &crops.params[i]).unwrap();
            let levels = (found - expected).abs() * &std * 255.0;
            largest = largest.max(levels.max().double_value(&[]));
            sum += levels.sum(tch::Kind::Double).double_value(&[]);
            count += levels.numel() as f64;
        }
    }
    (largest, sum / count)
}

fn views() -> TwoViews {
    TwoViews { crop_size: SIDE as u32, ..TwoViews::default() }
}

#[test]
fn gpu_augmentation_agrees_with_the_cpu_within_two_levels() {
    let (largest, mean) = difference(&views());
    assert!(largest <= 2.0, "largest difference {largest} levels");
    assert!(mean < 0.01, "mean difference {mean} levels");
}

/// With the first view solarised, flipped and turned, and the second as usual.
#[test]
fn gpu_augmentation_of_each_view_agrees_with_the_cpu_within_two_levels() {
    let usual = Probabilities::default();
    let first = Probabilities { solarize: 0.5, vertical_flip: 0.5, quarter_turn: 0.75, ..usual };
    let (largest, mean) = difference(&TwoViews { probabilities: [first, usual], ..views() });
    assert!(largest <= 2.0, "largest difference {largest} levels");
    assert!(mean < 0.01, "mean difference {mean} levels");
}

#[test]
fn gpu_operation_agrees_with_the_cpu() {
    let with = |probabilities| TwoViews { probabilities: [probabilities; 2], ..views() };
    let none = Probabilities::NONE;
    let still = TwoViews {
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        ..with(Probabilities { jitter: 1.0, ..none })
    };
    for (name, views) in [
        ("normalisation", with(none)),
        ("flip", with(Probabilities { flip: 1.0, ..none })),
        ("vertical flip", with(Probabilities { vertical_flip: 1.0, ..none })),
        ("turns", with(Probabilities { quarter_turn: 1.0, ..none })),
        ("flips and turns", with(Probabilities { flip: 0.5, vertical_flip: 0.5, quarter_turn: 0.75, ..none })),
        ("solarisation", with(Probabilities { solarize: 1.0, ..none })),
        ("solarisation of most", TwoViews { solarize_threshold: 60, ..with(Probabilities { solarize: 0.5, ..none }) }),
        ("grayscale", with(Probabilities { grayscale: 1.0, ..none })),
        ("blur", TwoViews { blur_sigma: [0.1, 5.0], ..with(Probabilities { blur: 1.0, ..none }) }),
        ("brightness", TwoViews { brightness: 0.8, ..still.clone() }),
        ("contrast", TwoViews { contrast: 0.8, ..still.clone() }),
        ("saturation", TwoViews { saturation: 0.8, ..still.clone() }),
        ("hue", TwoViews { hue: 0.5, ..still.clone() }),
    ] {
        let (largest, _) = difference(&views);
        assert!(largest <= 1.01, "{name}: {largest} levels");
    }
}

#[test]
fn jitter_order_is_drawn_per_sample() {
    let mut seen = std::collections::HashSet::new();
    let order =
        |jitter: &Jitter| jitter.iter().map(std::mem::discriminant).collect::<Vec<std::mem::Discriminant<JitterOp>>>();
    for (_, crops) in both(&views()) {
        seen.extend(crops.params.iter().flatten().filter_map(|p| p.jitter.as_ref()).map(order));
    }
    assert!(seen.len() > 15, "of 24 orders only {} were drawn, so the agreement above shows little", seen.len());
}
