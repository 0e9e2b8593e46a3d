//! The closed formulas of `tests/parity/formula.py`, bit for bit.

use tch::Tensor;

use super::Result;

/// CRC-32 as in zlib, bit by bit: it only sees names.
fn crc32(text: &str) -> u32 {
    !text.bytes().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// MurmurHash3's finaliser.
fn fmix32(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
    h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
    h ^ (h >> 16)
}

/// The hashes of the elements of the tensor `name`, without end.
pub fn hash(name: &str) -> impl Iterator<Item = u32> {
    let start = crc32(name);
    (0u32..).map(move |i| fmix32(start.wrapping_add(i.wrapping_mul(0x9E37_79B9))))
}

/// `offset + scale · u` for u in [−1, 1), computed in f64 and rounded to f32.
pub fn affine(name: &str, shape: &[i64], offset: f64, scale: f64) -> Result<Tensor> {
    let count = usize::try_from(shape.iter().product::<i64>())?;
    let uniform = |h: u32| f64::from(h) / 2f64.powi(31) - 1.0;
    let values: Vec<f32> = hash(name).take(count).map(|h| (offset + scale * uniform(h)) as f32).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

/// The value of a model's tensor by its name; `None` for counters, which keep theirs.
pub fn fill(name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
    let (offset, scale) = if name.ends_with("num_batches_tracked") {
        return Ok(None);
    } else if shape.len() > 1 {
        (0.0, (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt())
    } else if name.ends_with(".running_var") {
        (1.0, 0.2)
    } else if name.ends_with(".weight") {
        (0.5, 0.1)
    } else {
        (0.0, 0.1)
    };
    Ok(Some(affine(name, shape, offset, scale)?))
}
