//! The directories of a TIFF file, of which each describes one image: how many there are, which is the first, and what
//! a short entry holds. The pixels are for the crate `tiff` to read.

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// Most pages that are counted; more are no file that anyone made in earnest.
const MAX_PAGES: usize = 65_536;
/// Kind of image in a file of several: bit 0 marks a reduced copy of another, bit 2 its transparency mask.
const NEW_SUBFILE_TYPE: u16 = 254;
const NO_PAGE: u64 = 0b101;

/// Byte order and width of a file's numbers.
#[derive(Debug, Clone, Copy)]
struct Layout {
    big_endian: bool,
    /// BigTIFF, with offsets of 8 bytes.
    big: bool,
}

impl Layout {
    fn of(header: &[u8]) -> Option<Self> {
        let (big_endian, version) = match header.first_chunk()? {
            [b'I', b'I', low, 0] => (false, *low),
            [b'M', b'M', 0, low] => (true, *low),
            _ => return None,
        };
        matches!(version, 42 | 43).then_some(Self { big_endian, big: version == 43 })
    }

    fn number(self, bytes: &[u8]) -> u64 {
        let digit = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self.big_endian {
            true => bytes.iter().fold(0, digit),
            false => bytes.iter().rev().fold(0, digit),
        }
    }

    fn write(self, number: u64, to: &mut [u8]) {
        let bytes = number.to_be_bytes();
        let bytes = &bytes[8 - to.len()..];
        to.copy_from_slice(bytes);
        if !self.big_endian {
            to.reverse();
        }
    }

    /// Where the header has the offset of the first directory.
    fn first(self) -> std::ops::Range<usize> {
        if self.big { 8..16 } else { 4..8 }
    }

    fn offset_bytes(self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn entry_bytes(self) -> usize {
        if self.big { 20 } else { 12 }
    }
}

/// A directory's entries, each of [`Layout::entry_bytes`], and the offset of the next directory, 0 after the last.
struct Directory {
    entries_at: u64,
    entries: Vec<u8>,
    next: u64,
}

impl Directory {
    fn read(reader: &mut (impl Read + Seek), layout: Layout, at: u64) -> io::Result<Self> {
        reader.seek(SeekFrom::Start(at))?;
        let mut number = [0; 8];
        let count_bytes = if layout.big { 8 } else { 2 };
        reader.read_exact(&mut number[..count_bytes])?;
        let count = layout.number(&number[..count_bytes]);
        let count = u16::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut entries = vec![0; usize::from(count) * layout.entry_bytes()];
        reader.read_exact(&mut entries)?;
        reader.read_exact(&mut number[..layout.offset_bytes()])?;
        let next = layout.number(&number[..layout.offset_bytes()]);
        Ok(Self { entries_at: at + count_bytes as u64, entries, next })
    }

    /// Where the value of `tag` is among the entries, and the value, if it is a whole number that fits its entry.
    fn short(&self, layout: Layout, tag: u16) -> Option<(std::ops::Range<usize>, u64)> {
        let size = layout.entry_bytes();
        let index = self.entries.chunks_exact(size).position(|entry| layout.number(&entry[..2]) == u64::from(tag))?;
        let start = index * size;
        let entry = &self.entries[start..start + size];
        let bytes = match layout.number(&entry[2..4]) {
            3 => 2,
            4 => 4,
            _ => return None,
        };
        let place = size - layout.offset_bytes();
        Some((start + place..start + place + bytes, layout.number(&entry[place..place + bytes])))
    }
}

/// The offsets of the directories that are pages: all but reduced copies and masks of others. The first always counts.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a file that is no TIFF or whose directories form a circle, and the reader's errors.
pub(crate) fn pages(reader: &mut (impl Read + Seek)) -> io::Result<Vec<u64>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    reader.rewind()?;
    let mut header = [0; 16];
    reader.read_exact(&mut header[..8])?;
    let layout = Layout::of(&header).ok_or_else(invalid)?;
    if layout.big {
        reader.read_exact(&mut header[8..])?;
    }
    let mut at = layout.number(&header[layout.first()]);
    let (mut pages, mut seen) = (Vec::new(), HashSet::new());
    while at != 0 {
        if !seen.insert(at) || seen.len() > MAX_PAGES {
            return Err(invalid());
        }
        let directory = Directory::read(reader, layout, at)?;
        let kind = directory.short(layout, NEW_SUBFILE_TYPE).map_or(0, |(_, kind)| kind);
        if pages.is_empty() || kind & NO_PAGE == 0 {
            pages.push(at);
        }
        at = directory.next;
    }
    Ok(pages)
}

/// Whether a file begins as a TIFF file does.
pub(crate) fn is_tiff(reader: &mut (impl Read + Seek)) -> bool {
    let mut header = [0; 4];
    reader.rewind().and_then(|()| reader.read_exact(&mut header)).is_ok_and(|()| Layout::of(&header).is_some())
}

/// Makes the directory at offset `at` the first of a file, so that its page is the one that every reader reads.
pub(crate) fn put_first(bytes: &mut [u8], at: u64) {
    if let Some(layout) = Layout::of(bytes)
        && let Some(first) = bytes.get_mut(layout.first())
    {
        layout.write(at, first);
    }
}

/// The whole number that `tag` has in the first directory.
pub(crate) fn short(bytes: &[u8], tag: u16) -> Option<u64> {
    find(bytes, tag).map(|(_, _, value)| value)
}

/// Replaces the whole number that `tag` has in the first directory, if it has one.
pub(crate) fn set_short(bytes: &mut [u8], tag: u16, value: u16) {
    if let Some((layout, place, _)) = find(bytes, tag)
        && let Some(place) = bytes.get_mut(place)
    {
        layout.write(value.into(), place);
    }
}

fn find(bytes: &[u8], tag: u16) -> Option<(Layout, std::ops::Range<usize>, u64)> {
    let layout = Layout::of(bytes)?;
    let first = layout.number(bytes.get(layout.first())?);
    let directory = Directory::read(&mut Cursor::new(bytes), layout, first).ok()?;
    let (place, value) = directory.short(layout, tag)?;
    let start = directory.entries_at as usize;
    Some((layout, start + place.start..start + place.end, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a directory for each of `kinds`, whose only entry is the kind of image.
    fn file(big_endian: bool, big: bool, kinds: &[u32]) -> Vec<u8> {
        let layout = Layout { big_endian, big };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        let put = |bytes: &mut Vec<u8>, number: u64, size: usize| {
            let start = bytes.len();
            bytes.resize(start + size, 0);
            layout.write(number, &mut bytes[start..]);
        };
        if big {
            bytes[if big_endian { 3 } else { 2 }] = 43;
            put(&mut bytes, 8, 2);
            put(&mut bytes, 0, 2);
        }
        let word = layout.offset_bytes();
        let start = bytes.len() + word;
        put(&mut bytes, start as u64, word);
        for (index, kind) in kinds.iter().enumerate() {
            put(&mut bytes, 1, if big { 8 } else { 2 });
            for (number, size) in [(254, 2), (4, 2), (1, word), (u64::from(*kind), 4)] {
                put(&mut bytes, number, size);
            }
            bytes.resize(bytes.len() + word - 4, 0);
            let next = if index + 1 == kinds.len() { 0 } else { bytes.len() + word };
            put(&mut bytes, next as u64, word);
        }
        bytes
    }

    #[test]
    fn pages_are_counted_and_put_first_in_every_layout() {
        for (big_endian, big) in [(false, false), (true, false), (false, true), (true, true)] {
            // A reduced copy and a mask are no pages.
            let mut bytes = file(big_endian, big, &[2, 1, 2, 4, 0]);
            let found = pages(&mut Cursor::new(&bytes)).unwrap();
            assert_eq!(found.len(), 3, "{big_endian} {big}");
            assert_eq!(short(&bytes, 254), Some(2));
            put_first(&mut bytes, found[2]);
            assert_eq!((short(&bytes, 254), short(&bytes, 255)), (Some(0), None));
            set_short(&mut bytes, 254, 9);
            assert_eq!(short(&bytes, 254), Some(9));
            assert_eq!(pages(&mut Cursor::new(&bytes)).unwrap(), [found[2]]);
        }
    }

    #[test]
    fn damaged_directories_are_refused() {
        let bytes = file(false, false, &[0, 0]);
        for cut in 0..bytes.len() {
            assert!(pages(&mut Cursor::new(&bytes[..cut])).is_err(), "{cut}");
            assert!(short(&bytes[..cut], 255).is_none());
        }
        let mut circle = bytes;
        let end = circle.len();
        circle[end - 4..].copy_from_slice(&8u32.to_le_bytes());
        assert_eq!(pages(&mut Cursor::new(circle)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
