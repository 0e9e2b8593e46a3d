//! Images of other than three channels: every channel is treated as a grayscale image of its own would be.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::sync::Arc;

use simsiam_data::{
    Batch, DecodeOptions, Decoder, Error, EvalLoader, EvalView, Loader, LoaderOptions, Part, Probabilities, Source,
    TwoViews, ViewFormat, ops,
};

const WIDTH: usize = 40;
const HEIGHT: usize = 31;

/// Value of a made-up image, smooth in both directions and different in each channel.
fn value(id: usize, y: usize, x: usize, channel: usize) -> u8 {
    ((id * 37 + y * (3 + channel) + x * (7 - channel % 3) + channel * 50) % 256) as u8
}

/// A `.npy` file of unsigned bytes; `pixel` gives a value by row, column and channel.
fn npy(shape: [usize; 3], pixel: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
    let [height, width, channels] = shape;
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, {channels}), }}\n");
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    for y in 0..height {
        for x in 0..width {
            file.extend((0..channels).map(|channel| pixel(y, x, channel)));
        }
    }
    file
}

fn png(
    color: png::ColorType,
    depth: png::BitDepth,
    samples: usize,
    pixel: impl Fn(usize, usize, usize) -> u8,
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let mut data = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            for channel in 0..samples {
                let value = pixel(y, x, channel);
                data.extend(std::iter::repeat_n(value, if depth == png::BitDepth::Sixteen { 2 } else { 1 }));
            }
        }
    }
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    file
}

struct Memory(Vec<Vec<u8>>);

impl Source for Memory {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        Ok(self.0[id as usize].clone())
    }

    fn name(&self, _: u64) -> &str {
        "made up"
    }

    fn label(&self, _: u64) -> Option<u32> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

const IMAGES: usize = 6;

/// Arrays with `channels` of the made-up images.
fn arrays(channels: &[usize]) -> Arc<dyn Source> {
    let array = |id| npy([HEIGHT, WIDTH, channels.len()], |y, x, channel| value(id, y, x, channels[channel]));
    Arc::new(Memory((0..IMAGES).map(array).collect()))
}

fn normalization(channels: usize) -> (Vec<f64>, Vec<f64>) {
    (vec![0.5; channels], vec![0.25; channels])
}

/// The probabilities of both views, without the conversion to grayscale.
fn jitter(jitter: f64) -> [Probabilities; 2] {
    [Probabilities { jitter, grayscale: 0.0, ..Probabilities::default() }; 2]
}

/// The whole augmentation that is defined for any channels, without the contrast, which mixes them.
fn views(channels: usize) -> TwoViews {
    let (mean, std) = normalization(channels);
    TwoViews {
        crop_size: 16,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        probabilities: jitter(0.8),
        mean,
        std,
        ..TwoViews::default()
    }
}

fn options() -> LoaderOptions {
    LoaderOptions { seed: 5, batch: IMAGES, threads: 2, ..LoaderOptions::default() }
}

fn load(source: &Arc<dyn Source>, views: TwoViews) -> Batch {
    let mut loader = Loader::two_views(Arc::clone(source), views, options()).unwrap();
    loader.next().unwrap().unwrap()
}

/// Plane `channel` of each image of a `[N, C, S, S]` batch.
fn plane(values: &[f32], shape: [usize; 4], channel: usize) -> Vec<f32> {
    let [_, channels, height, width] = shape;
    let side = height * width;
    values
        .chunks_exact(channels * side)
        .flat_map(|image| image[channel * side..(channel + 1) * side].to_vec())
        .collect()
}

#[test]
fn each_channel_of_a_view_equals_that_of_the_channel_alone() {
    for channels in [2, 4, 5, 7] {
        let all: Vec<usize> = (0..channels).collect();
        let whole = load(&arrays(&all), views(channels));
        assert_eq!(whole.shape, [IMAGES, channels, 16, 16]);
        for channel in 0..channels {
            let alone = load(&arrays(&[channel]), views(1));
            assert_eq!(alone.params, whole.params, "the same is drawn for any number of channels");
            for view in 0..2 {
                let found = plane(&whole.views[view], whole.shape, channel);
                assert!(found == alone.views[view], "channel {channel} of {channels}");
            }
        }
    }
}

#[test]
fn channels_of_an_rgb_image_are_treated_as_those_of_an_array() {
    // Without the jitter: even a hue that is not turned rounds colours on its way through HSV.
    let plain = |channels| TwoViews { probabilities: jitter(0.0), ..views(channels) };
    let rgb = |id| png(png::ColorType::Rgb, png::BitDepth::Eight, 3, |y, x, channel| value(id, y, x, channel));
    let rgb: Arc<dyn Source> = Arc::new(Memory((0..IMAGES).map(rgb).collect()));
    let colours = load(&rgb, plain(3));
    assert!(load(&arrays(&[0, 1, 2]), plain(3)) == colours, "an array of three channels is an RGB image");
    let five = load(&arrays(&[0, 1, 2, 3, 4]), plain(5));
    assert_eq!(five.params, colours.params);
    for channel in 0..3 {
        for view in 0..2 {
            let found = plane(&five.views[view], five.shape, channel);
            assert!(found == plane(&colours.views[view], colours.shape, channel), "channel {channel}");
        }
    }
}

#[test]
fn gray_image_is_jittered_as_its_rgb_copy() {
    let jittered = |channels| TwoViews { probabilities: jitter(1.0), contrast: 0.4, ..views(channels) };
    let rgb = load(&arrays(&[4, 4, 4]), jittered(3));
    let still = load(&arrays(&[4]), TwoViews { probabilities: jitter(0.0), ..views(1) });
    for channels in [1, 2, 5] {
        let gray = load(&arrays(&vec![4; channels]), jittered(channels));
        assert_eq!(gray.params, rgb.params);
        for view in 0..2 {
            let expected = plane(&rgb.views[view], rgb.shape, 0);
            assert!(expected != still.views[view], "the jitter changes something");
            for channel in 0..channels {
                assert!(plane(&gray.views[view], gray.shape, channel) == expected, "channel {channel} of {channels}");
            }
        }
    }
}

#[test]
fn each_channel_of_an_evaluation_view_equals_that_of_the_channel_alone() {
    let evaluated = |channels: &[usize]| {
        let (mean, std) = normalization(channels.len());
        let view = EvalView { resize: 20, crop: 16, mean, std };
        EvalLoader::new(arrays(channels), view, 0..99, 99, 2).unwrap().next().unwrap().unwrap()
    };
    let whole = evaluated(&[0, 1, 2, 3, 4]);
    assert_eq!(whole.shape, [IMAGES, 5, 16, 16]);
    for channel in 0..5 {
        assert!(plane(&whole.images, whole.shape, channel) == evaluated(&[channel]).images, "channel {channel}");
    }
}

/// The decoded samples of one image, `[height, width, channels]`.
fn decoded(bytes: &[u8], channels: usize) -> Result<Vec<u8>, String> {
    let mut part = Part::default();
    Decoder::with(DecodeOptions { channels, ..DecodeOptions::default() })
        .decode_whole("x", bytes, &mut part)
        .map_err(|error| error.to_string())?;
    let layers: Vec<_> = std::iter::once(&part.image).chain(&part.more).collect();
    assert_eq!(layers.len(), channels.div_ceil(3));
    assert!(layers.iter().all(|layer| (layer.width, layer.height) == (part.image.width, part.image.height)));
    let pixels = 0..part.image.width * part.image.height;
    Ok(pixels
        .flat_map(|pixel| (0..channels).map(move |c| (pixel, c)))
        .map(|(pixel, c)| layers[c / 3].pixels[3 * pixel + c % 3])
        .collect())
}

#[test]
fn one_channel_of_a_colour_image_is_its_luma() {
    let colours = png(png::ColorType::Rgb, png::BitDepth::Eight, 3, |y, x, channel| value(0, y, x, channel));
    let mut planes: Vec<u8> = Vec::new();
    for channel in 0..3 {
        planes.extend((0..HEIGHT * WIDTH).map(|pixel| value(0, pixel / WIDTH, pixel % WIDTH, channel)));
    }
    ops::grayscale(&mut planes);
    assert_eq!(decoded(&colours, 1).unwrap(), planes[..HEIGHT * WIDTH]);
    let gray = png(png::ColorType::Grayscale, png::BitDepth::Eight, 1, |y, x, _| value(0, y, x, 4));
    let expected: Vec<u8> = (0..HEIGHT * WIDTH).map(|pixel| value(0, pixel / WIDTH, pixel % WIDTH, 4)).collect();
    assert_eq!(decoded(&gray, 1).unwrap(), expected);
    let jpeg = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/420.jpg")).unwrap();
    let rgb = decoded(&jpeg, 3).unwrap();
    let luma =
        |p: &[u8]| ((u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16) as u8;
    assert_eq!(decoded(&jpeg, 1).unwrap(), rgb.chunks_exact(3).map(luma).collect::<Vec<_>>());
}

#[test]
fn channels_beyond_the_colours_are_kept_where_they_are_asked_for() {
    let expected: Vec<u8> = (0..HEIGHT * WIDTH * 4).map(|i| value(0, i / 4 / WIDTH, i / 4 % WIDTH, i % 4)).collect();
    for depth in [png::BitDepth::Eight, png::BitDepth::Sixteen] {
        let rgba = png(png::ColorType::Rgba, depth, 4, |y, x, channel| value(0, y, x, channel));
        assert_eq!(decoded(&rgba, 4).unwrap(), expected, "{depth:?}");
        let rgb: Vec<u8> = expected.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect();
        assert_eq!(decoded(&rgba, 3).unwrap(), rgb, "{depth:?}");
    }
}

#[test]
fn image_of_another_number_of_channels_is_a_bad_image() {
    let five = npy([HEIGHT, WIDTH, 5], |y, x, channel| value(0, y, x, channel));
    let rgb = npy([HEIGHT, WIDTH, 3], |y, x, channel| value(0, y, x, channel));
    for (bytes, channels, found) in [(&five, 4, 5), (&five, 1, 5), (&rgb, 5, 3), (&rgb, 2, 3), (&five, 3, 5)] {
        let message = decoded(bytes, channels).unwrap_err();
        assert!(message.contains(&format!("{found} channels")) && message.contains("dataset.channels"), "{message}");
    }
    let mut images: Vec<_> = (0..IMAGES).map(|id| npy([HEIGHT, WIDTH, 5], |y, x, c| value(id, y, x, c))).collect();
    images[2] = rgb;
    let source: Arc<dyn Source> = Arc::new(Memory(images));
    let lenient = LoaderOptions { max_corrupt: 1, ..options() };
    let batch = Loader::two_views(Arc::clone(&source), views(5), lenient).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.replaced.len(), 1);
    assert!(batch.replaced[0].id == 2 && batch.replaced[0].reason.contains("3 channels"), "{:?}", batch.replaced);
    let error = Loader::two_views(source, views(5), options()).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(error, Error::TooManyCorrupt { .. }), "{error}");
}

#[test]
fn options_that_need_rgb_are_refused_for_other_channels() {
    let refused = |views: TwoViews, output| {
        let options = LoaderOptions { output, ..options() };
        Loader::two_views(arrays(&[0]), views, options).unwrap_err().to_string()
    };
    for (field, views) in [
        ("saturation", TwoViews { saturation: 0.4, ..views(1) }),
        ("hue", TwoViews { hue: 0.1, ..views(1) }),
        ("grayscale_prob", TwoViews { probabilities: [Probabilities::default(); 2], ..views(1) }),
        ("mean", TwoViews { mean: Vec::new(), ..views(1) }),
        ("std", TwoViews { std: vec![1.0; 2], ..views(1) }),
    ] {
        let message = refused(views, ViewFormat::Planes);
        assert!(message.starts_with(&format!("{field} = ")), "{message}");
    }
    assert!(refused(views(1), ViewFormat::Crops).contains("output = Crops"));
}

#[test]
fn bands_of_a_tiff_file_are_channels() {
    let file = |name: &str| std::fs::read(format!("{}/tests/formats/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let gray = decoded(&file("gray8.tif"), 1).unwrap();
    let bands = decoded(&file("bands5.tif"), 5).unwrap();
    assert!(gray.iter().any(|value| *value != gray[0]));
    assert_eq!(bands, gray.iter().flat_map(|value| [*value; 5]).collect::<Vec<_>>());
    assert!(decoded(&file("bands5.tif"), 4).unwrap_err().contains("it has 5 channels, expected 4"));
    let with_alpha = decoded(&file("grayalpha8.tif"), 2).unwrap();
    let alone: Vec<u8> = with_alpha.iter().step_by(2).copied().collect();
    assert_eq!(alone, decoded(&file("grayalpha8.tif"), 1).unwrap());
}
