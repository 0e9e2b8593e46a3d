//! What packing makes of an image.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::PathBuf;

use simsiam_data::{Decoder, Error, RgbImage, TargetSize, Transcoder};
use turbojpeg::Subsamp;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)).unwrap()
}

fn decode(bytes: &[u8]) -> RgbImage {
    let mut image = RgbImage::default();
    Decoder::new().decode("image", bytes, &mut image).unwrap();
    image
}

fn transcode(size: TargetSize, quality: u8, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    // What is in the buffer before plays no part.
    let mut out = vec![7; 3];
    Transcoder::new(size, quality)?.transcode("a/b.jpg", bytes, &mut out).map(|()| out)
}

#[test]
fn target_size_keeps_aspect_ratio_and_never_grows() {
    for (size, from, to) in [
        (TargetSize::Keep, (500, 375), (500, 375)),
        (TargetSize::MaxSide(400), (500, 375), (400, 300)),
        (TargetSize::MaxSide(400), (375, 500), (300, 400)),
        (TargetSize::MaxSide(400), (400, 1), (400, 1)),
        (TargetSize::MaxSide(400), (5000, 1), (400, 1)),
        (TargetSize::ShortSide(256), (500, 375), (341, 256)),
        (TargetSize::ShortSide(256), (200, 900), (200, 900)),
        (TargetSize::MaxSide(3), (2, 4), (2, 3)),
    ] {
        assert_eq!(size.of(from.0, from.1), to, "{size:?} of {from:?}");
    }
}

#[test]
fn every_kind_of_image_transcodes_to_similar_jpeg() {
    for name in
        ["420.jpg", "444.jpg", "progressive.JPEG", "gray.jpg", "cmyk.jpg", "ycck.jpg", "picture.png", "rgba16.png"]
    {
        let bytes = fixture(name);
        let before = decode(&bytes);
        let limit = before.width.max(before.height) as u32 / 2;
        let packed = transcode(TargetSize::MaxSide(limit), 95, &bytes).unwrap();
        assert!(packed.starts_with(&[0xFF, 0xD8]), "{name}");
        let after = decode(&packed);
        assert_eq!((after.width, after.height), TargetSize::MaxSide(limit).of(before.width, before.height), "{name}");
        for channel in 0..3 {
            let mean = |image: &RgbImage| {
                let values = image.pixels.iter().skip(channel).step_by(3);
                values.map(|value| f64::from(*value)).sum::<f64>() / (image.width * image.height) as f64
            };
            assert!((mean(&before) - mean(&after)).abs() < 3.0, "{name}: {} {}", mean(&before), mean(&after));
        }
    }
}

#[test]
fn transcoding_is_deterministic() {
    let mut transcoder = Transcoder::new(TargetSize::MaxSide(50), 90).unwrap();
    let mut out = Vec::new();
    for name in ["picture.png", "444.jpg", "picture.png", "gray.jpg", "444.jpg"] {
        let bytes = fixture(name);
        transcoder.transcode(name, &bytes, &mut out).unwrap();
        assert_eq!(out, transcode(TargetSize::MaxSide(50), 90, &bytes).unwrap(), "{name}");
    }
}

#[test]
fn high_quality_jpeg_keeps_full_chroma() {
    let picture = fixture("picture.png");
    for (quality, subsampling) in
        [(1, Subsamp::Sub2x2), (92, Subsamp::Sub2x2), (93, Subsamp::None), (100, Subsamp::None)]
    {
        let packed = transcode(TargetSize::Keep, quality, &picture).unwrap();
        assert_eq!(turbojpeg::read_header(&packed).unwrap().subsamp, subsampling, "{quality}");
    }
}

#[test]
fn jpeg_is_kept_if_reencoding_gains_nothing() {
    let (jpeg, png) = (fixture("420.jpg"), fixture("picture.png"));
    assert_eq!(transcode(TargetSize::Keep, 50, &jpeg).unwrap(), jpeg);
    // Small enough already: re-encoded only if that is shorter.
    assert_eq!(transcode(TargetSize::MaxSide(1000), 100, &jpeg).unwrap(), jpeg);
    let shorter = transcode(TargetSize::MaxSide(1000), 10, &jpeg).unwrap();
    assert!(shorter.len() < jpeg.len());
    assert!(transcode(TargetSize::Keep, 90, &png).unwrap().starts_with(&[0xFF, 0xD8]));
}

#[test]
fn sixteen_bit_png_keeps_its_bytes_unless_it_shrinks() {
    let wide = fixture("gray16.png");
    assert_eq!(transcode(TargetSize::Keep, 90, &wide).unwrap(), wide);
    assert_eq!(transcode(TargetSize::MaxSide(1000), 90, &wide).unwrap(), wide);
    assert!(transcode(TargetSize::MaxSide(10), 90, &wide).unwrap().starts_with(&[0xFF, 0xD8]));
}

#[test]
fn bad_image_or_option_is_refused() {
    let jpeg = fixture("420.jpg");
    for size in [TargetSize::Keep, TargetSize::ShortSide(10)] {
        for bytes in [&b""[..], b"text", &jpeg[..jpeg.len() / 2]] {
            let error = transcode(size, 90, bytes).unwrap_err();
            assert!(matches!(&error, Error::Decode { name, .. } if name == "a/b.jpg"), "{error}");
        }
    }
    for (size, quality) in [(TargetSize::Keep, 0), (TargetSize::Keep, 101), (TargetSize::MaxSide(0), 90)] {
        assert!(matches!(Transcoder::new(size, quality), Err(Error::Option { .. })), "{size:?} {quality}");
    }
}
