//! A generated data set: ten classes of shapes and textures.

use std::path::Path;

use crate::Error;
use crate::rng::CounterRng;

/// How much to generate, and from which seed.
#[derive(Debug, Clone)]
pub struct SynthOptions {
    /// Training images of each class.
    pub train_per_class: usize,
    /// Evaluation images of each class.
    pub val_per_class: usize,
    /// Width and height in pixels.
    pub size: usize,
    /// The same seed gives the same files.
    pub seed: u64,
}

/// Writes `train/<class>/NNNN.jpg` and `val/<class>/NNNN.jpg` below `root`; `progress` hears images done and in all.
///
/// # Errors
/// [`Error::Io`] when a folder or file cannot be written, [`Error::Option`] for a size out of range.
pub fn write(root: &Path, options: &SynthOptions, progress: &mut dyn FnMut(usize, usize)) -> Result<(), Error> {
    if !(8..=1024).contains(&options.size) {
        return Err(Error::option("size", options.size, "8 to 1024 pixels"));
    }
    let total = CLASSES.len() * (options.train_per_class + options.val_per_class);
    let mut done = 0;
    for (part, count) in [("train", options.train_per_class), ("val", options.val_per_class)] {
        for (class, (name, inside)) in CLASSES.iter().enumerate() {
            let folder = root.join(part).join(name);
            std::fs::create_dir_all(&folder).map_err(failed(&folder, "create"))?;
            for index in 0..count {
                let mut rng = CounterRng::named(options.seed, &format!("synth {part} {class} {index}"));
                let pixels = draw(&mut rng, options.size, *inside);
                let path = folder.join(format!("{index:04}.jpg"));
                let jpeg = encode(&pixels, options.size).map_err(failed(&path, "encode"))?;
                std::fs::write(&path, jpeg).map_err(failed(&path, "write"))?;
                done += 1;
                progress(done, total);
            }
        }
    }
    Ok(())
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, action, source }
}

fn encode(pixels: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
    let image =
        turbojpeg::Image { pixels, width: size, pitch: 3 * size, height: size, format: turbojpeg::PixelFormat::RGB };
    let jpeg = turbojpeg::compress(image, 92, turbojpeg::Subsamp::None).map_err(std::io::Error::other)?;
    Ok(jpeg.to_vec())
}

/// Is the point inside the figure? In the frame of its own cell of the pattern, which reaches from −1 to 1.
type Inside = fn(f64, f64) -> bool;

/// The classes differ in form alone: colours, scale, position, angle and background are drawn at random for each image.
const CLASSES: [(&str, Inside); 10] = [
    ("bars", |x, _| x.abs() < 0.5),
    ("checks", |x, y| (x < 0.0) == (y < 0.0)),
    ("crosses", |x, y| (x.abs() < 0.25 && y.abs() < 0.85) || (y.abs() < 0.25 && x.abs() < 0.85)),
    ("discs", |x, y| x.hypot(y) < 0.7),
    ("grid", |x, y| x.abs() < 0.25 || y.abs() < 0.25),
    ("halves", |x, y| x.hypot(y) < 0.9 && y > -0.1),
    ("rings", |x, y| (0.5..0.85).contains(&x.hypot(y))),
    ("stars", |x, y| x.hypot(y) < 0.6 + 0.35 * (5.0 * y.atan2(x)).cos()),
    ("triangles", |x, y| y > -0.6 && y < 0.8 - 1.6 * x.abs()),
    ("waves", |x, y| (x - 0.45 * (std::f64::consts::PI * y).sin()).rem_euclid(2.0) < 1.0),
];

/// One image, `size` × `size` RGB: a field of figures over a shaded background, with a little noise.
fn draw(rng: &mut CounterRng, size: usize, inside: Inside) -> Vec<u8> {
    let colour = |rng: &mut CounterRng, level: f64| [0; 3].map(|_| level + rng.uniform_in(-40.0, 40.0));
    // Figures as bright as their background would not be seen.
    let (front, back) = (rng.uniform_in(165.0, 215.0), rng.uniform_in(40.0, 90.0));
    let (front, back) = (colour(rng, front), colour(rng, back));
    let shade = rng.uniform_in(0.0, 40.0);
    let slope = rng.uniform_in(0.0, std::f64::consts::TAU);
    let angle = rng.uniform_in(-0.4, 0.4);
    // Half a cell's width: two to three and a half cells fit across the image.
    let half = size as f64 * rng.uniform_in(0.14, 0.24);
    let shift = [rng.uniform_in(0.0, 2.0), rng.uniform_in(0.0, 2.0)];
    let (sin, cos) = angle.sin_cos();
    let middle = size as f64 / 2.0;
    let mut pixels = Vec::with_capacity(3 * size * size);
    for row in 0..size {
        for column in 0..size {
            let (x, y) = (column as f64 + 0.5 - middle, row as f64 + 0.5 - middle);
            let ground = shade * (x * slope.cos() + y * slope.sin()) / middle;
            // Four samples a pixel, so that edges are smooth.
            let hits = [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)].iter().filter(|(dx, dy)| {
                let (x, y) = ((x + dx) / half, (y + dy) / half);
                let cell = |v: f64, shift: f64| (v + shift).rem_euclid(2.0) - 1.0;
                inside(cell(cos * x + sin * y, shift[0]), cell(cos * y - sin * x, shift[1]))
            });
            let share = hits.count() as f64 / 4.0;
            for channel in 0..3 {
                let value = front[channel] * share + (back[channel] + ground) * (1.0 - share);
                pixels.push((value + rng.uniform_in(-10.0, 10.0)).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_data_with_same_seed_is_identical() {
        let files = |seed| {
            let folder = tempfile::tempdir().unwrap();
            let options = SynthOptions { train_per_class: 2, val_per_class: 1, size: 32, seed };
            let mut last = (0, 0);
            write(folder.path(), &options, &mut |done, of| last = (done, of)).unwrap();
            assert_eq!(last, (30, 30));
            std::fs::read(folder.path().join("train/stars/0001.jpg")).unwrap()
        };
        assert_eq!(files(3), files(3));
        assert_ne!(files(3), files(4));
    }
}
