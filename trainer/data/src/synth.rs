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
            std::fs::create_dir_all(&folder).map_err(failed(&folder, "create this folder"))?;
            for index in 0..count {
                let mut rng = CounterRng::named(options.seed, &format!("synth {part} {class} {index}"));
                let pixels = draw(&mut rng, options.size, *inside);
                let path = folder.join(format!("{index:04}.jpg"));
                let jpeg = encode(&pixels, options.size).map_err(failed(&path, "encode this image"))?;
                std::fs::write(&path, jpeg).map_err(failed(&path, "write this file"))?;
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

/// Is the point inside the figure? In its own frame, where the figure reaches about from −1 to 1.
type Inside = fn(f64, f64) -> bool;

/// The classes differ in form alone: colour, size, position, angle and background are drawn anew for each image.
const CLASSES: [(&str, Inside); 10] = [
    ("bars", |x, y| x.abs() < 1.0 && y.abs() < 1.0 && (x * 5.0).rem_euclid(2.0) < 1.0),
    ("checks", |x, y| x.abs() < 1.0 && y.abs() < 1.0 && ((x * 2.5).floor() + (y * 2.5).floor()).rem_euclid(2.0) < 1.0),
    ("cross", |x, y| (x.abs() < 0.28 && y.abs() < 1.0) || (y.abs() < 0.28 && x.abs() < 1.0)),
    ("disc", |x, y| x.hypot(y) < 0.9),
    ("dots", |x, y| {
        x.abs() < 1.0 && y.abs() < 1.0 && (x.rem_euclid(0.66) - 0.33).hypot(y.rem_euclid(0.66) - 0.33) < 0.2
    }),
    ("half", |x, y| x.hypot(y) < 1.0 && y > 0.0),
    ("ring", |x, y| (0.55..0.95).contains(&x.hypot(y))),
    ("square", |x, y| x.abs() < 0.8 && y.abs() < 0.8),
    ("star", |x, y| x.hypot(y) < 0.62 + 0.38 * (5.0 * y.atan2(x)).cos()),
    ("triangle", |x, y| y > -0.6 && y < 0.9 - 1.6 * x.abs()),
];

/// One image, `size` × `size` RGB: the figure over a shaded background, with a little noise.
fn draw(rng: &mut CounterRng, size: usize, inside: Inside) -> Vec<u8> {
    let colour = |rng: &mut CounterRng| [0; 3].map(|_| rng.uniform_in(20.0, 235.0));
    let (front, back, shade) = (colour(rng), colour(rng), colour(rng));
    // A figure as bright as its background would not be seen.
    let brightness = |c: [f64; 3]| (c[0] + c[1] + c[2]) / 3.0;
    let lift = if brightness(front) >= brightness(back) { 60.0 } else { -60.0 };
    let angle = rng.uniform_in(-0.6, 0.6);
    let radius = rng.uniform_in(0.25, 0.42);
    let centre = [rng.uniform_in(0.38, 0.62), rng.uniform_in(0.38, 0.62)];
    let slope = rng.uniform_in(0.0, std::f64::consts::TAU);
    let (sin, cos) = angle.sin_cos();
    let mut pixels = Vec::with_capacity(3 * size * size);
    for row in 0..size {
        for column in 0..size {
            let at = |i: usize, c: f64| ((i as f64 + 0.5) / size as f64 - c) / radius;
            let (x, y) = (at(column, centre[0]), at(row, centre[1]));
            let is_inside = inside(cos * x + sin * y, cos * y - sin * x);
            let share = 0.25 + 0.15 * (x * slope.cos() + y * slope.sin());
            for channel in 0..3 {
                let ground = back[channel] * (1.0 - share) + shade[channel] * share;
                let value = if is_inside { front[channel] + lift } else { ground } + rng.uniform_in(-10.0, 10.0);
                pixels.push(value.clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_files() {
        let files = |seed| {
            let folder = tempfile::tempdir().unwrap();
            let options = SynthOptions { train_per_class: 2, val_per_class: 1, size: 32, seed };
            let mut last = (0, 0);
            write(folder.path(), &options, &mut |done, of| last = (done, of)).unwrap();
            assert_eq!(last, (30, 30));
            std::fs::read(folder.path().join("train/star/0001.jpg")).unwrap()
        };
        assert_eq!(files(3), files(3));
        assert_ne!(files(3), files(4));
    }
}
