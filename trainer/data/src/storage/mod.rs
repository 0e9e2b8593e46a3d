//! The object-store facade: a local folder or object storage behind a few blocking calls with typed errors.
//!
//! This is the only place that talks to [`object_store`]. Invariants it owns:
//! - **Writes are atomic.** A reader sees a whole object or none: a synced temporary file and a rename locally, the store's
//!   own guarantee elsewhere. Manifests that are "written last" rely on it.
//! - **Every call is bounded in time** by [`StorageOptions::retry_timeout`].
//! - **Errors carry a [`StorageErrorKind`]**, so that no caller inspects the text of a message.

mod connect;
mod listed;

use std::ops::Range;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

pub use crate::storage_error::StorageErrorKind;
pub use connect::{StorageOptions, local_folder};

use crate::Error;
use crate::storage_error::{advice, is_missing_bucket, with_causes};
use listed::UnusableKeys;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The object's name below the storage's prefix, with `/` between parts.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Changes when the content does, where the store reports it.
    pub version: String,
}

/// What is directly in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderListing {
    /// The objects, sorted by the bytes of their names; hidden ones are left out.
    pub objects: Vec<ListedObject>,
    /// The names of the folders, without their parents' names.
    pub folders: Vec<String>,
}

/// Objects below one address. Calls block, so they must not come from a thread of the async runtime.
#[derive(Debug, Clone)]
pub struct Storage {
    client: Arc<dyn ObjectStore>,
    prefix: Path,
    uri: String,
    runtime: Handle,
    unusable: UnusableKeys,
}

impl Storage {
    /// Opens a path, `file://`, `s3://`, `gs://` or `az://` address. A local folder must exist.
    ///
    /// # Errors
    /// [`Error::Scheme`] for any other address; [`Error::Storage`] for contradictory settings or a local folder that cannot
    /// be opened.
    pub fn open(uri: &str, options: &StorageOptions, runtime: Handle) -> Result<Self, Error> {
        let uri = uri.trim_end_matches('/').to_owned();
        let unusable = UnusableKeys::default();
        let (client, prefix) = match local_folder(&uri) {
            Some(path) => (connect::open_folder(&path)?, Path::default()),
            None => connect::connect(&uri, options, &unusable)?,
        };
        Ok(Self { client, prefix, uri, runtime, unusable })
    }

    /// As [`Self::open`], after creating a local folder that does not exist yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn create(uri: &str, options: &StorageOptions, runtime: Handle) -> Result<Self, Error> {
        if let Some(path) = local_folder(uri) {
            connect::create_folder(&path)?;
        }
        Self::open(uri, options, runtime)
    }

    /// The address of an object, for messages and as a cache key; of the whole prefix for an empty name.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        if name.is_empty() { self.uri.clone() } else { format!("{}/{name}", self.uri) }
    }

    /// The object's file, where the storage is a local folder.
    #[must_use]
    pub fn local_file(&self, name: &str) -> Option<PathBuf> {
        local_folder(&self.uri).map(|folder| folder.join(LocalPath::new(name)))
    }

    /// The runtime that requests run on.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Reads a whole object; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Storage`] of any kind but `Missing`.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.runtime.block_on(self.fetch(name, None)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::Storage { kind: StorageErrorKind::Missing, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.fetch(name, Some(range)))
    }

    /// As [`Self::get_range`], or the whole object, within the runtime.
    ///
    /// # Errors
    /// As [`Self::get_range`].
    pub async fn fetch(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, Error> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let read = async { self.client.get_opts(&self.path(name), options).await?.bytes().await };
        read.await.map(Into::into).map_err(|e| self.failed("read", name, &e))
    }

    /// Passes a whole object to `take` piece by piece, within the runtime.
    ///
    /// # Errors
    /// As [`Self::get_range`], and the errors of `take`.
    pub async fn stream(&self, name: &str, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |e: object_store::Error| self.failed("read", name, &e);
        let mut pieces = self.client.get(&self.path(name)).await.map_err(failed)?.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Writes a whole object; readers never see a part of it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let put = self.runtime.block_on(self.client.put(&self.path(name), bytes.into()));
        put.map(drop).map_err(|e| self.failed("write", name, &e))
    }

    /// Returns when an object was written, by the storage's clock.
    ///
    /// # Errors
    /// [`Error::Storage`], also if it does not exist.
    pub fn modified(&self, name: &str) -> Result<SystemTime, Error> {
        let head = self.runtime.block_on(self.client.head(&self.path(name)));
        head.map(|meta| meta.last_modified.into()).map_err(|e| self.failed("read", name, &e))
    }

    /// Lists every object, sorted by the bytes of its name; hidden ones are left out, and so are those whose keys the client
    /// cannot address: [`Self::unusable_keys`] has them.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn list(&self) -> Result<Vec<ListedObject>, Error> {
        let list = self.client.list(Some(&self.prefix)).try_collect::<Vec<_>>();
        let list = self.runtime.block_on(list).map_err(|e| self.failed("list", "", &e))?;
        Ok(self.sorted(list))
    }

    /// Lists what is directly in `folder` (empty for the top); nothing if it does not exist.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn list_folder(&self, folder: &str) -> Result<FolderListing, Error> {
        let list = self.runtime.block_on(self.client.list_with_delimiter(Some(&self.path(folder))));
        match list.map_err(|e| self.failed("list", folder, &e)) {
            Ok(list) => {
                let folders = list.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
                Ok(FolderListing { folders: folders.collect(), objects: self.sorted(list.objects) })
            }
            Err(Error::Storage { kind: StorageErrorKind::Missing, .. }) => Ok(FolderListing::default()),
            Err(e) => Err(e),
        }
    }

    /// The keys that listings have left out so far, below the prefix: those with an empty, `.` or `..` part or a control
    /// character.
    #[must_use]
    pub fn unusable_keys(&self) -> Vec<String> {
        let below = |key: &String| match self.prefix.as_ref() {
            "" => Some(key.clone()),
            prefix => Some(key.strip_prefix(prefix)?.strip_prefix('/')?.to_owned()),
        };
        self.unusable.keys().iter().filter_map(below).collect()
    }

    /// Deletes everything in `folder`: the object `first` before all others, so that a set whose manifest is written last
    /// is also deleted manifest first. A folder or object that does not exist is no error.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn delete_folder(&self, folder: &str, first: &str) -> Result<(), Error> {
        let path = self.path(folder);
        let delete = async {
            match self.client.delete(&path.clone().join(first)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
            let objects: Vec<_> = self.client.list(Some(&path)).map_ok(|o| o.location).try_collect().await?;
            for object in objects {
                self.client.delete(&object).await?;
            }
            Ok(())
        };
        self.runtime.block_on(delete).map_err(|e| self.failed("delete", folder, &e))
    }

    fn sorted(&self, objects: Vec<ObjectMeta>) -> Vec<ListedObject> {
        let mut listed: Vec<_> = objects.into_iter().filter_map(|object| self.listed(object)).collect();
        listed.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        listed
    }

    fn listed(&self, object: ObjectMeta) -> Option<ListedObject> {
        let parts: Vec<_> = object.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        if parts.is_empty() || parts.iter().any(|part| part.starts_with('.')) {
            return None;
        }
        let version = object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339());
        Some(ListedObject { name: parts.join("/"), size: object.size, version })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> Error {
        let kind = StorageErrorKind::of(error);
        let reason = match error {
            _ if is_missing_bucket(error) => {
                format!("cannot {verb}: the bucket does not exist (NoSuchBucket); create it or name another")
            }
            object_store::Error::InvalidPath { .. } => {
                format!("cannot {verb}: {}; rename or remove that object", with_causes(error))
            }
            object_store::Error::NotFound { .. } => format!("cannot {verb}: there is no such object"),
            _ if matches!(kind, StorageErrorKind::Denied | StorageErrorKind::Refused)
                && local_folder(&self.uri).is_none() =>
            {
                format!("not allowed to {verb}: {}; check the credentials in the environment", with_causes(error))
            }
            _ => format!("cannot {verb}: {}{}", with_causes(error), advice(kind)),
        };
        Error::Storage { kind, uri: self.uri(name), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn kind_of(error: &Error) -> StorageErrorKind {
        match error {
            Error::Storage { kind, .. } => *kind,
            other => panic!("not a storage error: {other}"),
        }
    }

    #[test]
    fn objects_round_trip_through_local_folder() {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let uri = folder.path().join("new/place").display().to_string();
        let options = StorageOptions::default();
        assert_eq!(
            kind_of(&Storage::open(&uri, &options, runtime.handle().clone()).unwrap_err()),
            StorageErrorKind::Missing
        );
        let storage = Storage::create(&uri, &options, runtime.handle().clone()).unwrap();
        for name in ["run/b", "run/a", "run/.hidden", "run/sub/c", "d"] {
            storage.put(name, name.as_bytes().to_vec()).unwrap();
        }
        assert_eq!(storage.get("run/a").unwrap().unwrap(), b"run/a");
        assert_eq!(storage.get("run/x").unwrap(), None);
        assert_eq!(storage.get_range("run/a", 1..3).unwrap(), b"un");
        assert_eq!(kind_of(&storage.get_range("run/x", 0..1).unwrap_err()), StorageErrorKind::Missing);
        let names = |objects: Vec<ListedObject>| objects.into_iter().map(|o| o.name).collect::<Vec<_>>();
        assert_eq!(names(storage.list().unwrap()), ["d", "run/a", "run/b", "run/sub/c"]);
        let run = storage.list_folder("run").unwrap();
        assert_eq!((names(run.objects), run.folders), (vec!["run/a".into(), "run/b".into()], vec!["sub".into()]));
        assert_eq!(storage.list_folder("nothing").unwrap(), FolderListing::default());
        storage.delete_folder("run", "a").unwrap();
        storage.delete_folder("run", "a").unwrap();
        assert_eq!(names(storage.list().unwrap()), ["d"]);
        assert!(!folder.path().join("new/place/run").exists(), "the empty folder is removed too");
    }

    #[test]
    fn folder_below_file_is_refused() {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let uri = path.display().to_string();
            let error = Storage::create(&uri, &StorageOptions::default(), runtime.handle().clone()).unwrap_err();
            assert_eq!(kind_of(&error), StorageErrorKind::Refused);
            assert!(error.to_string().contains("name a folder"), "{error}");
        }
    }

    #[test]
    fn write_without_permission_is_refused() {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let uri = folder.path().display().to_string();
        let storage = Storage::open(&uri, &StorageOptions::default(), runtime.handle().clone()).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        // Root may write everywhere.
        if std::fs::write(folder.path().join("probe"), "x").is_ok() {
            return;
        }
        let error = storage.put("x", vec![1]).unwrap_err();
        assert_eq!(kind_of(&error), StorageErrorKind::Refused);
        assert!(error.to_string().contains("writable"), "{error}");
    }

    #[test]
    fn unknown_scheme_is_named() {
        let runtime = runtime();
        let error = Storage::open("ftp://host/x", &StorageOptions::default(), runtime.handle().clone()).unwrap_err();
        assert!(matches!(&error, Error::Scheme { scheme, .. } if scheme == "ftp"), "{error}");
    }
}
