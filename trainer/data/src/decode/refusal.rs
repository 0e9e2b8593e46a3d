//! Why an image is refused, and the limit on its size.

/// Most pixels an image may have; Pillow refuses the same images as decompression bombs.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Why an image cannot be decoded, before its name is known.
pub(super) enum Refusal {
    Broken(String),
    TooLarge { width: u64, height: u64 },
}

/// Refuses sizes of zero and beyond [`MAX_PIXELS`], before any memory is taken for them.
pub(super) fn check_size(width: usize, height: usize) -> Result<(), Refusal> {
    let (width, height) = (width as u64, height as u64);
    if width == 0 || height == 0 {
        return Err(Refusal::Broken(format!("its size is {width}x{height}")));
    }
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(Refusal::TooLarge { width, height }),
    }
}
