//! Names a format that is not read, by its first bytes: files are often named `.jpg` whatever they hold.

/// Where a format has its mark, the mark, and what it is called in a sentence.
const MARKS: [(usize, &[u8], &str); 28] = [
    (8, b"WEBP", "a WebP image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"II+\0", "a BigTIFF image"),
    (0, b"MM\0+", "a BigTIFF image"),
    (0, b"BM", "a BMP image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftyp", "a video or another MP4 container"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop document"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "compressed by gzip"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"version https://git-lfs", "a pointer of Git LFS (fetch the file itself)"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "XML, perhaps an SVG drawing or an error page"),
    (0, b"<", "a page of HTML, perhaps an error page that was downloaded instead"),
];

/// What the bytes are, if it is known.
pub(super) fn name_of(bytes: &[u8]) -> Option<&'static str> {
    let is = |(at, mark, _): &&(usize, &[u8], &str)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark));
    let known = MARKS.iter().find(is).map(|(_, _, name)| *name);
    let is_netpbm = matches!(bytes, [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..]);
    let is_blank = || bytes.iter().take(4096).all(|byte| *byte == 0);
    known
        .or(is_netpbm.then_some("a Netpbm image"))
        .or_else(|| is_blank().then_some("all zeros, as a failed copy leaves it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_named_by_its_content() {
        for (bytes, name) in [
            (&b"RIFF\x10\0\0\0WEBPVP8 "[..], "WebP"),
            (b"GIF89a", "GIF"),
            (b"II*\0\x08\0", "TIFF"),
            (b"BM\x36\0", "BMP"),
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x18ftypisom", "MP4"),
            (b"P6\n2 2", "Netpbm"),
            (b"<!DOCTYPE html>", "HTML"),
            (&[0; 600], "all zeros"),
            (&[&[0; 128][..], b"DICM"].concat(), "DICOM"),
        ] {
            assert!(name_of(bytes).is_some_and(|found| found.contains(name)), "{name}: {:?}", name_of(bytes));
        }
        assert_eq!(name_of(b"once upon a time"), None);
    }
}
