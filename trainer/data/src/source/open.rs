//! Finds out what is at an address and opens the source for it.

use std::path::Path;
use std::sync::Arc;

use super::access::{Access, Source};
use super::folder::ImageFolder;
use super::listing_report::ListingReport;
use super::objects::Objects;
use super::packed::Manifest;
use super::parquet::{ParquetFiles, is_parquet, selected_by};
use super::shards::Shards;
use super::{listing, packed, shards};
use crate::Error;
use crate::storage::{ListedObject, Storage, local_folder};

/// Opens the source at `uri`, a path or a `file://`, `s3://`, `gs://` or `az://` address; with the classes of
/// another set where they are given, as `val` uses those of `train`.
///
/// # Errors
/// Those of [`ImageFolder::open_with_classes`]; [`Error::Shard`], [`Error::Selection`], [`Error::Storage`];
/// [`Error::Option`] for a range that is none.
pub fn open(uri: &str, classes: Option<&[String]>, access: &Access) -> Result<Arc<dyn Source>, Error> {
    access.decode.range.check()?;
    let uri = uri.trim_end_matches('/');
    let storage = |uri: &str| Storage::open(uri, &access.storage, access.runtime.clone());
    let local = local_folder(uri);
    if shards::is_tar(uri) && local.as_ref().is_none_or(|path| path.is_file()) {
        let (folder, name) = parent(uri);
        let store = storage(folder)?;
        let found = store.list_folder("")?.objects.into_iter().find(|object| object.name == name);
        let tar = found.ok_or_else(|| Error::missing(uri))?;
        return Ok(Arc::new(Shards::tars(store, vec![tar], classes, access)?));
    }
    if let Some(path) = &local {
        if !path.is_dir()
            && let Some((store, files)) = parquet_files(uri, &storage)?
        {
            return Ok(Arc::new(ParquetFiles::open(uri, store, files, ListingReport::default(), classes, access)?));
        }
        if !has(path, &|name| name == packed::MANIFEST || shards::is_tar(name) || is_parquet(name)) {
            return Ok(Arc::new(ImageFolder::list(path, classes, access.pages, access.decode)?));
        }
    }
    let store = storage(uri)?;
    if let Some(manifest) = store.get(packed::MANIFEST)? {
        let manifest = Manifest::parse(&store.uri(packed::MANIFEST), &manifest)?;
        return Ok(Arc::new(Shards::packed(store, &manifest, classes, access)?));
    }
    let top = store.list_folder("")?;
    if local.is_none()
        && top.objects.is_empty()
        && top.folders.is_empty()
        && let Some((store, files)) = parquet_files(uri, &storage)?
    {
        return Ok(Arc::new(ParquetFiles::open(uri, store, files, ListingReport::default(), classes, access)?));
    }
    let (parquet, others): (Vec<_>, Vec<_>) = top.objects.into_iter().partition(|object| is_parquet(&object.name));
    if !parquet.is_empty() {
        let skipped = beside_parquet(uri, &parquet, &others)?;
        return Ok(Arc::new(ParquetFiles::open(uri, store, parquet, skipped, classes, access)?));
    }
    let (tars, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|object| shards::is_tar(&object.name));
    match others.iter().find(|object| listing::is_image(&object.name)) {
        Some(image) if !tars.is_empty() => Err(Error::MixedLayout {
            location: uri.to_owned(),
            flat: others.len(),
            classes: tars.len(),
            first: image.name.clone(),
        }),
        _ if tars.is_empty() => Ok(Arc::new(Objects::open(store, classes, access)?)),
        _ => Ok(Arc::new(Shards::tars(store, tars, classes, access)?)),
    }
}

/// The folder that an address is in, and its name there.
fn parent(uri: &str) -> (&str, &str) {
    uri.rsplit_once('/').unwrap_or((".", uri))
}

/// The Parquet file that `uri` is, or those whose names begin with its last part; `None` where there is neither.
#[allow(clippy::type_complexity)] // The storage of a folder, and what was found in it.
fn parquet_files(
    uri: &str,
    storage: &dyn Fn(&str) -> Result<Storage, Error>,
) -> Result<Option<(Storage, Vec<ListedObject>)>, Error> {
    let (folder, name) = parent(uri);
    let is_one = |other: &str| if is_parquet(name) { other == name } else { selected_by(name, other) };
    let is_local_without = local_folder(folder).is_some_and(|folder| !has(&folder, &is_one));
    if name.is_empty() || folder.ends_with(['/', ':']) || is_local_without {
        return Ok(None);
    }
    let store = storage(folder)?;
    let mut files = store.list_folder("")?.objects;
    files.retain(|file| is_one(&file.name));
    Ok((!files.is_empty()).then_some((store, files)))
}

/// Whether a local folder has a file with such a name.
fn has(folder: &Path, such: &dyn Fn(&str) -> bool) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|f| f.file_name().to_str().is_some_and(such))))
}

/// Counts the files beside Parquet files; refuses images and tars there, of which nobody can say that they do not belong.
fn beside_parquet(uri: &str, parquet: &[ListedObject], others: &[ListedObject]) -> Result<ListingReport, Error> {
    let also = others.iter().find(|object| listing::is_image(&object.name) || shards::is_tar(&object.name));
    if let (Some(first), Some(also)) = (parquet.first(), also) {
        let reason = format!(
            "has Parquet files beside images or tars ({}, {}); move them apart, or name a Parquet file or the beginning \
             of the names of several",
            first.name, also.name
        );
        return Err(Error::Selection { uri: uri.to_owned(), reason });
    }
    let mut skipped = ListingReport::default();
    others.iter().for_each(|object| skipped.skip(&object.name));
    Ok(skipped)
}
