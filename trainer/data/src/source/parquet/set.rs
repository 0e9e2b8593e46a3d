//! The files of a set: reading their pages, and the thread that extracts their images into the cache.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use parquet::column::page::Page;

use super::super::filling::fill_all;
use super::chunk::{Origin, damaged, guarded};
use super::extract::{Extract, Writer};
use super::pages::{Span, Values, needs_dictionary, page, values};
use super::table::{Group, PageAt};
use crate::Error;
use crate::cache::Cache;
use crate::storage::Storage;

/// The files of a set, as the thread that extracts them shares them.
#[derive(Debug)]
pub(super) struct FileSet {
    /// Where they are.
    pub(super) store: Storage,
    /// The files.
    pub(super) files: Vec<SetFile>,
}

/// A file of a set.
#[derive(Debug)]
pub(super) struct SetFile {
    /// Its name in the storage.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// The key of its extract.
    pub(super) key: String,
    /// The definition level at which an image is not null.
    pub(super) max_def: i16,
    /// Its row groups.
    pub(super) groups: Vec<Group>,
    /// Its pages of images.
    pub(super) pages: Vec<PageAt>,
    /// About how many bytes its images have.
    pub(super) image_bytes: u64,
    /// Its extract, once it is there.
    pub(super) extract: RwLock<Option<Arc<Extract>>>,
}

impl SetFile {
    /// The file's extract, if it is there now.
    pub(super) fn extract(&self) -> Option<Arc<Extract>> {
        self.extract.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses the extract no longer.
    pub(super) fn forget(&self) {
        *self.extract.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Uses the extract at `path`, if it is whole.
    fn adopt(&self, path: &Path) -> bool {
        let rows = self.pages.last().map_or(0, |last| last.first + last.rows);
        let extract = Extract::open(path, rows as usize).map(Arc::new);
        let whole = extract.is_some();
        *self.extract.write().unwrap_or_else(PoisonError::into_inner) = extract;
        whole
    }

    /// The number of the page with a row.
    pub(super) fn page_of(&self, row: u32) -> Option<usize> {
        self.pages.partition_point(|page| page.first <= row).checked_sub(1)
    }
}

/// Ends the thread that extracts images when it is dropped.
#[derive(Debug)]
pub(super) struct Extracting(Arc<AtomicBool>);

impl Drop for Extracting {
    fn drop(&mut self) {
        // The thread ends by itself after the page under way.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that one request for the next pages asks for.
const AHEAD: u64 = 16 << 20;

impl FileSet {
    /// A part of a file.
    pub(super) fn read(&self, file: &SetFile, span: Span) -> Result<Bytes, Error> {
        let local = self.local(file)?;
        self.origin(file, local.as_ref()).read(span.offset, span.bytes)
    }

    fn local(&self, file: &SetFile) -> Result<Option<File>, Error> {
        let Some(path) = self.store.local_file(&file.name) else { return Ok(None) };
        File::open(&path).map(Some).map_err(|source| Error::Io { path, action: "open", source })
    }

    fn origin<'a>(&'a self, file: &'a SetFile, local: Option<&'a File>) -> Origin<'a> {
        Origin { store: &self.store, name: &file.name, local, bytes: file.bytes }
    }

    /// The images of a page that has these `bytes`; `dictionary` is asked for only if the page refers to it.
    pub(super) fn values(
        &self,
        file: &SetFile,
        at: &PageAt,
        bytes: Bytes,
        dictionary: impl FnOnce(Span) -> Result<Page, Error>,
    ) -> Result<Values, Error> {
        let uri = self.store.uri(&file.name);
        let group = file.groups.get(at.group as usize).ok_or_else(|| damaged(&uri, "it", "it lacks a row group"))?;
        let what = format!("the page of images at byte {}", at.span.offset);
        let data = guarded(&uri, &what, || page(bytes, group.codec, file.max_def))?;
        let dictionary = match group.dictionary.filter(|_| needs_dictionary(&data)) {
            Some(span) => Some(dictionary(span)?),
            None => None,
        };
        guarded(&uri, &what, || values(data, dictionary, file.max_def, at.rows as usize))
    }

    /// The dictionary of a row group that has these `bytes`.
    pub(super) fn dictionary(&self, file: &SetFile, group: u32, bytes: Bytes) -> Result<Page, Error> {
        let uri = self.store.uri(&file.name);
        let group = file.groups.get(group as usize).ok_or_else(|| damaged(&uri, "it", "it lacks a row group"))?;
        let page = guarded(&uri, "the dictionary of its images", || page(bytes, group.codec, file.max_def))?;
        if page.is_dictionary_page() {
            return Ok(page);
        }
        Err(damaged(&uri, "it", "there is another page where a dictionary should be"))
    }

    /// Starts to extract the images of all files into `cache`.
    pub(super) fn start_extracting(self: &Arc<Self>, cache: Option<Arc<Cache>>) -> Result<Extracting, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        if let Some(cache) = cache {
            let (set, stop) = (Arc::clone(self), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("extract".into())
                .spawn(move || set.extract_all(&cache, &stop))
                .map_err(|e| Error::Worker { what: format!("could not be started: {e}") })?;
        }
        Ok(Extracting(stop))
    }

    /// Extracts file after file until all are there, there is no more room, or the set is dropped.
    fn extract_all(&self, cache: &Cache, stop: &AtomicBool) {
        fill_all(
            self.files.iter().filter(|file| !file.pages.is_empty()),
            cache,
            stop,
            |file| &file.key,
            |file, path| file.adopt(&path),
            |file| cache.fill_about(&file.key, file.image_bytes, |to, path| self.extract(file, stop, to, path)),
        );
    }

    fn extract(&self, file: &SetFile, stop: &AtomicBool, to: &mut dyn Write, path: &Path) -> Result<(), Error> {
        let fail = |source| Error::Io { path: path.to_owned(), action: "write", source };
        let local = self.local(file)?;
        let origin = self.origin(file, local.as_ref());
        let mut ahead = Ahead { origin, start: 0, held: Bytes::new() };
        // Values that refer to one another's bytes may be many more than the file has.
        let limit = file.image_bytes.saturating_mul(2).saturating_add(AHEAD);
        let mut writer = Writer::new(to);
        let mut dictionary: Option<(u32, Page)> = None;
        for at in &file.pages {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Worker { what: "was asked to stop".into() });
            }
            let same = |page: &PageAt| page.group == at.group;
            let end = file.pages.iter().rfind(|page| same(page)).map_or(0, |last| last.span.offset + last.span.bytes);
            if let Some(span) = file.groups.get(at.group as usize).and_then(|group| group.dictionary)
                && dictionary.as_ref().is_none_or(|(group, _)| *group != at.group)
            {
                dictionary = Some((at.group, self.dictionary(file, at.group, ahead.read(span, end)?)?));
            }
            let bytes = ahead.read(at.span, end)?;
            let values = self.values(file, at, bytes, |_| {
                let page = dictionary.as_ref().map(|(_, page)| page.clone());
                page.ok_or_else(|| damaged(&origin.uri(), "it", "it lacks a dictionary"))
            })?;
            for value in &values {
                if writer.add(value.as_ref()).map_err(fail)? > limit {
                    let reason = format!("its images have more than {limit} bytes, far more than its pages");
                    return Err(damaged(&origin.uri(), "it", &reason));
                }
            }
        }
        writer.finish().map_err(fail)
    }
}

/// Reads parts of a file that follow one another, several at a time.
struct Ahead<'a> {
    origin: Origin<'a>,
    start: u64,
    held: Bytes,
}

impl Ahead<'_> {
    /// A part of the file, of which more is wanted up to `end`.
    fn read(&mut self, span: Span, end: u64) -> Result<Bytes, Error> {
        let within = |start: u64, held: &Bytes| {
            let from = usize::try_from(span.offset.checked_sub(start)?).ok()?;
            let to = from.checked_add(usize::try_from(span.bytes).ok()?)?;
            (to <= held.len()).then_some(from..to)
        };
        if let Some(range) = within(self.start, &self.held) {
            return Ok(self.held.slice(range));
        }
        let length = end.saturating_sub(span.offset).min(AHEAD).max(span.bytes);
        self.held = self.origin.read(span.offset, length)?;
        self.start = span.offset;
        Ok(self.held.slice(..span.bytes as usize))
    }
}
