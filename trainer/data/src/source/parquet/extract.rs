//! The images of a Parquet file in a file of the cache, where each can be read by itself.
//!
//! The images are one after another in the order of the rows. After them come two numbers for each row, its length and its
//! CRC-32 (a null image has the length 2³² − 1), then the number of rows, the CRC-32 of that table, and a mark; all little
//! endian.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parquet::data_type::ByteArray;

const MARK: &[u8; 8] = b"simsiamX";
const ROW: usize = 8;
const TRAILER: usize = 8 + 4 + MARK.len();
const NULL: u32 = u32::MAX;

/// A file of extracted images.
#[derive(Debug)]
pub(super) struct Extract {
    path: PathBuf,
    rows: Vec<ImageAt>,
}

#[derive(Debug, Clone, Copy)]
struct ImageAt {
    offset: u64,
    length: u32,
    crc: u32,
}

/// What reading an image gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extracted {
    /// The image.
    Image,
    /// The row has no image.
    Null,
    /// The file is gone or damaged.
    Unusable,
}

impl Extract {
    /// Reads the table of the file at `path`, if it is whole and has `rows` rows.
    pub(super) fn open(path: &Path, rows: usize) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        let table = rows.checked_mul(ROW)? as u64;
        let images = bytes.checked_sub(table)?.checked_sub(TRAILER as u64)?;
        file.seek(SeekFrom::Start(images)).ok()?;
        let mut end = Vec::new();
        file.read_to_end(&mut end).ok()?;
        let (table, trailer) = end.split_at_checked(table as usize)?;
        if trailer != Self::trailer(rows, table) {
            return None;
        }
        let mut offset = 0;
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        let mut found = Vec::with_capacity(rows);
        for row in table.chunks_exact(ROW) {
            let (length, crc) = (number(&row[..4])?, number(&row[4..])?);
            found.push(ImageAt { offset, length, crc });
            offset += u64::from(if length == NULL { 0 } else { length });
        }
        (offset == images).then(|| Self { path: path.to_owned(), rows: found })
    }

    /// Reads the image of a row into `buffer`.
    pub(super) fn read(&self, row: usize, buffer: &mut Vec<u8>) -> Extracted {
        let Some(ImageAt { offset, length, crc }) = self.rows.get(row).copied() else { return Extracted::Unusable };
        if length == NULL {
            return Extracted::Null;
        }
        buffer.clear();
        buffer.resize(length as usize, 0);
        match File::open(&self.path).and_then(|file| file.read_exact_at(buffer, offset)) {
            Ok(()) if crc32fast::hash(buffer) == crc => Extracted::Image,
            _ => Extracted::Unusable,
        }
    }

    fn trailer(rows: usize, table: &[u8]) -> Vec<u8> {
        [&(rows as u64).to_le_bytes()[..], &crc32fast::hash(table).to_le_bytes(), MARK].concat()
    }
}

/// Writes a file of extracted images, row by row.
pub(super) struct Writer<'a> {
    to: BufWriter<&'a mut dyn Write>,
    table: Vec<u8>,
    bytes: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to: BufWriter::with_capacity(1 << 20, to), table: Vec::new(), bytes: 0 }
    }

    /// Adds the image of the next row; returns the bytes of all images so far.
    pub(super) fn add(&mut self, image: Option<&ByteArray>) -> std::io::Result<u64> {
        let (length, crc) = match image.map(ByteArray::data) {
            Some(bytes) => {
                let length = u32::try_from(bytes.len()).ok().filter(|length| *length != NULL);
                self.to.write_all(bytes)?;
                (length.ok_or(std::io::ErrorKind::FileTooLarge)?, crc32fast::hash(bytes))
            }
            None => (NULL, 0),
        };
        self.bytes += u64::from(if length == NULL { 0 } else { length });
        self.table.extend([length.to_le_bytes(), crc.to_le_bytes()].concat());
        Ok(self.bytes)
    }

    /// Writes what follows the images.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        self.to.write_all(&self.table)?;
        self.to.write_all(&Extract::trailer(self.table.len() / ROW, &self.table))?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(images: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        for image in images {
            writer.add(image.map(ByteArray::from).as_ref()).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn extracted_images_are_read_by_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes = written(&[Some("one"), None, Some(""), Some("three")]);
        std::fs::write(&path, &bytes).unwrap();
        let (extract, mut buffer) = (Extract::open(&path, 4).unwrap(), vec![1]);
        for (row, expected, content) in [
            (3, Extracted::Image, &b"three"[..]),
            (0, Extracted::Image, b"one"),
            (1, Extracted::Null, b"one"),
            (2, Extracted::Image, b""),
            (4, Extracted::Unusable, b""),
        ] {
            assert_eq!((extract.read(row, &mut buffer), &buffer[..]), (expected, content), "row {row}");
        }
        assert!(Extract::open(&path, 3).is_none() && Extract::open(&path, 5).is_none(), "another number of rows");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(extract.read(0, &mut buffer), Extracted::Unusable);
    }

    #[test]
    fn damaged_extract_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let whole = written(&[Some("one"), None, Some("three")]);
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(Extract::open(&path, 3).is_none(), "cut at {cut}");
        }
        let mut buffer = Vec::new();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let unusable = |extract: Extract| (0..3).any(|row| extract.read(row, &mut buffer) == Extracted::Unusable);
            assert!(Extract::open(&path, 3).is_none_or(unusable), "byte {at}");
        }
    }
}
