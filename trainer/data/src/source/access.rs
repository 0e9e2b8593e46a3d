//! What every source provides, and how sources are reached.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use sha2::{Digest, Sha256};

use super::listing_report::ListingReport;
use super::pages::Pages;
use super::parquet::Columns;
use crate::cache::Cache;
use crate::hex::hex;
use crate::storage::StorageOptions;
use crate::{DecodeOptions, Error};

/// How sources are reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// How storage is reached.
    pub storage: StorageOptions,
    /// Where copies of remote data are kept, if they are.
    pub cache: Option<Arc<Cache>>,
    /// The ending after the first dot of a tar member's file name, such as `jpg` or `left.jpg`: of several images under
    /// one WebDataset key, this one is the sample. Without it all of them are.
    pub image_key: Option<String>,
    /// The columns of Parquet files to read. Those without a name are found by their types and names.
    pub columns: Columns,
    /// Where the images of Parquet files are extracted to, if they are: a folder, which may be that of the cache, and the
    /// most bytes that it may take. It is created when the first file is extracted.
    pub extracts: Option<(PathBuf, u64)>,
    /// Which pages of a TIFF file with several are samples.
    pub pages: Pages,
    /// How the images are decoded, passed on by [`Source::decode_options`].
    pub decode: DecodeOptions,
    /// The runtime for requests; sources block on it, so they must not be used on its threads.
    pub runtime: Handle,
}

impl Access {
    /// Default settings and no cache.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self {
            storage: StorageOptions::default(),
            cache: None,
            image_key: None,
            columns: Columns::default(),
            extracts: None,
            pages: Pages::default(),
            decode: DecodeOptions::default(),
            runtime,
        }
    }
}

/// Random access to the encoded images of a data set.
///
/// A sample's id is its position in the source's listing, sorted by bytes (class, then file), so that the same data has
/// the same ids on every machine and in every layout.
pub trait Source: Send + Sync {
    /// Number of samples; ids run from 0 to `len() - 1`.
    fn len(&self) -> usize;

    /// Whether there are no samples; the sources of this crate refuse to open empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoded bytes of one sample.
    ///
    /// # Errors
    /// [`Error::NoSuchSample`]; [`Error::Io`] when the file cannot be read.
    fn read(&self, id: u64) -> Result<Vec<u8>, Error>;

    /// As [`Self::read`], into a buffer of the caller's, replacing what it holds.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_into(&self, id: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        *buffer = self.read(id)?;
        Ok(())
    }

    /// Says which samples will be read soon; a source for which that takes long may begin.
    fn prefetch(&self, _ids: &[u64]) {}

    /// What a person calls the sample: its path within the source. Empty for an id that does not exist.
    fn name(&self, id: u64) -> &str;

    /// The sample's index into [`Self::classes`], where the source has classes.
    fn label(&self, id: u64) -> Option<u32>;

    /// The classes' names, sorted by bytes; empty when there are no labels.
    fn classes(&self) -> &[String];

    /// How the images are to be decoded.
    fn decode_options(&self) -> DecodeOptions {
        DecodeOptions::default()
    }

    /// What the listing skipped.
    fn listing_report(&self) -> ListingReport {
        ListingReport::default()
    }
}

/// SHA-256, in hex, of the names and classes of all samples in order: two listings with the same digest have the same
/// samples under the same ids.
#[must_use]
pub fn listing_digest(source: &dyn Source) -> String {
    let mut digest = Sha256::new();
    for class in source.classes() {
        digest.update(class);
        digest.update([0]);
    }
    for id in 0..source.len() as u64 {
        digest.update([1]);
        digest.update(source.name(id));
        digest.update([0]);
        digest.update(source.label(id).map_or([0xFF; 4], u32::to_le_bytes));
    }
    hex(&digest.finalize())
}
