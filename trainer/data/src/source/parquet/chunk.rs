//! A Parquet file as the Parquet library reads it, and its errors as ours.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, Bytes, buf};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::Error;
use crate::storage::Storage;

/// A file on a local disk or in object storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The storage that it is in.
    pub(super) store: &'a Storage,
    /// Its name there.
    pub(super) name: &'a str,
    /// Its local file, if it has one.
    pub(super) local: Option<&'a File>,
    /// Its size.
    pub(super) bytes: u64,
}

impl Origin<'_> {
    /// The file's address.
    pub(super) fn uri(&self) -> String {
        self.store.uri(self.name)
    }

    /// A part of the file.
    ///
    /// # Errors
    /// [`Error::Shard`] if the part is beyond the end of the file; the errors of reading.
    pub(super) fn read(&self, start: u64, length: u64) -> Result<Bytes, Error> {
        let end = start.checked_add(length).filter(|end| *end <= self.bytes);
        let Some(end) = end else {
            let reason = format!("says to read {length} bytes at byte {start}, and has {}", self.bytes);
            return Err(damaged(&self.uri(), "it", &reason));
        };
        let Some(file) = self.local else { return Ok(self.store.get_range(self.name, start..end)?.into()) };
        let mut bytes = vec![0; length as usize];
        let path = || self.store.local_file(self.name).unwrap_or_else(|| self.name.into());
        match file.read_exact_at(&mut bytes, start) {
            Ok(()) => Ok(bytes.into()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(damaged(&self.uri(), "it", "it has become shorter"))
            }
            Err(source) => Err(Error::Io { path: path(), action: "read", source }),
        }
    }
}

impl Length for Origin<'_> {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl<'a> ChunkReader for Origin<'a> {
    type T = Pieces<'a>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(Pieces { origin: *self, at: start, held: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.read(start, length as u64).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Reads on from a place, a few kilobytes at a time: the headers of pages are short and far apart.
pub(super) struct Pieces<'a> {
    origin: Origin<'a>,
    at: u64,
    held: Bytes,
}

const PIECE: u64 = 4096;

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.held.is_empty() {
            let length = PIECE.min(self.origin.bytes.saturating_sub(self.at));
            self.held = self.origin.read(self.at, length).map_err(std::io::Error::other)?;
            self.at += length;
        }
        let count = self.held.len().min(buffer.len());
        self.held.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// A part of a file in memory, under the file's own offsets.
#[derive(Debug)]
pub(super) struct Window {
    /// Where in the file it begins.
    pub(super) start: u64,
    /// Its content.
    pub(super) bytes: Bytes,
}

impl Window {
    fn from(&self, start: u64, length: Option<usize>) -> ParquetResult<Bytes> {
        let from = start.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let from = from.filter(|from| *from <= self.bytes.len());
        let end = from.and_then(|from| from.checked_add(length.unwrap_or(self.bytes.len() - from)));
        match (from, end.filter(|end| *end <= self.bytes.len())) {
            (Some(from), Some(end)) => Ok(self.bytes.slice(from..end)),
            _ => Err(ParquetError::EOF(format!("a page at byte {start} is not within its column"))),
        }
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Window {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start, None)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.from(start, Some(length))
    }
}

/// Runs a reader of the Parquet library. Its errors become ours, and so do its panics: its decoders take some of a file's
/// numbers for granted.
///
/// # Errors
/// [`Error::Shard`] that names `uri` and `what` was read; the errors of reading as they are.
pub(super) fn guarded<T>(uri: &str, what: &str, read: impl FnOnce() -> ParquetResult<T>) -> Result<T, Error> {
    let error = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(ParquetError::External(error))) => error,
        Ok(Err(error)) => Box::new(error),
        Err(_) => return Err(damaged(uri, what, "its numbers contradict each other")),
    };
    // An error of ours may have passed through `Read`.
    let error = match error.downcast::<std::io::Error>() {
        Ok(error) => error.into_inner().unwrap_or_else(|| "the file ends early".into()),
        Err(error) => error,
    };
    Err(match error.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(error) => damaged(uri, what, &error.to_string()),
    })
}

/// The error for a damaged file.
pub(super) fn damaged(uri: &str, what: &str, reason: &str) -> Error {
    let reason = format!("cannot read {what}: {reason}; copy the file again, or write it again");
    Error::Shard { uri: uri.to_owned(), reason }
}
