//! Images of the data set, rendered for the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use simsiam_data::ops::Normalize;
use simsiam_data::rng::CounterRng;
use simsiam_data::{Decoder, EvalView, Renderer, RgbImage, Source, encode_jpeg};
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
    image: RgbImage,
}

impl<'a> ThumbnailRenderer<'a> {
    /// A renderer for the run's augmentation and seed.
    pub fn new(augment: &'a Augment, seed: u64) -> Self {
        Self { augment, seed, decoder: Decoder::new(), renderer: Renderer::default(), image: RgbImage::default() }
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
        Ok(self.decoder.decode(source.name(id), &bytes, &mut self.image)?)
    }

    fn middle(&mut self, name: &str, side: u32) -> Result<Picture, Error> {
        let view = EvalView { resize: side, crop: side, mean: [0.0; 3], std: [1.0; 3] };
        let planes = self.renderer.eval_pixels(&self.image, &view);
        picture(name.to_owned(), side, |channel, pixel| planes[channel * (side * side) as usize + pixel])
    }

    fn view(&mut self, name: &str, id: u64, number: u8) -> Result<Picture, Error> {
        let (views, side) = (two_views(self.augment), self.augment.crop_size);
        let mut rng = CounterRng::view(self.seed, 0, id, number);
        let params = views.draw(&mut rng, self.image.width, self.image.height);
        let plane = (side * side) as usize;
        let mut planes = vec![0.0; 3 * plane];
        // Values from 0 to 1, converted to bytes below.
        let normalize = Normalize::new([0.0; 3], [1.0; 3]);
        self.renderer.view(&self.image, &params, side as usize, &normalize, &mut planes);
        let name = format!("view {} of {name}", number + 1);
        picture(name, side, |channel, pixel| (planes[channel * plane + pixel] * 255.0).round() as u8)
    }
}

/// A picture of `side` × `side` pixels, each given by channel and index.
fn picture(name: String, side: u32, pixel: impl Fn(usize, usize) -> u8) -> Result<Picture, Error> {
    let length = side as usize;
    let pixels = (0..length * length * 3).map(|i| pixel(i % 3, i / 3)).collect();
    let jpeg = encode_jpeg(&RgbImage { width: length, height: length, pixels }, QUALITY)?;
    Ok(Picture { data: format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)), name, side })
}
