//! The augmentation after crop and resize on the training device, in batches (`augment.device: gpu`).
//!
//! The loader delivers resized crops and what was drawn for each view; jitter, grayscale, blur, solarisation, flips, turns
//! and normalisation are done here with the same parameters and, step by step, the same roundings as on the CPU, where
//! Pillow's 8-bit arithmetic is followed. Values stay whole numbers from 0 to 255 until the normalisation.

use simsiam_data::{JitterOp, ViewParams, ops};
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// Mean and standard deviation of the normalisation, on a device.
#[derive(Debug)]
pub struct Photometric {
    mean: Tensor,
    std: Tensor,
    device: Device,
}

/// Number of jitter operations. Samples with the same operation at the same position are processed together.
const OPS: usize = 4;

impl Photometric {
    /// For RGB images normalised by `mean` and `std`, on values from 0 to 1.
    pub fn new(mean: &[f64], std: &[f64], device: Device) -> Result<Self, Error> {
        let planes = |values: &[f64]| -> Result<Tensor, Error> {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 3, 1, 1])?.f_to_device(device)?)
        };
        Ok(Self { mean: planes(mean)?, std: planes(std)?, device })
    }

    /// Crops (bytes `[N, S, S, 3]`) to normalised views (fp32 `[N, 3, S, S]`).
    pub fn apply(&self, crops: &Tensor, params: &[ViewParams]) -> Result<Tensor, Error> {
        tch::no_grad(|| {
            let x = crops.f_to_device(self.device)?.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?;
            let x = x.f_contiguous()?;
            for position in 0..OPS {
                for op in 0..OPS {
                    self.jitter(&x, params, position, op)?;
                }
            }
            let gray = params.iter().map(|p| p.grayscale.then_some(0.0));
            self.on_some(&x, gray, |x, _| Ok(luma(x)?.f_expand_as(x)?))?;
            self.on_some(&x, params.iter().map(|p| p.blur.map(f64::from)), |x, sigmas| blur(x, sigmas, self.device))?;
            let thresholds = params.iter().map(|p| p.solarize.map(f64::from));
            self.on_some(&x, thresholds, |x, thresholds| solarize(x, thresholds, self.device))?;
            self.on_some(&x, params.iter().map(|p| p.flip.then_some(0.0)), |x, _| Ok(x.f_flip([3])?))?;
            self.on_some(&x, params.iter().map(|p| p.vertical_flip.then_some(0.0)), |x, _| Ok(x.f_flip([2])?))?;
            for turns in 1..=3 {
                let turned = params.iter().map(|p| (p.quarter_turns == turns).then_some(0.0));
                self.on_some(&x, turned, |x, _| Ok(x.f_rot90(i64::from(turns), [2, 3])?))?;
            }
            Ok(x.f_div_scalar(255.0)?.f_sub(&self.mean)?.f_div(&self.std)?)
        })
    }

    /// Operation `op` on the samples whose jitter has it at `position`.
    fn jitter(&self, x: &Tensor, params: &[ViewParams], position: usize, op: usize) -> Result<(), Error> {
        let factor = |p: &ViewParams| {
            let (number, factor) = match p.jitter?[position] {
                JitterOp::Brightness(f) => (0, f64::from(f)),
                JitterOp::Contrast(f) => (1, f64::from(f)),
                JitterOp::Saturation(f) => (2, f64::from(f)),
                JitterOp::Hue(f) => (3, f),
            };
            (number == op).then_some(factor)
        };
        self.on_some(x, params.iter().map(factor), |x, factors| match op {
            0 => blend(&x.f_zeros_like()?, x, factors, self.device),
            1 => {
                let mean = luma(x)?.f_to_kind(Kind::Double)?.f_mean_dim([1i64, 2, 3].as_slice(), true, Kind::Double)?;
                blend(&mean.f_add_scalar(0.5)?.f_floor()?.f_to_kind(Kind::Float)?, x, factors, self.device)
            }
            2 => blend(&luma(x)?, x, factors, self.device),
            _ => hue(x, factors, self.device),
        })
    }

    /// Replaces the samples that have a value with the result of `work` on them and their values, in place.
    fn on_some(
        &self,
        x: &Tensor,
        values: impl Iterator<Item = Option<f64>>,
        work: impl FnOnce(&Tensor, &[f64]) -> Result<Tensor, Error>,
    ) -> Result<(), Error> {
        let (index, values): (Vec<i64>, Vec<f64>) = (0..).zip(values).filter_map(|(i, v)| Some((i, v?))).unzip();
        if index.is_empty() {
            return Ok(());
        }
        let index = Tensor::f_from_slice(&index)?.f_to_device(self.device)?;
        let done = work(&x.f_index_select(0, &index)?, &values)?;
        let _ = x.shallow_clone().f_index_copy_(0, &index, &done.f_contiguous()?)?;
        Ok(())
    }
}

/// One value per sample, as `[N, 1, 1, 1]`.
fn column(values: impl Iterator<Item = f64>, kind: Kind, device: Device) -> Result<Tensor, Error> {
    let values: Vec<f64> = values.collect();
    Ok(Tensor::f_from_slice(&values)?.f_to_kind(kind)?.f_reshape([-1, 1, 1, 1])?.f_to_device(device)?)
}

/// Pillow's luma of `[N, 3, S, S]`, as `[N, 1, S, S]`.
fn luma(x: &Tensor) -> Result<Tensor, Error> {
    // The largest sum, 255 · 65536 + 32768, is a whole number that fp32 holds as such.
    let plane = |i: i64, weight: f64| x.f_narrow(1, i, 1)?.f_mul_scalar(weight);
    let sum = plane(0, 19595.0)?.f_add(&plane(1, 38470.0)?)?.f_add(&plane(2, 7471.0)?)?;
    Ok(sum.f_add_scalar(32768.0)?.f_mul_scalar(1.0 / 65536.0)?.f_floor()?)
}

/// Pillow's blend: from `base` by the factor of the way to `x`, clipped, fraction cut off.
fn blend(base: &Tensor, x: &Tensor, factors: &[f64], device: Device) -> Result<Tensor, Error> {
    let factors = column(factors.iter().copied(), Kind::Float, device)?;
    Ok(x.f_sub(base)?.f_mul(&factors)?.f_add(base)?.f_clamp(0.0, 255.0)?.f_floor()?)
}

/// Hue turned in Pillow's 8-bit HSV. The intermediate types are Pillow's: some in double, some in single precision.
fn hue(x: &Tensor, factors: &[f64], device: Device) -> Result<Tensor, Error> {
    let (r, g, b) = (x.f_narrow(1, 0, 1)?, x.f_narrow(1, 1, 1)?, x.f_narrow(1, 2, 1)?);
    let max = r.f_maximum(&g)?.f_maximum(&b)?;
    let range = max.f_sub(&r.f_minimum(&g)?.f_minimum(&b)?)?;
    let gray = range.f_eq(0.0)?;
    let safe = range.f_clamp_min(1.0)?;
    let part = |plane: &Tensor| -> Result<Tensor, Error> { Ok(max.f_sub(plane)?.f_div(&safe)?) };
    let (pr, pg, pb) = (part(&r)?, part(&g)?, part(&b)?);
    let wide = |t: &Tensor| t.f_to_kind(Kind::Double);
    let single = |t: Tensor| t.f_to_kind(Kind::Float);
    let by_green = single(wide(&pr)?.f_add_scalar(2.0)?.f_sub(&wide(&pb)?)?)?;
    let by_blue = single(wide(&pg)?.f_add_scalar(4.0)?.f_sub(&wide(&pr)?)?)?;
    let sector = by_green.f_where_self(&g.f_eq_tensor(&max)?, &by_blue)?;
    let sector = pb.f_sub(&pg)?.f_where_self(&r.f_eq_tensor(&max)?, &sector)?;
    let turned = wide(&sector)?.f_div_scalar(6.0)?.f_add_scalar(1.0)?;
    let h = single(turned.f_sub(&turned.f_floor()?)?)?;
    let h = wide(&h)?.f_mul_scalar(255.0)?.f_floor()?;
    let s = range.f_div(&max.f_clamp_min(1.0)?)?;
    let s = wide(&s)?.f_mul_scalar(255.0)?.f_floor()?;
    // (factor · 255) as a signed byte, added modulo 256.
    let turn = column(factors.iter().map(|f| (f * 255.0).trunc()), Kind::Double, device)?;
    let h = h.f_add(&turn)?.f_add_scalar(256.0)?.f_fmod(256.0)?;
    let h = h.f_masked_fill(&gray, 0.0)?;
    let position = h.f_mul_scalar(6.0)?.f_div_scalar(255.0)?;
    let number = position.f_floor()?;
    let fraction = wide(&single(position.f_sub(&number)?)?)?;
    let saturation = wide(&single(s.f_div_scalar(255.0)?)?)?;
    let v = wide(&max)?;
    // Pillow rounds halves away from zero; these are not negative.
    let scaled = |factor: &Tensor| -> Result<Tensor, Error> {
        single(v.f_mul(&factor.f_neg()?.f_add_scalar(1.0)?)?.f_add_scalar(0.5)?.f_floor()?).map_err(Error::from)
    };
    let p = scaled(&saturation)?;
    let q = scaled(&saturation.f_mul(&fraction)?)?;
    let t = scaled(&saturation.f_mul(&fraction.f_neg()?.f_add_scalar(1.0)?)?)?;
    let number = number.f_fmod(6.0)?;
    let choose = |by_sector: [&Tensor; 6]| -> Result<Tensor, Error> {
        let mut out = by_sector[5].shallow_clone();
        for (i, value) in by_sector.iter().enumerate().take(5) {
            out = value.f_where_self(&number.f_eq(i as f64)?, &out)?;
        }
        // A gray pixel has no hue.
        Ok(max.f_where_self(&gray, &out)?)
    };
    let red = choose([&max, &q, &p, &p, &t, &max])?;
    let green = choose([&t, &max, &max, &q, &p, &p])?;
    let blue = choose([&p, &p, &t, &max, &max, &q])?;
    Ok(Tensor::f_cat(&[red, green, blue], 1)?)
}

/// Pillow's `ImageOps.solarize`: values from the threshold on are inverted.
fn solarize(x: &Tensor, thresholds: &[f64], device: Device) -> Result<Tensor, Error> {
    let thresholds = column(thresholds.iter().copied(), Kind::Float, device)?;
    Ok(x.f_where_self(&x.f_lt_tensor(&thresholds)?, &x.f_neg()?.f_add_scalar(255.0)?)?)
}

/// Pillow's `GaussianBlur`: three box passes along each axis, rounded to whole numbers after each.
fn blur(x: &Tensor, sigmas: &[f64], device: Device) -> Result<Tensor, Error> {
    let boxes: Vec<ops::BoxKernel> = sigmas.iter().map(|sigma| ops::BoxKernel::of_sigma(*sigma as f32)).collect();
    let reach = boxes.iter().map(|b| b.radius + 1).max().unwrap_or(1);
    // Weight of the pixels at each distance from the centre, per sample.
    let scale = f64::from(1u32 << ops::BoxKernel::PRECISION);
    let weights: Result<Vec<Tensor>, Error> = (0..=reach)
        .map(|distance| {
            let weight = |b: &ops::BoxKernel| match distance {
                d if d <= b.radius => f64::from(b.whole) / scale,
                d if d == b.radius + 1 => f64::from(b.end) / scale,
                _ => 0.0,
            };
            column(boxes.iter().map(weight), Kind::Float, device)
        })
        .collect();
    let weights = weights?;
    let reach = reach as i64;
    let mut x = x.shallow_clone();
    for axis in [3, 3, 3, 2, 2, 2] {
        let size = x.size()[axis as usize];
        let pad = if axis == 3 { [reach, reach, 0, 0] } else { [0, 0, reach, reach] };
        let padded = x.f_replication_pad2d(pad)?;
        let mut sum = x.f_mul(&weights[0])?;
        for (distance, weight) in (0i64..).zip(&weights).skip(1) {
            let before = padded.f_narrow(axis, reach - distance, size)?;
            let after = padded.f_narrow(axis, reach + distance, size)?;
            sum = sum.f_add(&before.f_add(&after)?.f_mul(weight)?)?;
        }
        x = sum.f_add_scalar(0.5)?.f_floor()?;
    }
    Ok(x)
}
