//! Images of the data set, rendered for the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use simsiam_data::ops::Normalize;
use simsiam_data::rng::CounterRng;
use simsiam_data::{Decoder, EvalView, Part, Renderer, RgbImage, Source, encode_jpeg};
use simsiam_recipe::Augment;

use super::page::{Picture, Views};
use crate::data::datasets::two_views;
use crate::error::Error;

/// Side of a thumbnail in pixels at most.
const THUMBNAIL: u32 = 96;
/// JPEG quality of pictures.
const QUALITY: u8 = 88;

/// Renders a run's images as pictures.
pub struct ThumbnailRenderer<'a> {
    augment: &'a Augment,
    seed: u64,
    decoder: Decoder,
    renderer: Renderer,
    image: Part,
}

impl<'a> ThumbnailRenderer<'a> {
    /// A renderer for the run's augmentation and seed.
    pub fn new(augment: &'a Augment, seed: u64) -> Self {
        Self { augment, seed, decoder: Decoder::new(), renderer: Renderer::default(), image: Part::default() }
    }

    /// Renders the centre crop of evaluation, small.
    pub fn thumbnail(&mut self, source: &dyn Source, id: u64) -> Result<Picture, Error> {
        self.load(source, id)?;
        let side = self.augment.crop_size.min(THUMBNAIL);
        self.middle(source.name(id), side)
    }

    /// Renders an image and its two views of epoch 0.
    pub fn views(&mut self, source: &dyn Source, id: u64) -> Result<Views, Error> {
        self.load(source, id)?;
        let side = self.augment.crop_size;
        let original = self.middle(source.name(id), side)?;
        let first = self.view(source.name(id), id, 0)?;
        Ok(Views { original, views: [first, self.view(source.name(id), id, 1)?] })
    }

    fn load(&mut self, source: &dyn Source, id: u64) -> Result<(), Error> {
        let bytes = source.read(id)?;
        self.decoder.set_options(source.decode_options());
        Ok(self.decoder.decode_whole(source.name(id), &bytes, &mut self.image)?)
    }

    fn middle(&mut self, name: &str, side: u32) -> Result<Picture, Error> {
        let channels = self.augment.channels();
        let view = EvalView { resize: side, crop: side, mean: vec![0.0; channels], std: vec![1.0; channels] };
        let planes = self.renderer.eval_pixels_of_part(&self.image, &view);
        let shown = |channel| shown(channel, channels) * (side * side) as usize;
        picture(name.to_owned(), side, |channel, pixel| planes[shown(channel) + pixel])
    }

    fn view(&mut self, name: &str, id: u64, number: u8) -> Result<Picture, Error> {
        let (views, side) = (two_views(self.augment), self.augment.crop_size);
        let mut rng = CounterRng::view(self.seed, 0, id, number);
        let params = views.draw(&mut rng, number, self.image.image.width, self.image.image.height);
        let (plane, channels) = ((side * side) as usize, self.augment.channels());
        let mut planes = vec![0.0; channels * plane];
        // Values from 0 to 1, converted to bytes below.
        let normalize = Normalize::new(vec![0.0; channels], vec![1.0; channels]);
        self.renderer.view_of_part(&self.image, &params, side as usize, &normalize, &mut planes);
        let name = format!("view {} of {name}", number + 1);
        picture(name, side, |channel, pixel| (planes[shown(channel, channels) * plane + pixel] * 255.0).round() as u8)
    }
}

/// The channel of an image that a picture's red (0), green (1) or blue (2) shows.
fn shown(colour: usize, channels: usize) -> usize {
    if channels < 3 { 0 } else { colour }
}

/// How pictures show images of this many channels; empty for RGB.
pub fn note(channels: usize) -> String {
    match channels {
        1 => " Pictures show the one channel in gray.".to_owned(),
        2 => " Pictures show the first of the 2 channels in gray.".to_owned(),
        3 => String::new(),
        more => format!(" Pictures show the first three of the {more} channels as red, green and blue."),
    }
}

/// A picture of `side` × `side` pixels, each given by channel and index.
fn picture(name: String, side: u32, pixel: impl Fn(usize, usize) -> u8) -> Result<Picture, Error> {
    let length = side as usize;
    let pixels = (0..length * length * 3).map(|i| pixel(i % 3, i / 3)).collect();
    let jpeg = encode_jpeg(&RgbImage { width: length, height: length, pixels }, QUALITY)?;
    Ok(Picture { data: format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)), name, side })
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::SecondView;

    use super::*;

    /// One image: red above, dark blue below.
    struct Flag(Vec<u8>);

    impl Source for Flag {
        fn len(&self) -> usize {
            1
        }

        fn read(&self, _: u64) -> Result<Vec<u8>, simsiam_data::Error> {
            Ok(self.0.clone())
        }

        fn name(&self, _: u64) -> &str {
            "flag.jpg"
        }

        fn label(&self, _: u64) -> Option<u32> {
            None
        }

        fn classes(&self) -> &[String] {
            &[]
        }
    }

    /// The colours of a picture's pixels above, below, left and right of its middle.
    fn colours(picture: &Picture) -> [[u8; 3]; 4] {
        let jpeg = STANDARD.decode(picture.data.trim_start_matches("data:image/jpeg;base64,")).unwrap();
        let mut image = RgbImage::default();
        Decoder::new().decode("picture", &jpeg, &mut image).unwrap();
        let (width, height) = (image.width, image.height);
        let at = |x: usize, y: usize| {
            let first = (y * width + x) * 3;
            [image.pixels[first], image.pixels[first + 1], image.pixels[first + 2]]
        };
        [
            at(width / 2, height / 8),
            at(width / 2, height * 7 / 8),
            at(width / 8, height / 2),
            at(width * 7 / 8, height / 2),
        ]
    }

    #[track_caller]
    fn assert_near(found: [u8; 3], expected: [u8; 3]) {
        let near = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) < 12);
        assert!(near, "{found:?} is not {expected:?}");
    }

    #[test]
    fn views_are_drawn_with_their_own_settings() {
        const RED: [u8; 3] = [230, 30, 30];
        const BLUE: [u8; 3] = [20, 20, 110];
        let pixels = (0..32 * 32).flat_map(|pixel| if pixel < 32 * 16 { RED } else { BLUE }).collect();
        let jpeg = encode_jpeg(&RgbImage { width: 32, height: 32, pixels }, 95).unwrap();
        let augment = Augment {
            crop_size: 32,
            min_scale: 1.0,
            jitter_prob: 0.0,
            grayscale_prob: 0.0,
            blur_prob: 0.0,
            flip_prob: 0.0,
            vertical_flip_prob: 1.0,
            solarize_threshold: 120,
            second_view: SecondView {
                vertical_flip_prob: Some(0.0),
                quarter_turn_prob: Some(1.0),
                solarize_prob: Some(1.0),
                ..SecondView::default()
            },
            ..Augment::default()
        };
        let shown = ThumbnailRenderer::new(&augment, 0).views(&Flag(jpeg), 0).unwrap();
        let [above, below, ..] = colours(&shown.original);
        assert_near(above, RED);
        assert_near(below, BLUE);
        let [above, below, ..] = colours(&shown.views[0]);
        assert_near(above, BLUE);
        assert_near(below, RED);
        // Red has one value from 120 on; the turn of seed 0 is by a quarter.
        let [_, _, left, right] = colours(&shown.views[1]);
        let inverted = [255 - RED[0], RED[1], RED[2]];
        let (red, blue) = if left[2] < right[2] { (left, right) } else { (right, left) };
        assert_near(red, inverted);
        assert_near(blue, BLUE);
    }
}
