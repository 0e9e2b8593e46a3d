//! Recognises a format by its first bytes: files are often named `.jpg` whatever they hold.

use super::refusal::Refusal;

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    Tiff,
    Bmp,
    Webp,
    Dicom,
    Npy,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Webp => "WebP",
            Self::Dicom => "DICOM",
            Self::Npy => "NumPy",
        })
    }
}

/// Where the formats that are read have their marks. That of BMP, two letters, comes last.
const READ: [(usize, &[u8], Kind); 10] = [
    (0, b"\xff\xd8", Kind::Jpeg),
    (0, b"\x89PNG\r\n\x1a\n", Kind::Png),
    (0, b"II*\0", Kind::Tiff),
    (0, b"MM\0*", Kind::Tiff),
    (0, b"II+\0", Kind::Tiff),
    (0, b"MM\0+", Kind::Tiff),
    (8, b"WEBP", Kind::Webp),
    (128, b"DICM", Kind::Dicom),
    (0, b"\x93NUMPY", Kind::Npy),
    (0, b"BM", Kind::Bmp),
];

/// The format of a file; one that is not read is named.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, Refusal> {
    if let Some((.., kind)) = READ.iter().find(|(at, mark, _)| has(bytes, *at, mark)) {
        return Ok(*kind);
    }
    Err(Refusal::Broken(match name_of(bytes) {
        _ if bytes.is_empty() => "the file is empty".to_owned(),
        Some(name) => {
            format!("it is {name}, whatever its name says; only JPEG, PNG, TIFF, BMP, WebP, DICOM and NumPy are read")
        }
        None => "none of JPEG, PNG, TIFF, BMP, WebP, DICOM and NumPy by its first bytes".to_owned(),
    }))
}

fn has(bytes: &[u8], at: usize, mark: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(mark))
}

/// Where a format that is not read has its mark, the mark, and what it is called in a sentence.
const MARKS: [(usize, &[u8], &str); 20] = [
    (0, b"GIF8", "a GIF image"),
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
fn name_of(bytes: &[u8]) -> Option<&'static str> {
    let known = MARKS.iter().find(|(at, mark, _)| has(bytes, *at, mark)).map(|(_, _, name)| *name);
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
            (&b"GIF89a"[..], "GIF"),
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x18ftypisom", "MP4"),
            (b"P6\n2 2", "Netpbm"),
            (b"<!DOCTYPE html>", "HTML"),
            (&[0; 600], "all zeros"),
        ] {
            assert!(name_of(bytes).is_some_and(|found| found.contains(name)), "{name}: {:?}", name_of(bytes));
        }
        assert_eq!(name_of(b"once upon a time"), None);
        for (bytes, expected) in [
            (&b"\xff\xd8"[..], Kind::Jpeg),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Kind::Webp),
            (b"II*\0\x08\0", Kind::Tiff),
            (b"MM\0+\0\x08\0\0", Kind::Tiff),
            (b"BM\x36\0", Kind::Bmp),
            (&[&[0; 128][..], b"DICM"].concat(), Kind::Dicom),
            (b"\x93NUMPY\x01\0", Kind::Npy),
        ] {
            assert!(kind(bytes).is_ok_and(|found| found == expected), "{expected}");
        }
        assert!(kind(b"").is_err() && kind(b"once upon a time").is_err());
    }
}
