//! What must hold for any bytes at all; shared by the fuzz target and the replay of its corpus.

use simsiam_data::{Crop, DecodeMode, Decoder, Part, RgbImage, Wanted};

/// Larger images are fine, but slow to try.
const MOST_PIXELS: usize = 1 << 20;

/// Decodes `bytes` as a whole and in part, and panics when the two disagree.
pub fn check(bytes: &[u8]) {
    let plan = |width: usize, height: usize| {
        let crop = Crop { left: width / 3, top: height / 3, width: (width / 3).max(1), height: (height / 3).max(1) };
        Wanted::of([crop; 2], (width.min(height) / 9).max(1))
    };
    let mut size = (0, 0);
    let mut part = Part::default();
    // The size is reported before any pixel is decoded; what is too large is left at a single pixel.
    let exact = Decoder::new().decode_part(
        "fuzz",
        bytes,
        DecodeMode::Exact,
        &mut |width, height| {
            size = (width, height);
            plan(width, height)
        },
        &mut part,
    );
    if size.0 * size.1 > MOST_PIXELS {
        return;
    }
    let mut image = RgbImage::default();
    let whole = Decoder::new().decode("fuzz", bytes, &mut image);
    let words = |verdict: &Result<(), simsiam_data::Error>| verdict.as_ref().map_err(ToString::to_string).copied();
    assert_eq!(words(&exact), words(&whole));
    let fast =
        Decoder::new().decode_part("fuzz", bytes, DecodeMode::Fast, &mut |w, h| plan(w, h), &mut Part::default());
    assert_eq!(words(&fast), words(&whole));
    if whole.is_err() {
        return;
    }
    assert_eq!(image.pixels.len(), image.width * image.height * 3);
    let wanted = plan(image.width, image.height).bounds;
    for y in wanted.top..wanted.top + wanted.height {
        let row = |image: &RgbImage, left: usize, top: usize| {
            let start = ((y - top) * image.width + wanted.left - left) * 3;
            image.pixels[start..start + wanted.width * 3].to_vec()
        };
        assert_eq!(row(&part.image, part.origin.0, part.origin.1), row(&image, 0, 0), "row {y}");
    }
}
