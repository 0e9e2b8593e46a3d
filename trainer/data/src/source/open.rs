//! Finds out what is at an address and opens the source for it.

use std::sync::Arc;

use super::access::{Access, Source};
use super::folder::ImageFolder;
use super::objects::Objects;
use super::packed::Manifest;
use super::shards::Shards;
use super::{listing, packed, shards};
use crate::Error;
use crate::storage::{Storage, local_folder};

/// Opens the source at `uri`, a path or a `file://`, `s3://`, `gs://` or `az://` address; with the classes of
/// another set where they are given, as `val` uses those of `train`.
///
/// # Errors
/// Those of [`ImageFolder::open_with_classes`]; [`Error::Shard`], [`Error::Storage`].
pub fn open(uri: &str, classes: Option<&[String]>, access: &Access) -> Result<Arc<dyn Source>, Error> {
    let uri = uri.trim_end_matches('/');
    let storage = |uri: &str| Storage::open(uri, &access.storage, access.runtime.clone());
    let local = local_folder(uri);
    if shards::is_tar(uri) && local.as_ref().is_none_or(|path| path.is_file()) {
        let (folder, name) = uri.rsplit_once('/').unwrap_or((".", uri));
        let store = storage(folder)?;
        let found = store.list_folder("")?.objects.into_iter().find(|object| object.name == name);
        let tar = found.ok_or_else(|| Error::missing(uri))?;
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
    let store = storage(uri)?;
    if let Some(manifest) = store.get(packed::MANIFEST)? {
        let manifest = Manifest::parse(&store.uri(packed::MANIFEST), &manifest)?;
        return Ok(Arc::new(Shards::packed(store, &manifest, classes, access)?));
    }
    let top = store.list_folder("")?.objects;
    let (tars, others): (Vec<_>, Vec<_>) = top.into_iter().partition(|object| shards::is_tar(&object.name));
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
