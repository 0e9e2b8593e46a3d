//! Images in tar files, packed by us or by others (WebDataset), local or in object storage.
//!
//! Each sample is read from where it is: from the local file, from the cache's copy of the shard, or by a request for just
//! its bytes. A thread fills the cache with whole shards meanwhile.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::access::{Access, Source};
use super::filling::fill_all;
use super::index::{Entry, Index};
use super::listing::{Item, Listing, source_of_listing};
use super::listing_report::{ListingReport, kinds};
use super::packed::Manifest;
use super::pages::{self, Pages};
use super::parallel::in_parallel;
use super::prefetch::Prefetcher;
use super::tar::{Contents, RangeReader, images};
use crate::cache::Cache;
use crate::hex::hex;
use crate::storage::{ListedObject, Storage};
use crate::{DecodeOptions, Error};

/// A set of tar shards.
#[derive(Debug)]
pub struct Shards {
    set: Arc<Set>,
    listing: Listing,
    entries: Vec<ShardEntry>,
    prefetcher: Prefetcher,
    stop: Arc<AtomicBool>,
    /// [`Pages::All`] where samples are pages of the files in the tars; those of a packed set are files of their own.
    pages: Pages,
    decode: DecodeOptions,
}

/// The shards, as the thread that fills the cache shares them.
#[derive(Debug)]
struct Set {
    store: Storage,
    /// The shards are local files, not copies of objects.
    local: bool,
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    name: String,
    bytes: u64,
    sha256: Option<String>,
    key: String,
    /// The shard's local file or copy; none while there is neither.
    file: RwLock<Option<Arc<Path>>>,
}

#[derive(Debug, Clone, Copy)]
struct ShardEntry {
    shard: u32,
    size: u32,
    offset: u64,
    crc: Option<u32>,
}

impl Shards {
    /// Opens a packed set by its manifest.
    pub(super) fn packed(
        store: Storage,
        manifest: &Manifest,
        known: Option<&[String]>,
        access: &Access,
    ) -> Result<Self, Error> {
        let open = |shard: &super::packed::ShardInfo| {
            let name = format!("{}.idx", shard.stem);
            let uri = store.uri(&name);
            let bytes = store.get(&name)?.ok_or_else(|| Error::Shard {
                uri: uri.clone(),
                reason: "this index is missing; pack the data again".into(),
            })?;
            let index = Index::parse(&uri, &bytes)?;
            if index.bytes != shard.bytes || index.sha256 != shard.sha256 || index.entries.len() != shard.samples {
                let reason = "this index disagrees with the manifest about its shard; pack the data again".into();
                return Err(Error::Shard { uri, reason });
            }
            let tar =
                ListedObject { name: format!("{}.tar", shard.stem), size: shard.bytes, version: shard.sha256.clone() };
            Ok((tar, Some(shard.sha256.clone()), index.entries))
        };
        let opened: Vec<_> = in_parallel(&manifest.shards, open)?;
        // Its classes were found when it was packed.
        let known = known.unwrap_or(&manifest.classes);
        let (set, items) = Self::items(&store, opened)?;
        let (listing, entries) =
            Listing::with_given_classes(&store.uri(""), items, Some(known), ListingReport::default())?;
        Self::new(store, set, listing, entries, access, Pages::First)
    }

    /// Opens the tars of a folder or prefix, or the one tar that `store` is.
    pub(super) fn tars(
        store: Storage,
        tars: Vec<ListedObject>,
        known: Option<&[String]>,
        access: &Access,
    ) -> Result<Self, Error> {
        let cache = access.cache.as_deref();
        let read = |tar: &ListedObject| {
            let uri = store.uri(&tar.name);
            let contents = table(&store, tar, &uri, access, cache)?;
            Ok((tar.clone(), contents))
        };
        let (mut listing_report, mut opened) = (ListingReport::default(), Vec::new());
        for (tar, contents) in in_parallel(&tars, read)? {
            listing_report.add(contents.listing_report);
            opened.push((tar, None, contents.entries));
        }
        listing_report.unusable(store.unusable_keys());
        if let (Some(wanted), true) = (&access.image_key, opened.iter().all(|(_, _, entries)| entries.is_empty())) {
            let found = kinds(&listing_report.other_keys);
            let reason = format!("no image has the chosen ending {wanted}; there are {found}");
            if !found.is_empty() {
                return Err(Error::Shard { uri: store.uri(""), reason });
            }
        }
        let labelled = |entry: &&Entry| entry.class.is_some();
        let mut all = opened.iter().flat_map(|(_, _, entries): &(_, _, Vec<Entry>)| entries);
        if let (Some(bare), true) = (all.clone().find(|e| e.class.is_none()), all.any(|e| labelled(&e))) {
            let reason = format!(
                "{} has neither a folder nor a .cls with its class, while other samples have; add it, or remove the sample",
                bare.name
            );
            return Err(Error::Shard { uri: store.uri(""), reason });
        }
        let (set, items) = Self::items(&store, opened)?;
        if access.pages == Pages::All {
            pages::note(items.iter().map(|item| item.name.as_str()), &mut listing_report);
        }
        let (listing, entries) = Listing::new(&store.uri(""), items, known, listing_report)?;
        Self::new(store, set, listing, entries, access, access.pages)
    }

    /// The shards, and their samples as they are listed.
    #[allow(clippy::type_complexity)] // Both go straight into a listing and a set.
    fn items(
        store: &Storage,
        opened: Vec<(ListedObject, Option<String>, Vec<Entry>)>,
    ) -> Result<(Vec<Shard>, Vec<Item<ShardEntry>>), Error> {
        let (mut shards, mut items) = (Vec::new(), Vec::new());
        for (number, (tar, sha256, entries)) in (0u32..).zip(opened) {
            let entry = |e: &Entry| ShardEntry { shard: number, size: e.size, offset: e.offset, crc: e.crc };
            items.extend(entries.into_iter().map(|e| Item { entry: entry(&e), class: e.class, name: e.name }));
            let key = Cache::key(&store.uri(&tar.name), tar.size, &tar.version);
            let file = match store.local_file(&tar.name) {
                Some(path) => Some(local_shard(path, tar.size)?.into()),
                None => None,
            };
            shards.push(Shard { name: tar.name, bytes: tar.size, sha256, key, file: RwLock::new(file) });
        }
        Ok((shards, items))
    }

    fn new(
        store: Storage,
        shards: Vec<Shard>,
        listing: Listing,
        entries: Vec<ShardEntry>,
        access: &Access,
        pages: Pages,
    ) -> Result<Self, Error> {
        let (prefetcher, local) = (Prefetcher::new(store.runtime().clone()), store.local_file("").is_some());
        let set = Arc::new(Set { store, local, shards });
        let stop = Arc::new(AtomicBool::new(false));
        if let (false, Some(cache)) = (local, &access.cache) {
            let (set, cache, stop) = (Arc::clone(&set), Arc::clone(cache), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("shard-cache".into())
                .spawn(move || set.fill(&cache, &stop))
                .map_err(|e| Error::Worker { what: format!("could not be started: {e}") })?;
        }
        Ok(Self { set, listing, entries, prefetcher, stop, pages, decode: access.decode })
    }

    fn entry(&self, id: u64) -> Result<(&Shard, ShardEntry), Error> {
        let entry = self.entries.get(id as usize).copied();
        let missing = || Error::NoSuchSample { id, len: self.entries.len() };
        let entry = entry.ok_or_else(missing)?;
        Ok((self.set.shards.get(entry.shard as usize).ok_or_else(missing)?, entry))
    }

    /// From the shard's file; `false` where there is none or it is damaged and can be had elsewhere.
    fn read_file(&self, shard: &Shard, entry: ShardEntry, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(path) = shard.local() else { return Ok(false) };
        buffer.clear();
        buffer.resize(entry.size as usize, 0);
        let read = File::open(&path).and_then(|file| file.read_exact_at(buffer, entry.offset));
        match read {
            Ok(()) if entry.crc.is_none_or(|crc| crc == crc32fast::hash(buffer)) => Ok(true),
            _ if !self.set.local => {
                // Evicted or damaged: the original still has the bytes.
                shard.forget();
                Ok(false)
            }
            Ok(()) => Err(self.wrong_sum(shard, entry)),
            Err(source) => Err(Error::Io { path: path.to_path_buf(), action: "read", source }),
        }
    }

    /// The bytes of the file that the sample is, or is in.
    fn read_member(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let (shard, entry) = self.entry(id)?;
        let fetched = self.prefetcher.take(id);
        if fetched.is_none() && self.read_file(shard, entry, buffer)? {
            return Ok(());
        }
        let range = entry.offset..entry.offset + u64::from(entry.size);
        *buffer = match fetched {
            Some(bytes) => bytes?,
            None => self.set.store.get_range(&shard.name, range)?,
        };
        let whole = buffer.len() == entry.size as usize;
        if whole && entry.crc.is_none_or(|crc| crc == crc32fast::hash(buffer)) {
            return Ok(());
        }
        Err(self.wrong_sum(shard, entry))
    }

    fn wrong_sum(&self, shard: &Shard, entry: ShardEntry) -> Error {
        let reason = format!(
            "checksum mismatch: the {} bytes at {} differ from the index; copy the shard again, or pack the data again",
            entry.size, entry.offset
        );
        Error::Shard { uri: self.set.store.uri(&shard.name), reason }
    }
}

impl Source for Shards {
    source_of_listing!();

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.read_into(id, &mut buffer)?;
        Ok(buffer)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.read_member(id, buffer)?;
        if self.pages == Pages::All { pages::select(self.name(id), buffer) } else { Ok(()) }
    }

    fn prefetch(&self, ids: &[u64]) {
        if self.set.local {
            return;
        }
        for &id in ids {
            let Ok((shard, entry)) = self.entry(id) else { continue };
            if shard.local().is_some() {
                continue;
            }
            let (store, name) = (self.set.store.clone(), shard.name.clone());
            let range = entry.offset..entry.offset + u64::from(entry.size);
            self.prefetcher.start(id, async move { store.fetch(&name, Some(range)).await });
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // The filling thread ends by itself after the piece under way.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Shard {
    fn local(&self) -> Option<Arc<Path>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn adopt(&self, path: PathBuf) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Some(path.into());
    }
}

impl Set {
    /// Copies shard after shard into the cache until all are there, there is no more room, or the set is dropped.
    fn fill(&self, cache: &Cache, stop: &AtomicBool) {
        fill_all(
            self.shards.iter(),
            cache,
            stop,
            |shard| &shard.key,
            |shard, path| {
                shard.adopt(path);
                true
            },
            |shard| cache.fill(&shard.key, shard.bytes, |to, path| self.copy(shard, stop, to, path)),
        );
    }

    fn copy(&self, shard: &Shard, stop: &AtomicBool, to: &mut dyn Write, path: &Path) -> Result<(), Error> {
        let uri = || self.store.uri(&shard.name);
        let mut sum = Sha256::new();
        let mut take = |piece: &[u8]| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Worker { what: "was asked to stop".into() });
            }
            sum.update(piece);
            to.write_all(piece).map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
        };
        self.store.runtime().block_on(self.store.stream(&shard.name, &mut take))?;
        match &shard.sha256 {
            Some(expected) if *expected != hex(&sum.finalize()) => {
                Err(Error::Shard { uri: uri(), reason: "SHA-256 mismatch with the manifest".into() })
            }
            _ => Ok(()),
        }
    }
}

fn local_shard(path: PathBuf, expected: u64) -> Result<PathBuf, Error> {
    let found = std::fs::metadata(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Shard {
            uri: path.display().to_string(),
            reason: "this shard is missing; pack the data again".into(),
        },
        _ => Error::Io { path: path.clone(), action: "open", source: e },
    })?;
    if found.len() == expected {
        return Ok(path);
    }
    let reason =
        format!("has {} bytes, its index says {expected}: truncated or changed; pack the data again", found.len());
    Err(Error::Shard { uri: path.display().to_string(), reason })
}

/// The table of contents of a tar; cached for a remote one, whose headers take many requests to read.
fn table(
    store: &Storage,
    tar: &ListedObject,
    uri: &str,
    access: &Access,
    cache: Option<&Cache>,
) -> Result<Contents, Error> {
    let image_key = access.image_key.as_deref();
    if let Some(path) = store.local_file(&tar.name) {
        let file = File::open(&path).map_err(|source| Error::Io { path, action: "open", source })?;
        let mut reader = std::io::BufReader::new(file);
        let contents = images(uri, tar.size, image_key, &mut reader)?;
        return paged(contents, access.pages, &mut reader);
    }
    // The version is that of what is read from a tar: older tables lack what was read since.
    let kind = if access.pages == Pages::All { "pages3" } else { "idx3" };
    let key = Cache::key(&format!("{uri}.{}.{kind}", image_key.unwrap_or_default()), tar.size, &tar.version);
    if let Some(index) = cache.and_then(|cache| cached_table(cache, &key, uri, tar.size)) {
        return Ok(Contents { listing_report: ListingReport::from_word(&index.of), entries: index.entries });
    }
    let mut reader = RangeReader::new(store, &tar.name, tar.size);
    let contents = paged(images(uri, tar.size, image_key, &mut reader)?, access.pages, &mut reader)?;
    if let (Some(cache), false) = (cache, contents.entries.is_empty()) {
        let Contents { entries, listing_report } = contents;
        let index = Index { bytes: tar.size, sha256: "-".into(), of: listing_report.to_word(), entries };
        let text = index.to_text();
        let write = |to: &mut dyn Write, path: &Path| {
            to.write_all(text.as_bytes()).map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
        };
        // Without it the table is read from the tar again next time.
        let _ = cache.fill(&key, text.len() as u64, write);
        return Ok(Contents { entries: index.entries, listing_report });
    }
    Ok(contents)
}

/// The contents with a sample for each page of a TIFF file, if pages are samples.
fn paged(contents: Contents, pages: Pages, mut reader: impl Read + Seek) -> Result<Contents, Error> {
    let Contents { entries, listing_report } = contents;
    if pages == Pages::First {
        return Ok(Contents { entries, listing_report });
    }
    let mut expanded = Vec::with_capacity(entries.len());
    for entry in entries {
        let count = match pages::is_tiff(&entry.name) {
            true => pages::count(&mut pages::Section::new(&mut reader, entry.offset, entry.size.into()))?,
            false => 1,
        };
        expanded.extend(pages::names(&entry.name, count).map(|name| Entry { name, ..entry.clone() }));
    }
    Ok(Contents { entries: expanded, listing_report })
}

fn cached_table(cache: &Cache, key: &str, uri: &str, bytes: u64) -> Option<Index> {
    let path = cache.find(key)?;
    let index = std::fs::read(&path).ok().and_then(|text| Index::parse(uri, &text).ok());
    match index.filter(|index| index.bytes == bytes) {
        Some(index) => Some(index),
        None => {
            cache.drop_damaged(&path);
            None
        }
    }
}

/// Whether a name is that of a shard.
pub(super) fn is_tar(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}
