//! Bytes that are no image, or no longer one: an error that names the file, never a crash, never gigabytes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers here are tests too.

use std::path::PathBuf;

use simsiam_data::rng::CounterRng;
use simsiam_data::{
    Crop, DecodeMode, Decoder, Error, EvalView, Part, Renderer, RgbImage, TwoViews, Wanted, ops::Normalize,
};
use turbojpeg::{Image, PixelFormat, Subsamp};

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !name.starts_with("out-") && !name.ends_with(".py") && !name.ends_with(".txt"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures().into_iter().find(|(found, _)| found == name).unwrap().1
}

/// Decodes the whole image, and on the way sees to it that a decode of a part of it is refused in the same words.
fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    let mut image = RgbImage::default();
    let verdict = Decoder::new().decode("a/b.jpg", bytes, &mut image).map(|()| image);
    for mode in [DecodeMode::Exact, DecodeMode::Fast] {
        let words = |verdict: Result<(), &Error>| verdict.map_err(ToString::to_string);
        let part = decode_part(bytes, mode);
        assert_eq!(words(part.as_ref().map(|_| ())), words(verdict.as_ref().map(|_| ())), "{mode:?}");
    }
    verdict
}

/// Decodes about a quarter, from the middle.
fn decode_part(bytes: &[u8], mode: DecodeMode) -> Result<Part, Error> {
    let mut part = Part::default();
    let mut plan = |width: usize, height: usize| {
        let (left, top) = (width / 4, height / 4);
        let crop = Crop { left, top, width: width.div_ceil(2), height: height.div_ceil(2) };
        Wanted::of([crop; 2], (width / 4).max(1))
    };
    Decoder::new().decode_part("a/b.jpg", bytes, mode, &mut plan, &mut part).map(|()| part)
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes).expect_err("this is no image").to_string()
}

#[test]
fn file_that_is_not_an_image_is_refused() {
    assert_eq!(refusal(b""), "a/b.jpg: not a readable image: the file is empty");
    assert_eq!(
        refusal(b"once upon a time"),
        "a/b.jpg: not a readable image: none of JPEG, PNG, TIFF, BMP, WebP, DICOM and NumPy by its first bytes"
    );
    for start in [&[0xFF, 0xD8][..], &[0xFF, 0xD8, 0xFF, 0xD9], b"\x89PNG\r\n\x1a\n"] {
        assert!(refusal(start).starts_with("a/b.jpg: not a readable image: "), "{start:?}");
    }
}

#[test]
fn truncated_image_is_refused_at_any_offset() {
    for name in ["420.jpg", "progressive.JPEG", "cmyk.jpg", "rgb8.png", "interlaced.png"] {
        let whole = fixture(name);
        assert!(decode(&whole).is_ok(), "{name}");
        // Of a PNG's last bytes, Pillow needs none: they are the end chunk and checksums.
        let ends = if name.ends_with("png") { whole.len() - 20 } else { whole.len() - 2 };
        for length in (0..ends).step_by(7) {
            assert!(decode(&whole[..length]).is_err(), "{name} cut to {length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn damaged_image_does_not_crash() {
    let mut rng = CounterRng::named(0, "damage");
    let mut decoder = Decoder::new();
    let mut image = RgbImage::default();
    for (name, whole) in fixtures() {
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=rng.below(6) {
                let place = rng.below(bytes.len() as u64) as usize;
                bytes[place] = rng.next_u32() as u8;
            }
            // A byte that lands in a size may make a large image, which is fine but slow here.
            let large = claimed_pixels(&bytes).is_some_and(|pixels| pixels > 1 << 22);
            if !large {
                // Neither does it to a decode of a part.
                let _ = decode_part(&bytes, DecodeMode::Exact);
                let _ = decode_part(&bytes, DecodeMode::Fast);
            }
            if !large && decoder.decode(&name, &bytes, &mut image).is_ok() {
                assert_eq!(image.pixels.len(), image.width * image.height * 3);
            }
        }
        // Nothing of a bad file stays behind in the decoder.
        decoder.decode(&name, &whole, &mut image).unwrap();
        assert!(image == decode(&whole).unwrap(), "{name} comes out otherwise than by a new decoder");
    }
}

/// Width times height by a file's header, without decoding it.
fn claimed_pixels(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| bytes.get(at..at + 2).map(|two| u64::from(two[0]) << 8 | u64::from(two[1]));
    if bytes.starts_with(b"\x89PNG") {
        let four = |at: usize| Some(word(at)? << 16 | word(at + 2)?);
        return Some(four(16)?.saturating_mul(four(20)?));
    }
    let frame = (0..bytes.len().saturating_sub(9))
        .filter(|at| bytes[*at] == 0xFF && (0xC0..=0xCF).contains(&bytes[at + 1]) && bytes[at + 1] != 0xC4);
    frame.filter_map(|at| Some(word(at + 5)? * word(at + 7)?)).max()
}

/// The JPEG's frame header with another size in it.
fn resized_jpeg(name: &str, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = fixture(name);
    let frame = bytes.windows(2).position(|pair| matches!(pair, [0xFF, 0xC0 | 0xC2])).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn decompression_bomb_is_refused_before_allocation() {
    let expected = "a/b.jpg: 30000x30000 pixels exceed the limit of 178956970; downscale the image";
    assert_eq!(refusal(&resized_jpeg("420.jpg", 30_000, 30_000)), expected);
    assert_eq!(refusal(&resized_jpeg("progressive.JPEG", 30_000, 30_000)), expected);
    let mut png = fixture("rgb8.png");
    png[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    assert_eq!(refusal(&png), expected);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// As files, the thinnest images there are.
#[test]
fn image_of_any_shape_decodes() {
    for (width, height) in [(1, 1), (1, 5000), (5000, 1), (2, 3), (17, 1)] {
        let pixels = vec![200u8; width * height * 3];
        for subsampling in [Subsamp::None, Subsamp::Sub2x2, Subsamp::Sub4x1, Subsamp::Gray] {
            let image = Image { pixels: &pixels[..], width, height, pitch: width * 3, format: PixelFormat::RGB };
            let image = decode(&turbojpeg::compress(image, 90, subsampling).unwrap()).unwrap();
            assert_eq!((image.width, image.height), (width, height), "{subsampling:?}");
            assert!(image.pixels.iter().all(|value| value.abs_diff(200) < 3), "{subsampling:?}");
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        assert_eq!(decode(&file).unwrap().pixels, pixels);
    }
}

#[test]
fn image_of_any_shape_makes_views() {
    let views = TwoViews { crop_size: 32, ..TwoViews::default() };
    let eval = EvalView { resize: 36, crop: 32, mean: views.mean.clone(), std: views.std.clone() };
    let normalize = Normalize::new(&views.mean, &views.std);
    let mut renderer = Renderer::default();
    for (width, height) in [(1, 1), (1, 5000), (5000, 1), (2, 3), (1, 33), (32, 32), (4000, 3)] {
        let image = RgbImage { width, height, pixels: vec![200; width * height * 3] };
        let mut planes = vec![f32::NAN; 3 * 32 * 32];
        for sample in 0..50 {
            let params = views.draw(&mut CounterRng::view(0, 0, sample, 0), 0, width, height);
            planes.fill(f32::NAN);
            renderer.view(&image, &params, 32, &normalize, &mut planes);
            assert!(planes.iter().all(|value| value.is_finite()), "{width}x{height} {params:?}");
        }
        planes.fill(f32::NAN);
        renderer.eval(&image, &eval, &normalize, &mut planes);
        assert!(planes.iter().all(|value| value.is_finite()), "{width}x{height}");
    }
}
