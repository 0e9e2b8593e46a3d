//! Full-range YCbCr to RGB, as libjpeg converts it (JFIF, ITU-R BT.601).

/// Converts interleaved triples in place.
pub(super) fn to_rgb(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        let (y, cb, cr) = (i32::from(pixel[0]), i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128);
        // Factors times 65536, as in libjpeg's tables.
        let red = y + ((91_881 * cr + 32_768) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
        let blue = y + ((116_130 * cb + 32_768) >> 16);
        pixel.copy_from_slice(&[red, green, blue].map(|value| value.clamp(0, 255) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours_convert() {
        let mut pixels = [76, 85, 255, 150, 44, 21, 29, 255, 107, 128, 128, 128];
        to_rgb(&mut pixels);
        assert_eq!(pixels, [254, 0, 0, 0, 255, 1, 0, 0, 254, 128, 128, 128]);
    }
}
