//! Every operation against what Pillow and torchvision gave for the same input (`fixtures/make.py`).

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use simsiam_data::ops::{self, Blur, Filter, Layout, Normalize, Resizer};
use simsiam_data::rng::CounterRng;
use simsiam_data::{
    Crop, DecodeOptions, Decoder, EvalView, JitterOp, Renderer, RgbImage, TwoViews, ValueRange, ViewParams,
};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn image(name: &str) -> RgbImage {
    let mut image = RgbImage::default();
    // Of 16-bit images, Pillow's pixels are a range of their own.
    let options = DecodeOptions { range: ValueRange::Pillow, ..DecodeOptions::default() };
    Decoder::with(options).decode(name, &fixture(name), &mut image).unwrap();
    image
}

/// The lines of `cases.txt` whose first word is `operation`, without it.
fn cases(operation: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(fixture("cases.txt")).unwrap();
    let words = text.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let found: Vec<_> = words.filter(|words| words[0] == operation).map(|words| words[1..].to_vec()).collect();
    assert!(!found.is_empty(), "no case of {operation}");
    found
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

/// Interleaved pixels as planes.
fn planes(pixels: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect()
}

/// Planes as interleaved pixels.
fn pixels(planes: &[u8]) -> Vec<u8> {
    let count = planes.len() / 3;
    (0..count).flat_map(|pixel| [0, 1, 2].map(|channel| planes[channel * count + pixel])).collect()
}

/// Largest and mean absolute difference, in levels of 255.
fn difference(ours: &[u8], theirs: &[u8]) -> (u8, f64) {
    assert_eq!(ours.len(), theirs.len());
    let differences = || ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences().map(u64::from).sum();
    (differences().max().unwrap_or(0), sum as f64 / ours.len() as f64)
}

/// What we promise is a mean of 1 level; what we reach is equality, and the test holds us to it.
fn assert_equal(what: &str, ours: &[u8], theirs: &[u8]) {
    let (most, mean) = difference(ours, theirs);
    println!("{what}: largest difference {most}, mean {mean:.5}");
    assert!(most == 0, "{what}: largest difference {most}, mean {mean:.5} levels");
}

#[test]
fn decode_matches_pillow() {
    for case in cases("decode") {
        let [source, expected] = &case[..] else { panic!("{case:?}") };
        let (ours, theirs) = (image(source), image(expected));
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height), "{source}");
        assert_equal(source, &ours.pixels, &theirs.pixels);
    }
}

/// Runs an operation with one factor on each of its cases.
fn check_factors(operation: &str, apply: impl Fn(&mut [u8], &RgbImage, f64)) {
    for case in cases(operation) {
        let [factor, source, expected] = &case[..] else { panic!("{case:?}") };
        let source_image = image(source);
        let mut ours = planes(&source_image.pixels);
        apply(&mut ours, &source_image, number(factor));
        assert_equal(&format!("{operation} {factor} of {source}"), &pixels(&ours), &image(expected).pixels);
    }
}

#[test]
fn brightness_matches_pillow() {
    check_factors("brightness", |planes, _, factor| ops::brightness(planes, factor as f32));
}

#[test]
fn contrast_matches_pillow() {
    check_factors("contrast", |planes, _, factor| ops::contrast(planes, factor as f32));
}

#[test]
fn saturation_matches_pillow() {
    check_factors("saturation", |planes, _, factor| ops::saturation(planes, factor as f32));
}

#[test]
fn hue_matches_pillow() {
    check_factors("hue", |planes, _, factor| ops::hue(planes, factor));
}

#[test]
fn blur_matches_pillow() {
    check_factors("blur", |planes, image, sigma| {
        Blur::default().apply(planes, image.width, image.height, sigma as f32);
    });
}

#[test]
fn grayscale_matches_pillow() {
    for case in cases("grayscale") {
        let [source, expected] = &case[..] else { panic!("{case:?}") };
        let mut ours = planes(&image(source).pixels);
        ops::grayscale(&mut ours);
        assert_equal("grayscale", &pixels(&ours), &image(expected).pixels);
    }
}

#[test]
fn solarize_matches_pillow() {
    check_factors("solarize", |planes, _, threshold| ops::solarize(planes, threshold as u8));
}

#[test]
fn vertical_flip_and_turns_match_torchvision() {
    let flip: &dyn Fn(&mut [u8], usize, u8) = &|planes, side, _| ops::vertical_flip(planes, side);
    for (operation, apply) in [("vertical-flip", flip), ("turn", &ops::quarter_turns)] {
        for case in cases(operation) {
            let [arguments @ .., source, expected] = &case[..] else { panic!("{case:?}") };
            let source = image(source);
            assert_eq!(source.width, source.height);
            let mut ours = planes(&source.pixels);
            apply(&mut ours, source.width, arguments.first().map_or(0, |turns| number(turns)));
            assert_equal(&format!("{operation} {arguments:?}"), &pixels(&ours), &image(expected).pixels);
        }
    }
}

/// Each of the 2^24 colours, in ascending order.
fn every_colour() -> Vec<u8> {
    (0u32..1 << 24).flat_map(|colour| [(colour >> 16) as u8, (colour >> 8) as u8, colour as u8]).collect()
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    // 5552 bytes are the most that cannot overflow 32 bits.
    for block in bytes.chunks(5552) {
        for byte in block {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65521, b % 65521);
    }
    b << 16 | a
}

#[test]
fn color_operations_on_every_color_match_pillow() {
    let colours = planes(&every_colour());
    let check = |operation: &str, apply: &dyn Fn(&mut [u8], f64)| {
        for case in cases(operation) {
            let [factors @ .., expected] = &case[..] else { panic!("{case:?}") };
            let mut ours = colours.clone();
            apply(&mut ours, factors.first().map_or(0.0, |factor| number(factor)));
            assert_eq!(adler32(&pixels(&ours)), number::<u32>(expected), "{operation} {factors:?}");
        }
    };
    check("every-hue", &ops::hue);
    check("every-saturation", &|pixels, factor| ops::saturation(pixels, factor as f32));
    check("every-brightness", &|pixels, factor| ops::brightness(pixels, factor as f32));
    check("every-grayscale", &|pixels, _| ops::grayscale(pixels));
}

#[test]
fn crop_and_resize_matches_pillow() {
    let mut resizer = Resizer::default();
    for case in cases("crop") {
        let [left, top, width, height, size, source, expected] = &case[..] else { panic!("{case:?}") };
        let crop = Crop { left: number(left), top: number(top), width: number(width), height: number(height) };
        let size = number(size);
        let mut ours = vec![0; size * size * 3];
        resizer.resize(&image(source), crop, (size, size), Layout::Interleaved, &mut ours);
        assert_equal(&format!("{crop:?} to {size}"), &ours, &image(expected).pixels);
        resizer.resize(&image(source), crop, (size, size), Layout::Planes, &mut ours);
        assert_equal(&format!("{crop:?} to {size} as planes"), &pixels(&ours), &image(expected).pixels);
    }
}

#[test]
fn downscaling_for_packing_matches_pillow() {
    let mut resizer = Resizer::with(Filter::Lanczos);
    for case in cases("lanczos") {
        let [width, height, source, expected] = &case[..] else { panic!("{case:?}") };
        let (source, size) = (image(source), (number(width), number(height)));
        let whole = Crop { left: 0, top: 0, width: source.width, height: source.height };
        let mut ours = vec![0; size.0 * size.1 * 3];
        resizer.resize(&source, whole, size, Layout::Interleaved, &mut ours);
        assert_equal(&format!("to {size:?}"), &ours, &image(expected).pixels);
    }
}

#[test]
fn evaluation_view_matches_torchvision() {
    let mut renderer = Renderer::default();
    for case in cases("eval") {
        let [resize, crop, source, expected] = &case[..] else { panic!("{case:?}") };
        let view = EvalView { resize: number(resize), crop: number(crop), mean: vec![0.0; 3], std: vec![1.0; 3] };
        let ours = renderer.eval_pixels(&image(source), &view);
        assert_equal(&format!("{resize} {crop} of {source}"), &pixels(ours), &image(expected).pixels);
    }
}

#[test]
fn whole_view_matches_torchvision() {
    let mut renderer = Renderer::default();
    for case in cases("view") {
        let [left, top, width, height, size, order, b, c, s, h, gray, sigma, flip, more @ .., source, expected] =
            &case[..]
        else {
            panic!("{case:?}")
        };
        let (solarize, vertical_flip, quarter_turns) = match more {
            [] => (None, false, 0),
            // -1 is no solarisation.
            [threshold, flip, turns] => (u8::try_from(number::<i32>(threshold)).ok(), flip == "1", number(turns)),
            _ => panic!("{case:?}"),
        };
        let op = |key| match key {
            'b' => JitterOp::Brightness(number(b)),
            'c' => JitterOp::Contrast(number(c)),
            's' => JitterOp::Saturation(number(s)),
            _ => JitterOp::Hue(number(h)),
        };
        let jitter: Vec<JitterOp> = order.chars().filter(|key| *key != '-').map(op).collect();
        let sigma: f32 = number(sigma);
        let params = ViewParams {
            crop: Crop { left: number(left), top: number(top), width: number(width), height: number(height) },
            jitter: jitter.try_into().ok(),
            grayscale: gray == "1",
            blur: (sigma > 0.0).then_some(sigma),
            solarize,
            flip: flip == "1",
            vertical_flip,
            quarter_turns,
        };
        let size = number(size);
        let normalize = Normalize::new([0.0; 3], [1.0; 3]);
        let mut planes = vec![0.0; 3 * size * size];
        renderer.view(&image(source), &params, size, &normalize, &mut planes);
        let ours: Vec<u8> = (0..size * size)
            .flat_map(|pixel| [0, 1, 2].map(|channel| (planes[channel * size * size + pixel] * 255.0).round() as u8))
            .collect();
        assert_equal(&format!("{params:?}"), &ours, &image(expected).pixels);
    }
}

#[test]
fn normalised_values_match_bit_for_bit() {
    let expected: Vec<u32> = cases("normalize")[0].iter().map(|bits| u32::from_str_radix(bits, 16).unwrap()).collect();
    let ramp: Vec<u8> = (0..3).flat_map(|_| 0..=255).collect();
    let views = TwoViews::default();
    let normalize = Normalize::new(&views.mean, &views.std);
    for (flip, width) in [(false, 1), (true, 1), (false, 16), (true, 16), (true, 256)] {
        let mut planes = vec![0.0f32; 768];
        normalize.apply(&ramp, width, flip, &mut planes);
        let mut ours: Vec<u32> = planes.iter().map(|value| value.to_bits()).collect();
        if flip {
            ours.chunks_exact_mut(width).for_each(<[u32]>::reverse);
        }
        assert_eq!(ours, expected, "flip {flip}, width {width}");
    }
}

#[test]
fn crops_follow_torchvision_distribution() {
    const DRAWS: u64 = 40_000;
    let views = TwoViews::default();
    for case in cases("draws") {
        let (width, height) = (number(&case[0]), number(&case[1]));
        let mut sums = [[0.0f64; 2]; 4];
        for sample in 0..DRAWS {
            let crop = views.draw(&mut CounterRng::view(0, 0, sample, 0), 0, width, height).crop;
            assert!(crop.left + crop.width <= width && crop.top + crop.height <= height, "{crop:?}");
            for (sum, value) in sums.iter_mut().zip([crop.left, crop.top, crop.width, crop.height]) {
                sum[0] += value as f64;
                sum[1] += (value * value) as f64;
            }
        }
        for (sum, theirs) in sums.iter().zip(case[2..].chunks_exact(2)) {
            let mean = sum[0] / DRAWS as f64;
            let deviation = (sum[1] / DRAWS as f64 - mean * mean).max(0.0).sqrt();
            let (their_mean, their_deviation): (f64, f64) = (number(&theirs[0]), number(&theirs[1]));
            // Both means are of as many draws: four standard errors of their difference.
            let allowed = 4.0 * their_deviation * (2.0 / DRAWS as f64).sqrt() + 1e-4;
            assert!((mean - their_mean).abs() <= allowed, "{width}x{height}: mean {mean}, theirs {their_mean}");
            assert!(
                (deviation - their_deviation).abs() <= 0.03 * their_deviation + 1e-4,
                "{deviation} {their_deviation}"
            );
        }
    }
}

#[test]
fn other_parameters_follow_torchvision_distribution() {
    const DRAWS: u64 = 40_000;
    let views = TwoViews::default();
    let params: Vec<ViewParams> =
        (0..DRAWS).map(|sample| views.draw(&mut CounterRng::view(1, 0, sample, 1), 1, 100, 100)).collect();
    let share = |what: &dyn Fn(&ViewParams) -> bool| params.iter().filter(|p| what(p)).count() as f64 / DRAWS as f64;
    for (measured, expected) in [
        (share(&|p| p.jitter.is_some()), 0.8),
        (share(&|p| p.grayscale), 0.2),
        (share(&|p| p.blur.is_some()), 0.5),
        (share(&|p| p.flip), 0.5),
        // Independent of one another.
        (share(&|p| p.flip && p.blur.is_some() && p.jitter.is_some()), 0.2),
    ] {
        assert!((measured - expected).abs() < 0.01, "{measured} {expected}");
    }
    let uniform = |name: &str, values: Vec<f64>, low: f64, high: f64| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(values.iter().all(|value| (low - 1e-6..=high + 1e-6).contains(value)), "{name}");
        assert!((mean - (low + high) / 2.0).abs() < 0.01 * (high - low), "{name}: mean {mean}");
        assert!((deviation - (high - low) / 12f64.sqrt()).abs() < 0.01 * (high - low), "{name}: {deviation}");
    };
    uniform("blur", params.iter().filter_map(|p| p.blur.map(f64::from)).collect(), 0.1, 2.0);
    let ops: Vec<JitterOp> = params.iter().filter_map(|p| p.jitter).flatten().collect();
    let of = |pick: &dyn Fn(&JitterOp) -> Option<f64>| ops.iter().filter_map(pick).collect::<Vec<f64>>();
    uniform(
        "brightness",
        of(&|op| if let JitterOp::Brightness(f) = op { Some(f64::from(*f)) } else { None }),
        0.6,
        1.4,
    );
    uniform("contrast", of(&|op| if let JitterOp::Contrast(f) = op { Some(f64::from(*f)) } else { None }), 0.6, 1.4);
    uniform(
        "saturation",
        of(&|op| if let JitterOp::Saturation(f) = op { Some(f64::from(*f)) } else { None }),
        0.6,
        1.4,
    );
    uniform("hue", of(&|op| if let JitterOp::Hue(f) = op { Some(*f) } else { None }), -0.1, 0.1);
    let mut orders: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for jitter in params.iter().filter_map(|p| p.jitter) {
        let kinds = jitter.iter().map(|op| match op {
            JitterOp::Brightness(_) => b'b',
            JitterOp::Contrast(_) => b'c',
            JitterOp::Saturation(_) => b's',
            JitterOp::Hue(_) => b'h',
        });
        *orders.entry(kinds.collect()).or_default() += 1;
    }
    // 32,000 jitters over 24 orders: 1,333 each, ± five standard deviations.
    assert_eq!(orders.len(), 24);
    assert!(orders.values().all(|count| (1150..1520).contains(count)), "{orders:?}");
}
