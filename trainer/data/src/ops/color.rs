//! Colour: the four operations of the jitter, and grayscale.

/// Pillow's luma (ITU-R 601-2) in 16-bit fixed point: what `convert("L")` gives.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Pillow's `Image.blend`: from `base` by `factor` of the way to `value`, clipped, fraction cut off.
#[inline(always)]
fn blend(base: u8, value: u8, factor: f32) -> u8 {
    let (base, value) = (f32::from(base), f32::from(value));
    // `as` saturates and cuts off, which is what Pillow's clipping and its cast do.
    (base + factor * (value - base)) as u8
}

/// Brightness: a blend with black. `factor` 1 changes nothing (`ImageEnhance.Brightness`).
pub fn brightness(pixels: &mut [u8], factor: f32) {
    for value in pixels {
        *value = blend(0, *value, factor);
    }
}

/// Contrast: a blend with the image's mean luma (`ImageEnhance.Contrast`).
pub fn contrast(pixels: &mut [u8], factor: f32) {
    let count = pixels.len() / 3;
    if count == 0 {
        return;
    }
    let sum: u64 = pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel[0], pixel[1], pixel[2]))).sum();
    let mean = (sum as f64 / count as f64 + 0.5) as u8;
    for value in pixels {
        *value = blend(mean, *value, factor);
    }
}

/// Saturation: a blend with each pixel's luma (`ImageEnhance.Color`).
pub fn saturation(pixels: &mut [u8], factor: f32) {
    for pixel in pixels.chunks_exact_mut(3) {
        let gray = luma(pixel[0], pixel[1], pixel[2]);
        for value in pixel {
            *value = blend(gray, *value, factor);
        }
    }
}

/// Grayscale with three equal channels.
pub fn grayscale(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        pixel.fill(luma(pixel[0], pixel[1], pixel[2]));
    }
}

/// Hue: turned by `factor` of the circle (−½ to ½) in Pillow's 8-bit HSV, as torchvision does on PIL images.
pub fn hue(pixels: &mut [u8], factor: f64) {
    let turn = (factor * 255.0) as i32 as u8;
    for pixel in pixels.chunks_exact_mut(3) {
        let (h, s, v) = hsv_from_rgb(pixel[0], pixel[1], pixel[2]);
        let (r, g, b) = rgb_from_hsv(h.wrapping_add(turn), s, v);
        pixel.copy_from_slice(&[r, g, b]);
    }
}

fn hsv_from_rgb(r: u8, g: u8, b: u8) -> (u8, u8, u8) {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return (0, 0, max);
    }
    let range = f32::from(max - min);
    let saturation = range / f32::from(max);
    let part = |value: u8| f32::from(max - value) / range;
    let sector = if r == max {
        part(b) - part(g)
    } else if g == max {
        (2.0 + f64::from(part(r)) - f64::from(part(b))) as f32
    } else {
        (4.0 + f64::from(part(g)) - f64::from(part(r))) as f32
    };
    let hue = (f64::from(sector) / 6.0 + 1.0).fract() as f32;
    ((f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max)
}

fn rgb_from_hsv(h: u8, s: u8, v: u8) -> (u8, u8, u8) {
    if s == 0 {
        return (v, v, v);
    }
    let position = f64::from(h) * 6.0 / 255.0;
    let sector = position.floor();
    let fraction = f64::from((position - sector) as f32);
    let saturation = f64::from((f64::from(s) / 255.0) as f32);
    let scaled = |factor: f64| (f64::from(v) * factor).round() as u8;
    let p = scaled(1.0 - saturation);
    let q = scaled(1.0 - saturation * fraction);
    let t = scaled(1.0 - saturation * (1.0 - fraction));
    match sector as u8 % 6 {
        0 => (v, t, p),
        1 => (q, v, p),
        2 => (p, v, t),
        3 => (p, q, v),
        4 => (t, p, v),
        _ => (v, p, q),
    }
}
