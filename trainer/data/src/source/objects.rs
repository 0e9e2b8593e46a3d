//! A folder of images in object storage, one object an image.
//!
//! Each image costs a request, in the first epoch at least: for more than a few thousand images, pack them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::access::{Access, Source};
use super::listing::{Item, Listing, is_image, source_of_listing};
use super::listing_report::ListingReport;
use super::pages::{self, Pages};
use super::prefetch::Prefetcher;
use super::tar::RangeReader;
use crate::cache::{Cache, seal, sealed_size, unseal};
use crate::storage::{ListedObject, Storage};
use crate::{DecodeOptions, Error};

/// Images below a prefix.
#[derive(Debug)]
pub struct Objects {
    store: Storage,
    listing: Listing,
    entries: Vec<ObjectEntry>,
    prefetcher: Prefetcher,
    cache: Option<Arc<Cache>>,
    pages: Pages,
    decode: DecodeOptions,
}

#[derive(Debug, Clone)]
struct ObjectEntry {
    size: u64,
    key: String,
}

impl Objects {
    /// Lists the prefix.
    pub(super) fn open(store: Storage, known: Option<&[String]>, access: &Access) -> Result<Self, Error> {
        let (mut listing_report, mut folders) = (ListingReport::default(), BTreeSet::new());
        let mut items = Vec::new();
        for ListedObject { name, size, version } in store.list()? {
            if !is_image(&name) {
                listing_report.skip(&name);
                folders.extend(name.split_once('/').map(|(folder, _)| folder.to_owned()));
                continue;
            }
            let key =
                if access.cache.is_some() { Cache::key(&store.uri(&name), size, &version) } else { String::new() };
            items.push(Item::by_path(name, ObjectEntry { size, key }));
        }
        listing_report.unusable(store.unusable_keys());
        listing_report.empty_classes = folders.into_iter().collect();
        if access.pages == Pages::All {
            // A few small requests for each file.
            let count =
                |item: &Item<ObjectEntry>| pages::count(&mut RangeReader::new(&store, &item.name, item.entry.size));
            items = pages::expand(items, &mut listing_report, count)?;
        }
        let (listing, entries) = Listing::new(&store.uri(""), items, known, listing_report)?;
        let prefetcher = Prefetcher::new(store.runtime().clone());
        let (cache, pages, decode) = (access.cache.clone(), access.pages, access.decode);
        Ok(Self { store, listing, entries, prefetcher, cache, pages, decode })
    }

    /// The object that the sample is in.
    fn object(&self, id: u64) -> &str {
        let name = self.name(id);
        if self.pages == Pages::All { pages::file_of(name) } else { name }
    }

    fn read_file(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let entry = self.entry(id)?;
        let fetched = self.prefetcher.take(id);
        if fetched.is_none() && self.read_copy(entry, buffer) {
            return Ok(());
        }
        let name = self.object(id);
        let bytes = match fetched {
            Some(bytes) => bytes?,
            None => self.store.get(name)?.ok_or_else(|| Error::missing(self.store.uri(name)))?,
        };
        if bytes.len() as u64 == entry.size {
            self.keep(entry, &bytes);
        }
        *buffer = bytes;
        Ok(())
    }

    fn entry(&self, id: u64) -> Result<&ObjectEntry, Error> {
        self.entries.get(id as usize).ok_or(Error::NoSuchSample { id, len: self.entries.len() })
    }

    fn copy_of(&self, entry: &ObjectEntry) -> Option<PathBuf> {
        self.cache.as_ref()?.find(&entry.key)
    }

    fn read_copy(&self, entry: &ObjectEntry, buffer: &mut Vec<u8>) -> bool {
        let Some(path) = self.copy_of(entry) else { return false };
        match unseal(&path, buffer) {
            Ok(true) => true,
            Ok(false) => {
                self.cache.iter().for_each(|cache| cache.drop_damaged(&path));
                false
            }
            // Evicted since.
            Err(_) => false,
        }
    }

    fn keep(&self, entry: &ObjectEntry, bytes: &[u8]) {
        let Some(cache) = &self.cache else { return };
        // A copy that cannot be made costs the next epoch a request, nothing else.
        let _ = cache.fill(&entry.key, sealed_size(bytes.len() as u64), |to, path| {
            seal(bytes, to).map_err(|source| Error::Io { path: path.to_owned(), action: "write", source })
        });
    }
}

impl Source for Objects {
    source_of_listing!();

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.read_into(id, &mut buffer)?;
        Ok(buffer)
    }

    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.read_file(id, buffer)?;
        if self.pages == Pages::All { pages::select(self.name(id), buffer) } else { Ok(()) }
    }

    fn prefetch(&self, ids: &[u64]) {
        for &id in ids {
            let Ok(entry) = self.entry(id) else { continue };
            if self.copy_of(entry).is_some() {
                continue;
            }
            let (store, name) = (self.store.clone(), self.object(id).to_owned());
            self.prefetcher.start(id, async move { store.fetch(&name, None).await });
        }
    }
}
