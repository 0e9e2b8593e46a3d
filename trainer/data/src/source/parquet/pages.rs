//! The pages of a column of images: where they are, and what is in them.
//!
//! A page is the smallest part of a Parquet file that can be read and decompressed by itself. Writers end one at about a
//! megabyte, so that it has a few images of usual size, or hundreds of small ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Repetition, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};
use serde::{Deserialize, Serialize};

use super::chunk::{Origin, Pieces, damaged, guarded};
use crate::Error;

/// How a column is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Zstd,
}

impl Codec {
    /// That of a column; an error with its name if this build cannot decompress it.
    pub(super) fn of(uri: &str, chunk: &ColumnChunkMetaData) -> Result<Self, Error> {
        match chunk.compression() {
            Compression::UNCOMPRESSED => Ok(Self::None),
            Compression::SNAPPY => Ok(Self::Snappy),
            Compression::GZIP(_) => Ok(Self::Gzip),
            Compression::ZSTD(_) => Ok(Self::Zstd),
            other => Err(Error::Shard {
                uri: uri.to_owned(),
                reason: format!(
                    "column {} is compressed by {other}; write the file again with snappy, gzip, zstd or no compression",
                    chunk.column_path()
                ),
            }),
        }
    }

    fn compression(self) -> Compression {
        match self {
            Self::None => Compression::UNCOMPRESSED,
            Self::Snappy => Compression::SNAPPY,
            Self::Gzip => Compression::GZIP(Default::default()),
            Self::Zstd => Compression::ZSTD(Default::default()),
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    /// Its first byte.
    pub(super) offset: u64,
    /// Its size.
    pub(super) bytes: u64,
}

/// The pages of a column in one row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// The page with the values that other pages refer to, if there is one.
    pub(super) dictionary: Option<Span>,
    /// The pages with their numbers of rows.
    pub(super) pages: Vec<(Span, u32)>,
}

/// The part of the file that a column of a row group takes.
///
/// # Errors
/// [`Error::Shard`] if it is not within the file.
pub(super) fn span_of(origin: &Origin, chunk: &ColumnChunkMetaData) -> Result<Span, Error> {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let span = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
    let span = span.filter(|(start, bytes)| start.checked_add(*bytes).is_some_and(|end| end <= origin.bytes));
    let (offset, bytes) = span.ok_or_else(|| {
        let reason = format!("column {} is not within its {} bytes", chunk.column_path(), origin.bytes);
        damaged(&origin.uri(), "it", &reason)
    })?;
    Ok(Span { offset, bytes })
}

/// Finds the pages of a column in a row group of `rows` rows: in the file's page index, or by the pages' headers.
///
/// # Errors
/// [`Error::Shard`] if the pages are not within the column or do not have `rows` rows; the errors of reading.
pub(super) fn locate(
    origin: &Origin,
    chunk: &ColumnChunkMetaData,
    rows: u64,
    index: Option<&[PageLocation]>,
) -> Result<Located, Error> {
    let (uri, span) = (origin.uri(), span_of(origin, chunk)?);
    let located = match index {
        Some(index) => indexed(span, rows, index),
        None => guarded(&uri, "the headers of its pages", || scanned(origin, chunk, span))?,
    };
    let total = located.as_ref().map(|located| located.pages.iter().map(|(_, rows)| u64::from(*rows)).sum::<u64>());
    match located {
        Some(located) if total == Some(rows) => Ok(located),
        _ => {
            let path = chunk.column_path();
            Err(damaged(&uri, "it", &format!("the pages of column {path} do not add up to its {rows} rows")))
        }
    }
}

fn indexed(span: Span, rows: u64, index: &[PageLocation]) -> Option<Located> {
    let end = span.offset + span.bytes;
    let (mut pages, mut free) = (Vec::with_capacity(index.len()), span.offset);
    for (place, location) in index.iter().enumerate() {
        let (offset, bytes) =
            (u64::try_from(location.offset).ok()?, u64::try_from(location.compressed_page_size).ok()?);
        let first = u64::try_from(location.first_row_index).ok()?;
        let next = index.get(place + 1).map_or(Some(rows), |next| u64::try_from(next.first_row_index).ok())?;
        if offset < free || offset.checked_add(bytes)? > end || (place == 0 && first != 0) {
            return None;
        }
        free = offset + bytes;
        pages.push((Span { offset, bytes }, u32::try_from(next.checked_sub(first)?).ok()?));
    }
    let first = pages.first().map_or(end, |(page, _)| page.offset);
    let dictionary = (first > span.offset).then_some(Span { offset: span.offset, bytes: first - span.offset });
    Some(Located { dictionary, pages })
}

/// Remembers where the library last began to read, which is where a page's header is.
struct Recorder<'a> {
    origin: Origin<'a>,
    last: AtomicU64,
}

impl Length for Recorder<'_> {
    fn len(&self) -> u64 {
        self.origin.bytes
    }
}

impl<'a> ChunkReader for Recorder<'a> {
    type T = Pieces<'a>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.last.store(start, Ordering::Relaxed);
        self.origin.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.origin.get_bytes(start, length)
    }
}

fn scanned(origin: &Origin, chunk: &ColumnChunkMetaData, span: Span) -> ParquetResult<Option<Located>> {
    let recorder = Arc::new(Recorder { origin: *origin, last: AtomicU64::new(span.offset) });
    let mut reader = SerializedPageReader::new(Arc::clone(&recorder), chunk, 0, None)?;
    let mut starts = Vec::new();
    while let Some(page) = reader.peek_next_page()? {
        starts.push((recorder.last.load(Ordering::Relaxed), page));
        reader.skip_next_page()?;
    }
    let mut located = Located { dictionary: None, pages: Vec::new() };
    for (place, (offset, page)) in starts.iter().enumerate() {
        // Up to the next header.
        let end = starts.get(place + 1).map_or(span.offset + span.bytes, |(next, _)| *next);
        let Some(bytes) = end.checked_sub(*offset) else { return Ok(None) };
        let here = Span { offset: *offset, bytes };
        match (page.is_dict, page.num_levels) {
            (true, _) => located.dictionary = Some(here),
            (false, Some(rows)) => {
                let Ok(rows) = u32::try_from(rows) else { return Ok(None) };
                located.pages.push((here, rows));
            }
            (false, None) => return Ok(None),
        }
    }
    Ok(Some(located))
}

/// Values in the order of the rows; none for null.
pub(super) type Values = Vec<Option<ByteArray>>;

/// A column of bytes whose values are null below the definition level `max_def`, without repetition.
fn descriptor(max_def: i16) -> ParquetResult<Arc<ColumnDescriptor>> {
    let leaf = Type::primitive_type_builder("bytes", Physical::BYTE_ARRAY).with_repetition(Repetition::OPTIONAL);
    Ok(Arc::new(ColumnDescriptor::new(Arc::new(leaf.build()?), max_def, 0, ColumnPath::from("bytes"))))
}

/// Decompresses the page that `bytes` begin with.
///
/// # Errors
/// The library's errors, also for a checksum that does not match.
pub(super) fn page(bytes: Bytes, codec: Codec, max_def: i16) -> ParquetResult<Page> {
    let chunk = ColumnChunkMetaData::builder(descriptor(max_def)?)
        .set_compression(codec.compression())
        .set_data_page_offset(0)
        .set_total_compressed_size(i64::try_from(bytes.len())?)
        .build()?;
    let mut reader = SerializedPageReader::new(Arc::new(bytes), &chunk, 0, None)?;
    reader.get_next_page()?.ok_or_else(|| ParquetError::EOF("there is no page".into()))
}

/// Whether the values of a page are in the dictionary.
pub(super) fn needs_dictionary(page: &Page) -> bool {
    matches!(page.encoding(), Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
}

/// The values of a page of `rows` rows.
///
/// # Errors
/// The library's errors, also if the page has another number of rows.
pub(super) fn values(page: Page, dictionary: Option<Page>, max_def: i16, rows: usize) -> ParquetResult<Values> {
    let found = page.num_values() as usize;
    if !page.is_data_page() || found != rows {
        return Err(ParquetError::General(format!("a page has {found} values instead of {rows}")));
    }
    let pages = Pages(dictionary.into_iter().chain([page]).collect());
    let mut reader = ColumnReaderImpl::<ByteArrayType>::new(descriptor(max_def)?, Box::new(pages));
    let (mut levels, mut present) = (Vec::new(), Vec::new());
    let levels_wanted = (max_def > 0).then_some(&mut levels);
    let (read, ..) = reader.read_records(rows, levels_wanted, None, &mut present)?;
    if read != rows {
        return Err(ParquetError::EOF(format!("a page has {read} rows instead of {rows}")));
    }
    Ok(spread(present, &levels, max_def))
}

/// Puts values where their definition levels say that there is one.
pub(super) fn spread<T>(present: Vec<T>, levels: &[i16], max_def: i16) -> Vec<Option<T>> {
    if max_def == 0 {
        return present.into_iter().map(Some).collect();
    }
    let mut present = present.into_iter();
    levels.iter().map(|level| if *level == max_def { present.next() } else { None }).collect()
}

/// Pages that were read before.
struct Pages(VecDeque<Page>);

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        let rows = |page: &Page| page.is_data_page().then_some(page.num_values() as usize);
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: rows(page),
            num_levels: rows(page),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.pop_front();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_index_that_contradicts_itself_is_refused() {
        let span = Span { offset: 100, bytes: 50 };
        let location = |offset, compressed_page_size, first_row_index| PageLocation {
            offset,
            compressed_page_size,
            first_row_index,
        };
        let good = [location(110, 20, 0), location(130, 20, 4)];
        let located = indexed(span, 10, &good).unwrap();
        assert_eq!(located.dictionary, Some(Span { offset: 100, bytes: 10 }));
        let pages = [(Span { offset: 110, bytes: 20 }, 4), (Span { offset: 130, bytes: 20 }, 6)];
        assert_eq!(located.pages, pages);
        for bad in [
            [location(110, 20, 0), location(130, 21, 4)],
            [location(110, 21, 0), location(130, 20, 4)],
            [location(110, 20, 1), location(130, 20, 4)],
            [location(110, 20, 0), location(130, 20, 11)],
            [location(-1, 20, 0), location(130, 20, 4)],
            [location(110, 20, 0), location(130, -20, 4)],
            [location(99, 20, 0), location(130, 20, 4)],
            [location(110, 20, 0), location(i64::MAX, 20, 4)],
        ] {
            assert_eq!(indexed(span, 10, &bad), None, "{bad:?}");
        }
    }

    #[test]
    fn values_are_spread_over_rows_with_nulls() {
        assert_eq!(spread(vec![1, 2], &[2, 0, 1, 2], 2), [Some(1), None, None, Some(2)]);
        assert_eq!(spread(vec![1, 2], &[], 0), [Some(1), Some(2)]);
    }
}
