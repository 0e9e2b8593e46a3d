//! A turn of the hue in Pillow's 8-bit HSV.
//!
//! Pillow works in single precision, some of it in double, and cuts off to bytes; to agree to the last bit without its
//! branches, this computes the same quotients and then decides the cut exactly: where `x * 255` rounds to a whole
//! number in single precision, the error of that product tells on which side of it the exact product lies.

use pulp::Simd;

use super::cut::{cut, cut_double};

/// Turns the hue of each pixel by `turn` 255ths of the circle.
#[inline(always)]
pub(super) fn turn<S: Simd>(r: &mut [u8], g: &mut [u8], b: &mut [u8], turn: u8) {
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        // Without vector units there may be no fused multiply-and-add either, and its emulation is slow.
        (*r, *g, *b) = if S::IS_SCALAR { one::<false>(*r, *g, *b, turn) } else { one::<true>(*r, *g, *b, turn) };
    }
}

#[inline(always)]
fn one<const FUSED: bool>(r: u8, g: u8, b: u8, turn: u8) -> (u8, u8, u8) {
    let (h, s, v) = hsv_from_rgb::<FUSED>(r, g, b);
    rgb_from_hsv(h.wrapping_add(turn), s, v)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The whole part of the exact product of `x`, from 0 to 1, and 255.
#[inline(always)]
fn whole_255ths<const FUSED: bool>(x: f32) -> u8 {
    if !FUSED {
        return cut_double(f64::from(x) * 255.0);
    }
    let near = cut(x * 255.0);
    let below = x.mul_add(255.0, -f32::from(near)) < 0.0;
    near.wrapping_sub(u8::from(below))
}

#[inline(always)]
fn hsv_from_rgb<const FUSED: bool>(r: u8, g: u8, b: u8) -> (u8, u8, u8) {
    let v = r.max(g).max(b);
    let (r, g, b) = (f32::from(r), f32::from(g), f32::from(b));
    let (max, min) = (larger(larger(r, g), b), smaller(smaller(r, g), b));
    let range = max - min;
    // Where all are equal, 0 / 1.
    let s = whole_255ths::<FUSED>(range / larger(max, 1.0));
    // Of the three distances from the largest value, in units of the range, one is 0, one is 1 and this is the third.
    let middle = r + g + b - max - min;
    let part = (max - middle) / larger(range, 1.0);
    // The position on the circle of six sectors; a tie counts as the first of red, green, blue.
    let (start, sign) = if r == max {
        if b == min { (1.0, -1.0) } else { (-1.0, 1.0) }
    } else if g == max {
        if b == min { (1.0, 1.0) } else { (3.0, -1.0) }
    } else if r == min {
        (3.0, 1.0)
    } else {
        (5.0, -1.0)
    };
    let position: f32 = start + sign * part;
    let sixth = position / 6.0;
    let around = if position < 0.0 { sixth + 1.0 } else { sixth };
    let h = whole_255ths::<FUSED>(around);
    (if range == 0.0 { 0 } else { h }, s, v)
}

#[inline(always)]
fn rgb_from_hsv(h: u8, s: u8, v: u8) -> (u8, u8, u8) {
    // Sector and the way into it in 255ths; 2/85 is 6/255, and whole results need a nudge.
    let sixths = f32::from(h) * 6.0;
    let sector = cut(sixths * (1.0 / 255.0) + 1e-4);
    let way = (sixths - f32::from(sector) * 255.0) / 255.0;
    let sector = if sector == 6 { 0 } else { sector };
    let value = f32::from(v);
    let saturation = f32::from(s) / 255.0;
    let p = cut(value * (1.0 - saturation) + 0.5);
    // In even sectors the middle value rises, in odd ones it falls. Its rounding needs double precision.
    let way = f64::from(way);
    let way = if sector & 1 == 1 { way } else { 1.0 - way };
    let m = cut_double(f64::from(value) * (1.0 - f64::from(saturation) * way) + 0.5);
    let r = if sector == 0 || sector == 5 {
        v
    } else if sector == 1 || sector == 4 {
        m
    } else {
        p
    };
    let g = if sector == 1 || sector == 2 {
        v
    } else if sector == 0 || sector == 3 {
        m
    } else {
        p
    };
    let b = if sector == 3 || sector == 4 {
        v
    } else if sector == 2 || sector == 5 {
        m
    } else {
        p
    };
    (r, g, b)
}
