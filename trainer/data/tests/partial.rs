//! What a decode of a part promises: the very pixels, and the very verdict, of a decode of the whole.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::PathBuf;

use simsiam_data::ops::{Layout, Resizer};
use simsiam_data::rng::CounterRng;
use simsiam_data::{Crop, DecodeMode, Decoder, Part, RgbImage, TwoViews, Wanted};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Coloured noise over slopes, in which no two neighbours are alike.
fn picture(width: usize, height: usize) -> RgbImage {
    let mut rng = CounterRng::named(0, "picture");
    let mut image = RgbImage::new(width, height);
    for (place, value) in image.pixels.iter_mut().enumerate() {
        let (x, y) = (place / 3 % width, place / 3 / width);
        *value = ((x * 3 + y * 2 + place % 3 * 70) as u32 % 200 + rng.next_u32() % 56) as u8;
    }
    image
}

fn jpeg(image: &RgbImage, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(90).unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_progressive(progressive).unwrap();
    let (width, height) = (image.width, image.height);
    let pixels = Image { pixels: &image.pixels[..], width, height, pitch: width * 3, format: PixelFormat::RGB };
    compressor.compress_to_vec(pixels).unwrap()
}

fn whole(bytes: &[u8]) -> RgbImage {
    let mut image = RgbImage::default();
    Decoder::new().decode("whole", bytes, &mut image).unwrap();
    image
}

fn part(bytes: &[u8], mode: DecodeMode, bounds: Crop, shrink: f64) -> Part {
    let mut part = Part::default();
    Decoder::new().decode_part("part", bytes, mode, &mut |_, _| Wanted { bounds, shrink }, &mut part).unwrap();
    part
}

/// Whether every pixel within `bounds` is the whole image's.
fn assert_exact(what: &str, bytes: &[u8], whole: &RgbImage, bounds: Crop) {
    let part = part(bytes, DecodeMode::Exact, bounds, 1.0);
    let (left, top) = part.origin;
    assert!(left <= bounds.left && top <= bounds.top, "{what} {bounds:?}");
    assert!(left + part.image.width >= bounds.left + bounds.width, "{what} {bounds:?}");
    assert!(top + part.image.height >= bounds.top + bounds.height, "{what} {bounds:?}");
    let row = |image: &RgbImage, x: usize, y: usize| {
        let start = (y * image.width + x) * 3;
        image.pixels[start..start + bounds.width * 3].to_vec()
    };
    for y in bounds.top..bounds.top + bounds.height {
        let (ours, theirs) = (row(&part.image, bounds.left - left, y - top), row(whole, bounds.left, y));
        assert!(ours == theirs, "{what} {bounds:?}: row {y} differs");
    }
}

const KINDS: [Subsamp; 6] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Gray, Subsamp::Sub1x2, Subsamp::Sub4x1];

#[test]
fn partial_decode_equals_whole_decode() {
    let mut rng = CounterRng::named(0, "parts");
    for (width, height) in [(150, 101), (97, 130), (33, 17), (16, 16), (5, 40), (2, 2), (1, 1), (1, 300)] {
        for kind in KINDS {
            for progressive in [false, true] {
                let bytes = jpeg(&picture(width, height), kind, progressive);
                let whole = whole(&bytes);
                for _ in 0..60 {
                    let mut stretch = |all: usize| {
                        let start = rng.below(all as u64) as usize;
                        (start, 1 + rng.below((all - start) as u64) as usize)
                    };
                    let ((left, width), (top, height)) = (stretch(width), stretch(height));
                    let what = format!("{kind:?}, progressive {progressive}, {}x{}", whole.width, whole.height);
                    assert_exact(&what, &bytes, &whole, Crop { left, top, width, height });
                }
            }
        }
    }
}

/// Each row and column as an edge: where interpolation of colours meets the borders of blocks.
#[test]
fn partial_decode_is_exact_at_edges() {
    let (width, height) = (70, 66);
    for kind in [Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2] {
        let bytes = jpeg(&picture(width, height), kind, false);
        let whole = whole(&bytes);
        for edge in 0..66 {
            for bounds in [
                Crop { left: edge, top: 20, width: width - edge, height: 9 },
                Crop { left: 0, top: 20, width: edge + 1, height: 9 },
                Crop { left: 20, top: edge, width: 9, height: height - edge },
                Crop { left: 20, top: 0, width: 9, height: edge + 1 },
                Crop { left: edge, top: edge, width: 1, height: 1 },
            ] {
                assert_exact(&format!("{kind:?}"), &bytes, &whole, bounds);
            }
        }
    }
}

#[test]
fn partial_decode_of_every_kind_gives_same_crops() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let mut rng = CounterRng::named(0, "fixtures");
    for name in [
        "420.jpg",
        "422.jpg",
        "444.jpg",
        "gray.jpg",
        "progressive.JPEG",
        "cmyk.jpg",
        "ycck.jpg",
        "extraneous.jpg",
        "exif-rotated.jpg",
        "rgb8.png",
        "palette4.png",
        "gray16.png",
        "interlaced.png",
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let whole = whole(&bytes);
        let (mut resizer, mut ours, mut theirs) = (Resizer::default(), vec![0; 32 * 32 * 3], vec![0; 32 * 32 * 3]);
        for _ in 0..40 {
            let views = TwoViews::default();
            let crops = [0, 1].map(|view| views.draw(&mut rng, view, whole.width, whole.height).crop);
            let mut part = Part::default();
            let mut plan = |width, height| {
                assert_eq!((width, height), (whole.width, whole.height));
                Wanted::of(crops, 32)
            };
            Decoder::new().decode_part(name, &bytes, DecodeMode::Exact, &mut plan, &mut part).unwrap();
            for crop in crops {
                resizer.resize(&part.image, part.area(crop), (32, 32), Layout::Interleaved, &mut ours);
                resizer.resize(&whole, crop, (32, 32), Layout::Interleaved, &mut theirs);
                assert!(ours == theirs, "{name} {crop:?}");
            }
        }
    }
}

#[test]
fn fast_decode_is_close_to_exact() {
    // Slopes without noise, which a smaller transform can keep.
    let mut image = RgbImage::new(400, 300);
    for (place, value) in image.pixels.iter_mut().enumerate() {
        *value = (place / 3 % 400 / 2 + place / 1200 / 6) as u8;
    }
    let bytes = jpeg(&image, Subsamp::Sub2x2, false);
    let crop = Crop { left: 41, top: 30, width: 301, height: 203 };
    let mut resizer = Resizer::default();
    let mut view = |mode, shrink, size| {
        let part = part(&bytes, mode, crop, shrink);
        let mut pixels = vec![0; size * size * 3];
        resizer.resize(&part.image, part.area(crop), (size, size), Layout::Interleaved, &mut pixels);
        (part.divisor, pixels)
    };
    for (shrink, divisor, size) in [(1.9, 1, 100), (2.0, 2, 100), (4.1, 4, 50), (9.0, 8, 22)] {
        let ((one, exact), (reduced, fast)) =
            (view(DecodeMode::Exact, shrink, size), view(DecodeMode::Fast, shrink, size));
        assert_eq!((one, reduced), (1, divisor));
        let sum: u64 = exact.iter().zip(&fast).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!((sum as f64) < 2.0 * exact.len() as f64, "1/{divisor}: {}", sum as f64 / exact.len() as f64);
    }
}

/// Cut anywhere, or changed, a file is refused by a decode of a part if and only if it is by that of the whole.
#[test]
fn damaged_file_is_refused_whatever_part_is_decoded() {
    let mut rng = CounterRng::named(0, "verdict");
    let files = KINDS.map(|kind| jpeg(&picture(60, 90), kind, false));
    let progressive = jpeg(&picture(60, 90), Subsamp::Sub2x2, true);
    for whole in files.iter().chain([&progressive]) {
        let cut = (0..whole.len()).step_by(13).map(|length| whole[..length].to_vec());
        let damaged = (0..150).map(|_| {
            let mut bytes = whole.clone();
            let place = rng.below(bytes.len() as u64 - 200) as usize + 200;
            bytes[place] = [0, 0xFF, 0xD9, 0x55][rng.below(4) as usize];
            bytes
        });
        for bytes in cut.chain(damaged).collect::<Vec<_>>() {
            let mut image = RgbImage::default();
            let verdict = Decoder::new().decode("x", &bytes, &mut image).map_err(|error| error.to_string());
            let mut part = Part::default();
            let bounds = Crop { left: 7, top: 11, width: 20, height: 18 };
            let plan = &mut |_, _| Wanted { bounds, shrink: 1.0 };
            let ours = Decoder::new().decode_part("x", &bytes, DecodeMode::Exact, plan, &mut part);
            assert_eq!(ours.map_err(|error| error.to_string()), verdict);
        }
    }
}
