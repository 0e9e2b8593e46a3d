//! Where images come from: encoded bytes by sample id.
//!
//! [`open`] tells by what it finds: a packed set (`packed.json`), tar shards (`*.tar`), or a folder of images; each on a
//! local disk or in object storage.

mod ahead;
mod folder;
pub(crate) mod index;
mod listing;
mod objects;
pub(crate) mod packed;
mod shards;
mod subset;
pub(crate) mod tar;

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use folder::ImageFolder;
pub use objects::Objects;
pub use packed::{Manifest, ShardInfo};
pub use shards::Shards;
pub use subset::Subset;

pub(crate) use shards::hex;

use crate::Error;
use crate::cache::Cache;
use crate::store::{Store, StoreOptions, local_folder};

/// How sources are reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Settings of object storage.
    pub store: StoreOptions,
    /// Where copies of remote data are kept, if they are.
    pub cache: Option<Arc<Cache>>,
    /// The runtime for requests; sources block on it, so they must not be used on its threads.
    pub runtime: Handle,
}

impl Access {
    /// Default settings and no cache.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { store: StoreOptions::default(), cache: None, runtime }
    }
}

/// Opens whatever lies at `uri`, a path or a `file://`, `s3://`, `gs://` or `az://` address; with the classes of
/// another set where they are given, as `val` uses those of `train`.
///
/// # Errors
/// Those of [`ImageFolder::open_with_classes`]; [`Error::Shard`], [`Error::Refused`], [`Error::Unreachable`].
pub fn open(uri: &str, classes: Option<&[String]>, access: &Access) -> Result<Arc<dyn Source>, Error> {
    let uri = uri.trim_end_matches('/');
    let store = |uri: &str| Store::open(uri, &access.store, access.runtime.clone());
    let local = local_folder(uri);
    if shards::is_tar(uri) && local.as_ref().is_none_or(|path| path.is_file()) {
        let (folder, name) = uri.rsplit_once('/').unwrap_or((".", uri));
        let store = store(folder)?;
        let found = store.top()?.0.into_iter().find(|object| object.name == name);
        let tar = found.ok_or_else(|| Error::Vanished { uri: uri.to_owned() })?;
        return Ok(Arc::new(Shards::tars(store, vec![tar], classes, access)?));
    }
    if let Some(path) = &local {
        let has = |end: &dyn Fn(&str) -> bool| {
            std::fs::read_dir(path)
                .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|f| f.file_name().to_str().is_some_and(end))))
        };
        if !has(&|name| name == packed::MANIFEST || shards::is_tar(name)) {
            return Ok(match classes {
                Some(classes) => Arc::new(ImageFolder::open_with_classes(path, classes)?),
                None => Arc::new(ImageFolder::open(path)?),
            });
        }
    }
    let store = store(uri)?;
    if let Some(manifest) = store.get(packed::MANIFEST)? {
        let manifest = Manifest::parse(&store.uri(packed::MANIFEST), &manifest)?;
        return Ok(Arc::new(Shards::packed(store, &manifest, classes, access)?));
    }
    let (top, _) = store.top()?;
    let (tars, others): (Vec<_>, Vec<_>) = top.into_iter().partition(|object| shards::is_tar(&object.name));
    match others.iter().find(|object| listing::is_image(&object.name)) {
        Some(image) if !tars.is_empty() => Err(Error::MixedLayout {
            path: Path::new(uri).to_owned(),
            flat: others.len(),
            classes: tars.len(),
            first: image.name.clone(),
        }),
        _ if tars.is_empty() => Ok(Arc::new(Objects::open(store, classes, access)?)),
        _ => Ok(Arc::new(Shards::tars(store, tars, classes, access)?)),
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
}
