//! The pages of a TIFF file as samples of their own.
//!
//! A page is named `<file>#<number>`, from 1; a file with one page keeps its name. No other sample can have such a name:
//! `tif#2` is no ending of an image.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::listing::Item;
use super::listing_report::ListingReport;
use super::parallel::in_parallel;
use crate::{Error, ifd};

/// Which pages of a TIFF file with several are samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// The first.
    #[default]
    First,
    /// Each.
    All,
}

/// Endings of TIFF files.
const ENDINGS: [&str; 2] = ["tif", "tiff"];

/// Whether a name is that of a TIFF file, by its ending.
pub(super) fn is_tiff(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| ENDINGS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// The file and the number of a page that is a sample of its own.
pub(crate) fn split(name: &str) -> Option<(&str, usize)> {
    let (file, number) = name.rsplit_once('#')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    is_tiff(file).then_some((file, number))
}

/// The file that a sample is in.
pub(super) fn file_of(name: &str) -> &str {
    split(name).map_or(name, |(file, _)| file)
}

/// Number of pages of a file; 0 of a TIFF file whose list of pages is damaged, and 1 of a file that is no TIFF.
///
/// # Errors
/// Errors of this crate that the reader passes on, such as those of storage.
pub(super) fn count(reader: &mut (impl Read + Seek)) -> Result<usize, Error> {
    match ifd::pages(reader) {
        Ok(pages) => Ok(pages.len()),
        Err(error) => match error.downcast::<Error>() {
            Ok(ours) => Err(ours),
            Err(_) => Ok(usize::from(!ifd::is_tiff(reader))),
        },
    }
}

/// The items with one for each page in place of a TIFF file; `count` says how many pages it has.
///
/// # Errors
/// Those of `count`.
pub(super) fn expand<T: Clone + Sync>(
    items: Vec<Item<T>>,
    listing_report: &mut ListingReport,
    count: impl Fn(&Item<T>) -> Result<usize, Error> + Sync + Send,
) -> Result<Vec<Item<T>>, Error> {
    let counts = in_parallel(&items, |item| if is_tiff(&item.name) { count(item) } else { Ok(1) })?;
    let mut expanded = Vec::with_capacity(items.len());
    for (Item { name, class, entry }, count) in items.into_iter().zip(counts) {
        let page = |name| Item { name, class: class.clone(), entry: entry.clone() };
        expanded.extend(names(&name, count).map(page));
    }
    note(expanded.iter().map(|item| item.name.as_str()), listing_report);
    Ok(expanded)
}

/// The names of the samples in a file with `count` pages; of 0, that of a page, which then counts as unreadable.
pub(super) fn names(file: &str, count: usize) -> impl Iterator<Item = String> {
    (1..=count.max(1)).map(move |number| if count == 1 { file.to_owned() } else { format!("{file}#{number}") })
}

/// Counts how many files have pages, and how many pages those are.
pub(super) fn note<'a>(names: impl Iterator<Item = &'a str>, listing_report: &mut ListingReport) {
    for (_, number) in names.filter_map(split) {
        listing_report.paged_files += usize::from(number == 1);
        listing_report.pages += 1;
    }
}

/// Makes the page that `name` names the first of the file in `bytes`, where it names one: decoders read the first.
///
/// # Errors
/// [`Error::Decode`] if the file does not have the page: its list of pages is damaged, or it changed since it was listed.
pub(super) fn select(name: &str, bytes: &mut [u8]) -> Result<(), Error> {
    let Some((_, number)) = split(name) else { return Ok(()) };
    let bad = |reason: String| Error::Decode { name: name.to_owned(), reason };
    let pages = ifd::pages(&mut Cursor::new(&*bytes));
    let pages = pages.map_err(|error| bad(format!("TIFF: its list of pages is damaged: {error}")))?;
    let at = pages.get(number - 1).ok_or_else(|| {
        bad(format!("the file has {} pages, not {number}; it changed since it was listed", pages.len()))
    })?;
    ifd::put_first(bytes, *at);
    Ok(())
}

/// A part of a reader, as a file within a tar is.
pub(super) struct Section<R> {
    reader: R,
    start: u64,
    length: u64,
    at: u64,
}

impl<R: Read + Seek> Section<R> {
    /// The `length` bytes from `start`.
    pub(super) fn new(reader: R, start: u64, length: u64) -> Self {
        Self { reader, start, length, at: 0 }
    }
}

impl<R: Read + Seek> Read for Section<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.reader.seek(SeekFrom::Start(self.start + self.at))?;
        let count = self.reader.read(&mut buffer[..wanted])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read + Seek> Seek for Section<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        // An offset in a damaged file can be anything; beyond the section nothing is read.
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.min(self.length);
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_named_by_file_and_number() {
        assert_eq!(split("a/b.tif#2"), Some(("a/b.tif", 2)));
        assert_eq!(split("a#1/b.TIFF#12"), Some(("a#1/b.TIFF", 12)));
        for name in ["a/b.tif", "a/b.tif#0", "a/b.tif#x", "a/b.jpg#2", "a#2.tif"] {
            assert_eq!((split(name), file_of(name)), (None, name));
        }
    }

    #[test]
    fn file_of_one_page_keeps_its_name() {
        assert_eq!(names("a/b.tif", 1).collect::<Vec<_>>(), ["a/b.tif"]);
        assert_eq!(names("a/b.tif", 0).collect::<Vec<_>>(), ["a/b.tif#1"]);
        assert_eq!(names("a/b.tif", 2).collect::<Vec<_>>(), ["a/b.tif#1", "a/b.tif#2"]);
    }

    #[test]
    fn section_reads_its_part_alone() {
        let mut section = Section::new(Cursor::new(b"0123456789"), 2, 4);
        let mut all = String::new();
        section.read_to_string(&mut all).unwrap();
        assert_eq!(all, "2345");
        assert_eq!(section.seek(SeekFrom::Start(1 << 40)).unwrap(), 4);
        assert_eq!(section.read(&mut [0; 4]).unwrap(), 0);
    }
}
