//! Images with one fault each, against what Pillow made of them (`damaged/make.py`): tolerant where Pillow is, to the pixel.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use simsiam_data::{Crop, DecodeMode, Decoder, Part, RgbImage, Wanted};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/damaged"))
}

fn digest(image: &RgbImage) -> String {
    let mut sum = Sha256::new();
    sum.update(format!("{}x{}", image.width, image.height));
    sum.update(&image.pixels);
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn damaged_image_decodes_or_is_refused_as_by_pillow() {
    let cases = std::fs::read_to_string(folder().join("cases.txt")).unwrap();
    let mut wrong = Vec::new();
    for line in cases.lines().filter(|line| !line.starts_with('#')) {
        let (name, expected) = line.split_once(' ').unwrap();
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let mut image = RgbImage::default();
        let found = match Decoder::new().decode(name, &bytes, &mut image) {
            Ok(()) => format!("ok {}", digest(&image)),
            Err(error) if expected == "refused" => {
                println!("{error}");
                "refused".to_owned()
            }
            Err(error) => format!("refused: {error}"),
        };
        if found != expected {
            wrong.push(format!("{name}: {found}, Pillow: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn part_of_a_damaged_image_is_that_of_the_whole() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "jpg") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut whole = RgbImage::default();
        let verdict = Decoder::new().decode("x", &bytes, &mut whole).map_err(|error| error.to_string());
        let crop = Crop { left: 12, top: 4, width: 9, height: 7 };
        let mut part = Part::default();
        let mut plan = |_, _| Wanted::of([crop; 2], 9);
        let partial = Decoder::new().decode_part("x", &bytes, DecodeMode::Exact, &mut plan, &mut part);
        assert_eq!(partial.map_err(|error| error.to_string()), verdict, "{}", path.display());
        if verdict.is_err() {
            continue;
        }
        for y in 0..crop.height {
            let of = |image: &RgbImage, left: usize, top: usize| {
                let start = (top * image.width + left) * 3;
                image.pixels[start..start + crop.width * 3].to_vec()
            };
            let ours = of(&part.image, crop.left - part.origin.0, crop.top + y - part.origin.1);
            assert_eq!(ours, of(&whole, crop.left, crop.top + y), "{} row {y}", path.display());
        }
    }
}
