//! The elements of a data set that an image needs, as slices of the file.

use std::io::Cursor;

use dicom_core::Tag;
use dicom_core::header::Length;
use dicom_dictionary_std::{tags, uids};
use dicom_parser::StatefulDecode;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

use super::unsupported::unsupported;
use crate::decode::refusal::Refusal;

/// Transfer syntaxes whose pixels are read.
pub(super) mod syntax {
    use super::uids;

    pub(in super::super) const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
    pub(in super::super) const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    pub(in super::super) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
    pub(in super::super) const JPEG_BASELINE: &str = uids::JPEG_BASELINE8_BIT;
    pub(in super::super) const RLE: &str = uids::RLE_LOSSLESS;
}

const READ: [&str; 5] = [syntax::IMPLICIT, syntax::EXPLICIT, syntax::BIG_ENDIAN, syntax::JPEG_BASELINE, syntax::RLE];

/// What the pixels of other transfer syntaxes are, by the beginning of their identifiers after `1.2.840.10008.1.2.`.
const OTHERS: [(&str, &str); 13] = [
    ("1.99", "a deflated data set"),
    ("4.51", "JPEG pixels of 12 bits"),
    ("4.57", "lossless JPEG pixels"),
    ("4.70", "lossless JPEG pixels"),
    ("4.80", "JPEG-LS pixels"),
    ("4.81", "JPEG-LS pixels"),
    ("4.90", "JPEG 2000 pixels"),
    ("4.91", "JPEG 2000 pixels"),
    ("4.92", "JPEG 2000 pixels"),
    ("4.93", "JPEG 2000 pixels"),
    ("4.10", "a video"),
    ("4.11", "JPEG XL pixels"),
    ("4.20", "high-throughput JPEG 2000 pixels"),
];

/// The elements of an image. The file's length bounds everything: values are slices of it.
pub(super) struct Dataset<'a> {
    /// How the pixels are stored: one of [`syntax`].
    pub(super) syntax: &'static str,
    /// The first frame: its bytes, or its fragments where it is compressed.
    pub(super) frame: Vec<&'a [u8]>,
    values: Vec<(Tag, &'a [u8])>,
}

/// The element of the transfer syntax, and that of the length of the file's meta information, always first in a file.
const TRANSFER_SYNTAX: Tag = tags::TRANSFER_SYNTAX_UID;
const META: usize = 132;
const META_LENGTH: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];

impl<'a> Dataset<'a> {
    /// Reads the file's elements up to its pixels.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let broken = |what: &str| Refusal::Broken(format!("DICOM: {what}"));
        let meta = bytes.get(META..).unwrap_or_default();
        let length = meta.strip_prefix(&META_LENGTH).and_then(|rest| rest.first_chunk());
        let length = length.map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let length = length.ok_or_else(|| broken("its meta information does not begin with its length"))?;
        let start = META_LENGTH.len() + 4;
        let meta_values = meta.get(start..start.saturating_add(length)).ok_or_else(|| broken("it is truncated"))?;
        let head = Elements::read(meta_values, syntax::EXPLICIT)?;
        let found = head.values.iter().find(|(tag, _)| *tag == TRANSFER_SYNTAX);
        let found = text(found.ok_or_else(|| broken("it has no transfer syntax"))?.1);
        let Some(syntax) = READ.into_iter().find(|known| *known == found) else {
            let rest = found.strip_prefix("1.2.840.10008.1.2.").unwrap_or_default();
            return Err(match OTHERS.iter().find(|(start, _)| rest.starts_with(start)) {
                Some((_, what)) => unsupported(what),
                None => unsupported(&format!("transfer syntax {found:?}")),
            });
        };
        let Elements { values, mut frame } = Elements::read(&meta[start + length..], syntax)?;
        if frame.is_empty() {
            return Err(broken("it has no pixel data"));
        }
        let dataset = Self { syntax, frame: Vec::new(), values };
        // Of several frames each is a fragment of its own; a JPEG image in several fragments ends where it ends.
        let frames = dataset.text(tags::NUMBER_OF_FRAMES).and_then(|text| text.parse().ok()).unwrap_or(1);
        if syntax == syntax::RLE || frames > 1 && frames == frame.len() {
            frame.truncate(1);
        }
        Ok(Self { frame, ..dataset })
    }

    /// Whether the pixels are in fragments.
    pub(super) fn is_encapsulated(&self) -> bool {
        matches!(self.syntax, syntax::JPEG_BASELINE | syntax::RLE)
    }

    /// The first 16-bit number of an element.
    pub(super) fn number(&self, tag: Tag) -> Option<usize> {
        let bytes = *self.value(tag)?.first_chunk()?;
        Some(
            match self.syntax {
                syntax::BIG_ENDIAN => u16::from_be_bytes(bytes),
                _ => u16::from_le_bytes(bytes),
            }
            .into(),
        )
    }

    /// The first text of an element, without its padding.
    pub(super) fn text(&self, tag: Tag) -> Option<String> {
        self.value(tag).map(text)
    }

    fn decimal(&self, tag: Tag) -> Option<f64> {
        self.text(tag)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn value(&self, tag: Tag) -> Option<&'a [u8]> {
        self.values.iter().find(|(known, _)| *known == tag).map(|(_, value)| *value)
    }

    /// Slope and intercept from stored values to those of the modality.
    pub(super) fn rescale(&self) -> (f64, f64) {
        let slope = self.decimal(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0);
        (slope.unwrap_or(1.0), self.decimal(tags::RESCALE_INTERCEPT).unwrap_or(0.0))
    }

    /// The ends of the first window, by PS3.3, C.11.2.1.2; those of a sigmoid are taken as linear.
    pub(super) fn window(&self) -> Option<(f64, f64)> {
        let (centre, width) = (self.decimal(tags::WINDOW_CENTER)?, self.decimal(tags::WINDOW_WIDTH)?);
        match self.text(tags::VOILUT_FUNCTION).as_deref() {
            Some("LINEAR_EXACT" | "SIGMOID") if width > 0.0 => Some((centre - width / 2.0, centre + width / 2.0)),
            Some("LINEAR_EXACT" | "SIGMOID") => None,
            _ if width < 1.0 => None,
            _ => Some((centre - 0.5 - (width - 1.0) / 2.0, centre - 0.5 + (width - 1.0) / 2.0)),
        }
    }
}

/// The first of the texts in a value, without padding.
fn text(value: &[u8]) -> String {
    let first = value.split(|byte| *byte == b'\\').next().unwrap_or_default();
    String::from_utf8_lossy(first).trim_matches([' ', '\0']).to_owned()
}

/// Elements as they come.
struct Elements<'a> {
    values: Vec<(Tag, &'a [u8])>,
    frame: Vec<&'a [u8]>,
}

/// Elements that an image with several frames has in a sequence of this kind instead of at the top.
const FUNCTIONAL_GROUPS: [Tag; 2] =
    [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE];

impl<'a> Elements<'a> {
    /// Reads elements up to and including the pixels; no value is copied, and none may be longer than what is there.
    fn read(data: &'a [u8], syntax: &str) -> Result<Self, Refusal> {
        let broken = |error: &dyn std::fmt::Display| Refusal::Broken(format!("DICOM: {error}"));
        let slice = |at: u64, length: u32| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            data.get(at..at.saturating_add(length as usize))
                .ok_or_else(|| Refusal::Broken(format!("DICOM: an element has {length} bytes, beyond the file's end")))
        };
        let syntax = TransferSyntaxRegistry.get(syntax).ok_or_else(|| broken(&"unknown transfer syntax"))?;
        let mut reader = LazyDataSetReader::new_with_ts(Cursor::new(data), syntax).map_err(|e| broken(&e))?;
        let mut found = Self { values: Vec::new(), frame: Vec::new() };
        // Sequences that are open; whether the outermost has elements of the image; and items of the pixels so far.
        let (mut depth, mut of_image, mut items) = (0usize, true, None);
        while let Some(token) = reader.advance() {
            match token.map_err(|e| broken(&e))? {
                LazyDataToken::LazyValue { header, decoder } => {
                    let Length(length) = header.len;
                    let value = slice(decoder.position(), length)?;
                    if depth == 0 && header.tag == tags::PIXEL_DATA {
                        found.frame.push(value);
                        return Ok(found);
                    }
                    if of_image && is_wanted(header.tag) && found.values.iter().all(|(known, _)| *known != header.tag) {
                        found.values.push((header.tag, value));
                    }
                    decoder.skip_bytes(length).map_err(|e| broken(&e))?;
                }
                LazyDataToken::SequenceStart { tag, .. } => {
                    if depth == 0 {
                        of_image = FUNCTIONAL_GROUPS.contains(&tag);
                    }
                    depth += 1;
                }
                LazyDataToken::PixelSequenceStart => {
                    if depth == 0 {
                        items = Some(0);
                    }
                    depth += 1;
                }
                LazyDataToken::ItemStart { .. } => items = items.map(|count| count + 1),
                LazyDataToken::LazyItemValue { len, decoder } => {
                    let value = slice(decoder.position(), len)?;
                    // The first item is a table of offsets.
                    if items.is_some_and(|count| count > 1) {
                        found.frame.push(value);
                    }
                    decoder.skip_bytes(len).map_err(|e| broken(&e))?;
                }
                LazyDataToken::SequenceEnd => {
                    if items.is_some() {
                        return Ok(found);
                    }
                    depth = depth.saturating_sub(1);
                    of_image |= depth == 0;
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Whether an image needs the element.
fn is_wanted(tag: Tag) -> bool {
    // Group 0028 describes the pixels.
    tag.group() == 0x0028 || tag == TRANSFER_SYNTAX
}
