//! The time of each operation on one 224 × 224 view: `cargo bench -p simsiam-data`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use simsiam_data::ops::{self, Blur, Layout, Normalize, Resizer};
use simsiam_data::rng::CounterRng;
use simsiam_data::{
    Crop, DecodeMode, Decoder, JitterOp, Part, Renderer, RgbImage, TargetSize, Transcoder, TwoViews, Wanted,
};
use turbojpeg::{Image, PixelFormat, Subsamp};

const SIDE: usize = 224;

/// Slopes with some noise, as hard to compress as a photograph.
fn picture(width: usize, height: usize) -> RgbImage {
    let mut rng = CounterRng::named(0, "picture");
    let mut image = RgbImage::new(width, height);
    for (place, value) in image.pixels.iter_mut().enumerate() {
        let (x, y) = (place / 3 % width, place / 3 / width);
        *value = ((x / 3 + y / 2 + place % 3 * 40) as u32 % 200 + rng.next_u32() % 24) as u8;
    }
    image
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let (width, height) = (image.width, image.height);
    let image = Image { pixels: &image.pixels[..], width, height, pitch: width * 3, format: PixelFormat::RGB };
    turbojpeg::compress(image, 90, Subsamp::Sub2x2).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

fn decoding(c: &mut Criterion) {
    let file = jpeg(&picture(500, 375));
    let mut decoder = Decoder::new();
    let mut image = RgbImage::default();
    c.bench_function("decode whole 500x375", |b| b.iter(|| decoder.decode("image", &file, &mut image)));
    let mut part = Part::default();
    let crops =
        [Crop { left: 40, top: 60, width: 250, height: 220 }, Crop { left: 150, top: 90, width: 200, height: 200 }];
    for (name, mode) in [("exact", DecodeMode::Exact), ("fast", DecodeMode::Fast)] {
        c.bench_function(&format!("decode two crops of 500x375, {name}"), |b| {
            b.iter(|| decoder.decode_part("image", &file, mode, &mut |_, _| Wanted::of(crops, SIDE), &mut part));
        });
    }
    let Ok(mut transcoder) = Transcoder::new(TargetSize::MaxSide(400), 90) else { return };
    let mut packed = Vec::new();
    c.bench_function("transcode 500x375 to 400", |b| b.iter(|| transcoder.transcode("image", &file, &mut packed)));
}

fn resizing(c: &mut Criterion) {
    let image = picture(500, 375);
    let mut resizer = Resizer::default();
    let mut output = vec![0; SIDE * SIDE * 3];
    for (width, height) in [(180, 200), (330, 300), (500, 375)] {
        let crop = Crop { left: (500 - width) / 2, top: (375 - height) / 2, width, height };
        for (name, layout) in [("planes", Layout::Planes), ("interleaved", Layout::Interleaved)] {
            c.bench_function(&format!("resize {width}x{height} to {name}"), |b| {
                b.iter(|| resizer.resize(black_box(&image), crop, (SIDE, SIDE), layout, &mut output));
            });
        }
    }
}

fn photometric(c: &mut Criterion) {
    let view = picture(SIDE, SIDE).pixels;
    // Time to copy the view is not part of an operation's.
    let mut each = |name: &str, work: &mut dyn FnMut(&mut Vec<u8>)| {
        c.bench_function(name, |b| b.iter_batched_ref(|| view.clone(), &mut *work, BatchSize::SmallInput));
    };
    each("brightness", &mut |planes| ops::brightness(planes, 1.3));
    each("contrast", &mut |planes| ops::contrast(planes, 0.8));
    each("saturation", &mut |planes| ops::saturation(planes, 1.2));
    each("hue", &mut |planes| ops::hue(planes, 0.06));
    each("grayscale", &mut |planes| ops::grayscale(planes));
    let all = [JitterOp::Hue(0.06), JitterOp::Brightness(1.3), JitterOp::Contrast(0.8), JitterOp::Saturation(1.2)];
    each("jitter, all four", &mut |planes| ops::jitter(planes, &all, false));
    let mut blur = Blur::default();
    for sigma in [0.5, 1.5] {
        each(&format!("blur {sigma}"), &mut |planes| blur.apply(planes, SIDE, SIDE, sigma));
    }
    each("solarize", &mut |planes| ops::solarize(planes, 128));
    each("vertical flip", &mut |planes| ops::vertical_flip(planes, SIDE));
    for turns in [1, 2] {
        each(&format!("turn by {}°", 90 * u32::from(turns)), &mut |planes| ops::quarter_turns(planes, SIDE, turns));
    }
    let TwoViews { mean, std, .. } = TwoViews::default();
    let normalize = Normalize::new(mean, std);
    let mut values = vec![0.0; 3 * SIDE * SIDE];
    for flip in [false, true] {
        each(&format!("normalize, flip {flip}"), &mut |planes| normalize.apply(planes, SIDE, flip, &mut values));
    }
}

fn whole_views(c: &mut Criterion) {
    let image = picture(500, 375);
    let views = TwoViews::default();
    let normalize = Normalize::new(&views.mean, &views.std);
    let mut renderer = Renderer::default();
    let mut planes = vec![0.0; 3 * SIDE * SIDE];
    let mut sample = 0;
    c.bench_function("a view, as drawn", |b| {
        b.iter(|| {
            sample += 1;
            let params = views.draw(&mut CounterRng::view(0, 0, sample, 0), 0, image.width, image.height);
            renderer.view(&image, &params, SIDE, &normalize, &mut planes);
        });
    });
}

criterion_group!(benches, decoding, resizing, photometric, whole_views);
criterion_main!(benches);
