//! A set of Parquet files as a source of images.

use std::fs::File;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use parquet::column::page::Page;
use parquet::data_type::ByteArray;

use super::super::access::{Access, Source};
use super::super::listing::{Listing, source_of_listing};
use super::super::listing_report::ListingReport;
use super::super::pages::Pages;
use super::super::parallel::in_parallel;
use super::super::prefetch::Prefetcher;
use super::chunk::Origin;
use super::extract::Extracted;
use super::held::Held;
use super::pages::Values;
use super::rows::{RowAt, items, notes, same_labels};
use super::select::one_split;
use super::set::{Extracting, FileSet, SetFile};
use super::table::{PageAt, Table, read};
use crate::cache::{Cache, seal, sealed_size, unseal};
use crate::storage::{ListedObject, Storage};
use crate::{DecodeOptions, Error};

/// Images in a column of Parquet files.
///
/// The name of a sample is `<class>/<path>`, as in a folder of class folders, if each image has a path of its own in its
/// class; otherwise it is `<class>/<file>#<row>`, with rows numbered from 0 within the file. Ids follow class and name, as
/// in every source.
#[derive(Debug)]
pub struct ParquetFiles {
    set: Arc<FileSet>,
    listing: Listing,
    entries: Vec<RowAt>,
    held: Held<Key, Kept>,
    prefetcher: Prefetcher,
    decode: DecodeOptions,
    /// Ends with the set.
    _extracting: Extracting,
}

/// What is kept in memory, by the file and the number of its page or row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Page(u32, u32),
    Dictionary(u32, u32),
}

#[derive(Debug, Clone)]
enum Kept {
    Values(Arc<Values>),
    Dictionary(Page),
}

/// Bytes of decompressed pages that each set keeps in memory. Local sets up to this size are not extracted.
const HELD: usize = 256 << 20;
/// Bytes of pages that may be on their way from object storage.
const ON_THE_WAY: u64 = 256 << 20;

impl ParquetFiles {
    /// Opens the files `listed` in `store`. `uri` is the address that named them, and `skipped` what else was found there.
    pub(in super::super) fn open(
        uri: &str,
        store: Storage,
        listed: Vec<ListedObject>,
        skipped: ListingReport,
        known: Option<&[String]>,
        access: &Access,
    ) -> Result<Self, Error> {
        if access.pages == Pages::All {
            let reason = "the pages of TIFF images in Parquet files cannot be samples of their own; set pages to first";
            return Err(Error::Selection { uri: uri.to_owned(), reason: reason.to_owned() });
        }
        one_split(uri, listed.iter().map(|file| file.name.as_str()))?;
        let local = store.local_file("").is_some();
        // Without it images are read from their pages, which takes longer.
        let cache = || {
            let (folder, limit) = access.extracts.as_ref()?;
            Cache::open(folder, *limit).ok().map(Arc::new)
        };
        let remote_cache = if local { None } else { cache() };
        let tables = in_parallel(&listed, |file| {
            table(&store, file, access, remote_cache.as_deref()).map(|table| (file.name.clone(), table))
        })?;
        if tables.iter().all(|(_, table)| table.labels.is_empty()) {
            let reason = format!("there are no rows in {} Parquet files", listed.len());
            return Err(Error::Shard { uri: uri.to_owned(), reason });
        }
        same_labels(uri, &tables)?;
        let mut listing_report = skipped;
        listing_report.unusable(store.unusable_keys());
        listing_report.notes.extend(notes(&tables));
        let (listing, entries) = Listing::with_given_classes(uri, items(&tables), known, listing_report)?;
        let files: Vec<SetFile> = listed
            .into_iter()
            .zip(tables)
            .map(|(file, (_, table))| SetFile {
                key: Cache::key(
                    &format!("{}.{:?}.images1", store.uri(&file.name), access.columns),
                    file.size,
                    &file.version,
                ),
                name: file.name,
                bytes: file.size,
                max_def: table.max_def,
                groups: table.groups,
                pages: table.pages,
                image_bytes: table.image_bytes,
                extract: RwLock::default(),
            })
            .collect();
        let total: u64 = files.iter().map(|file| file.image_bytes).sum();
        let cache = if local && total > HELD as u64 { cache() } else { remote_cache };
        let prefetcher = Prefetcher::new(store.runtime().clone());
        let set = Arc::new(FileSet { store, files });
        let extracting = set.start_extracting(cache)?;
        let decode = access.decode;
        Ok(Self { set, listing, entries, held: Held::new(HELD), prefetcher, decode, _extracting: extracting })
    }

    fn place(&self, id: u64) -> Result<(RowAt, &SetFile), Error> {
        let missing = || Error::NoSuchSample { id, len: self.entries.len() };
        let row = usize::try_from(id).ok().and_then(|id| self.entries.get(id)).copied().ok_or_else(missing)?;
        Ok((row, self.set.files.get(row.file as usize).ok_or_else(missing)?))
    }

    /// The images of a page and the place of a row among them, from memory, from what was fetched, or from the file.
    fn values(&self, at: RowAt, file: &SetFile) -> Result<(Arc<Values>, usize), Error> {
        let Some((number, page)) = file.page_of(at.row).and_then(|number| Some((number, file.pages.get(number)?)))
        else {
            return Ok((Arc::default(), 0));
        };
        let (key, place) = (Key::Page(at.file, number as u32), (at.row - page.first) as usize);
        if let Some(Kept::Values(values)) = self.held.get(key) {
            return Ok((values, place));
        }
        let bytes = match self.prefetcher.take(on_the_way(at.file, number)).transpose()? {
            Some(fetched) => Bytes::from(fetched),
            None => self.set.read(file, page.span)?,
        };
        let values = self.set.values(file, page, bytes, |span| {
            let key = Key::Dictionary(at.file, page.group);
            if let Some(Kept::Dictionary(dictionary)) = self.held.get(key) {
                return Ok(dictionary);
            }
            let dictionary = self.set.dictionary(file, page.group, self.set.read(file, span)?)?;
            self.held.put(key, Kept::Dictionary(dictionary.clone()), dictionary.buffer().len());
            Ok(dictionary)
        })?;
        let content: usize = values.iter().flatten().map(ByteArray::len).sum();
        let values = Arc::new(values);
        self.held.put(key, Kept::Values(Arc::clone(&values)), content + values.len() * size_of::<Option<ByteArray>>());
        Ok((values, place))
    }
}

fn on_the_way(file: u32, page: usize) -> u64 {
    u64::from(file) << 32 | page as u64
}

impl Source for ParquetFiles {
    source_of_listing!();

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.read_into(id, &mut buffer)?;
        Ok(buffer)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let (at, file) = self.place(id)?;
        let null = || Error::Decode {
            name: self.name(id).to_owned(),
            reason: "the image is null, or only its path was saved".to_owned(),
        };
        if let Some(extract) = file.extract() {
            match extract.read(at.row as usize, buffer) {
                Extracted::Image => return Ok(()),
                Extracted::Null => return Err(null()),
                // The file itself still has the image.
                Extracted::Unusable => file.forget(),
            }
        }
        let (values, place) = self.values(at, file)?;
        let value = values.get(place).and_then(Option::as_ref).ok_or_else(null)?;
        buffer.clear();
        buffer.extend_from_slice(value.data());
        Ok(())
    }

    fn prefetch(&self, ids: &[u64]) {
        if self.set.store.local_file("").is_some() {
            return;
        }
        for &id in ids {
            let Ok((at, file)) = self.place(id) else { continue };
            let Some(number) = file.page_of(at.row) else { continue };
            if file.extract().is_some() || self.held.has(Key::Page(at.file, number as u32)) {
                continue;
            }
            let Some(PageAt { span, .. }) = file.pages.get(number) else { continue };
            let (store, name) = (self.set.store.clone(), file.name.clone());
            let range = span.offset..span.offset + span.bytes;
            self.prefetcher.start_within(ON_THE_WAY, span.bytes, on_the_way(at.file, number), async move {
                store.fetch(&name, Some(range)).await
            });
        }
    }
}

/// The table of contents of a file; cached for a remote one, for which it takes many requests.
fn table(store: &Storage, file: &ListedObject, access: &Access, cache: Option<&Cache>) -> Result<Table, Error> {
    let (uri, columns) = (store.uri(&file.name), &access.columns);
    if let Some(path) = store.local_file(&file.name) {
        let opened = File::open(&path).map_err(|source| Error::Io { path, action: "open", source })?;
        return read(&Origin { store, name: &file.name, local: Some(&opened), bytes: file.size }, columns);
    }
    // The version is that of what is read from a file.
    let key = Cache::key(&format!("{uri}.{columns:?}.table1"), file.size, &file.version);
    if let Some(table) = cache.and_then(|cache| cached(cache, &key)) {
        return Ok(table);
    }
    let table = read(&Origin { store, name: &file.name, local: None, bytes: file.size }, columns)?;
    cache.iter().for_each(|cache| keep(cache, &key, &table));
    Ok(table)
}

fn cached(cache: &Cache, key: &str) -> Option<Table> {
    let (path, mut text) = (cache.find(key)?, Vec::new());
    let whole = unseal(&path, &mut text).unwrap_or(false);
    let table = whole.then(|| serde_json::from_slice(&text).ok()).flatten();
    if table.is_none() {
        cache.drop_damaged(&path);
    }
    table
}

/// Without it the table is read from the file again next time.
fn keep(cache: &Cache, key: &str, table: &Table) {
    let Ok(text) = serde_json::to_vec(table) else { return };
    let _ = cache.fill(key, sealed_size(text.len() as u64), |to, path| {
        seal(&text, to).map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
    });
}
