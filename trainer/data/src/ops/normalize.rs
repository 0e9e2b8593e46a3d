//! Bytes to normalised planes: torchvision's `ToTensor` and `Normalize`, with the horizontal flip on the way.

/// Mean and standard deviation of each channel, on values from 0 to 1.
#[derive(Debug, Clone)]
pub struct Normalize {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Normalize {
    /// From the recipe's figures.
    #[must_use]
    pub fn new(mean: [f64; 3], std: [f64; 3]) -> Self {
        Self { mean: mean.map(|x| x as f32), std: std.map(|x| x as f32) }
    }

    /// Writes `pixels` (`[height, width, 3]`) as planes `[3, height, width]`, mirrored when `flip`.
    pub fn apply(&self, pixels: &[u8], width: usize, flip: bool, planes: &mut [f32]) {
        let plane = pixels.len() / 3;
        if plane == 0 || width == 0 {
            return;
        }
        for (channel, out) in planes.chunks_exact_mut(plane).enumerate().take(3) {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            for (row, out) in pixels.chunks_exact(width * 3).zip(out.chunks_exact_mut(width)) {
                let values = row.iter().skip(channel).step_by(3).map(|value| (f32::from(*value) / 255.0 - mean) / std);
                if flip {
                    out.iter_mut().rev().zip(values).for_each(|(out, value)| *out = value);
                } else {
                    out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
                }
            }
        }
    }
}
