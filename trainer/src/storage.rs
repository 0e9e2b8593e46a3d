//! A run's output: a local folder or object storage, behind one small blocking interface.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use simsiam_data::store::{StoreOptions, connect, with_causes};
use simsiam_recipe::Output;
use tokio::runtime::Handle;

use crate::error::Error;

/// A folder in a local file system or an object store.
///
/// Writing an object is atomic: a reader sees all of it or none (a rename locally, the store's own promise
/// elsewhere). Calls block; they must not come from a thread of the async runtime.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    root: Path,
    uri: String,
    runtime: Handle,
}

impl Storage {
    /// Opens `output.uri`; a local folder is created. Credentials come from the environment.
    pub fn open(output: &Output, runtime: Handle) -> Result<Self, Error> {
        let uri = output.uri.trim_end_matches('/').to_owned();
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Self::local(PathBuf::from(&uri), uri, runtime);
        };
        match scheme {
            "file" => return Self::local(PathBuf::from(rest), uri.clone(), runtime),
            "pvc" => {
                return Err(Error::config(
                    "spec.output.uri",
                    format!(
                        "{uri} names a persistent volume claim; outside a cluster give its path with --mount name=/path"
                    ),
                ));
            }
            "s3" | "gs" | "az" => {}
            other => {
                return Err(Error::config(
                    "spec.output.uri",
                    format!("cannot write to {other}://; use a folder, file://, s3://, gs:// or az://"),
                ));
            }
        }
        let options = StoreOptions {
            endpoint: output.endpoint.clone(),
            region: output.region.clone(),
            ..crate::data::datasets::store_options()
        };
        let (store, root) = connect(&uri, &options).map_err(|e| Error::config("spec.output.uri", e.to_string()))?;
        Ok(Self { store, root, uri, runtime })
    }

    fn local(folder: PathBuf, uri: String, runtime: Handle) -> Result<Self, Error> {
        std::fs::create_dir_all(&folder).map_err(|e| unusable(&uri, e))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|e| Error::Storage { uri: uri.clone(), message: e.to_string() })?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true).with_automatic_cleanup(true)),
            root: Path::default(),
            uri,
            runtime,
        })
    }

    /// The runtime that requests run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the address of `name` in this folder, for messages.
    pub fn uri(&self, name: &str) -> String {
        format!("{}/{name}", self.uri)
    }

    /// Writes one object whole.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let path = self.path(name);
        self.runtime
            .block_on(self.store.put(&path, PutPayload::from(bytes)))
            .map(drop)
            .map_err(|e| self.failed("write", name, e))
    }

    /// Reads one object whole; `None` where there is none.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        let read = async { self.store.get(&path).await?.bytes().await };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("read", name, e)),
        }
    }

    /// Names of the folders directly in `folder`.
    pub fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder);
        match self.runtime.block_on(self.store.list_with_delimiter(Some(&path))) {
            Ok(list) => Ok(list.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect()),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(e) => Err(self.failed("list", folder, e)),
        }
    }

    /// Names of the objects directly in `folder`.
    pub fn files(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder);
        match self.runtime.block_on(self.store.list_with_delimiter(Some(&path))) {
            Ok(list) => Ok(list.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect()),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(e) => Err(self.failed("list", folder, e)),
        }
    }

    /// Deletes everything in `folder`, `first` before the rest, and the folder itself.
    pub fn delete_folder(&self, folder: &str, first: &str) -> Result<(), Error> {
        let path = self.path(folder);
        let delete = async {
            match self.store.delete(&path.clone().join(first)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
            let objects: Vec<_> = self.store.list(Some(&path)).map_ok(|o| o.location).try_collect().await?;
            for object in objects {
                self.store.delete(&object).await?;
            }
            Ok(())
        };
        self.runtime.block_on(delete).map_err(|e| self.failed("delete", folder, e))
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), |path, part| path.join(part))
    }

    fn refused(&self, verb: &str, name: &str, text: &str) -> Error {
        let message =
            format!("not allowed to {verb} {}: {text}; check the credentials in the environment", self.uri(name));
        Error::config("spec.output.uri", message)
    }

    /// A missing bucket and refused credentials need the user; everything else may be temporary.
    fn failed(&self, verb: &str, name: &str, error: object_store::Error) -> Error {
        use object_store::Error as E;
        let text = with_causes(&error);
        let no_bucket = text.contains("NoSuchBucket");
        // A refused listing arrives as a generic error.
        let refused = text.contains("403 Forbidden") || text.contains("401 Unauthorized");
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => self.refused(verb, name, &text),
            E::Generic { .. } if refused => self.refused(verb, name, &text),
            E::Generic { .. } if text.contains("Permission denied") || text.contains("Read-only file system") => {
                let message = format!("cannot {verb} {}: {text}; name a folder that is writable", self.uri(name));
                Error::config("spec.output.uri", message)
            }
            E::NotFound { .. } | E::Generic { .. } if no_bucket => Error::config(
                "spec.output.uri",
                format!("cannot {verb} {}: the bucket does not exist; create it or name another", self.uri(name)),
            ),
            _ => {
                let hint =
                    if text.contains("No space left") { "; free some space and start the run again" } else { "" };
                Error::Storage { uri: self.uri(name), message: format!("cannot {verb}: {text}{hint}") }
            }
        }
    }
}

/// A folder that cannot be created: an error of the configuration, unless the device failed.
fn unusable(uri: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::AlreadyExists | K::NotADirectory => {
            Error::config("spec.output.uri", format!("{uri} is a file, or is below one; name a folder"))
        }
        K::NotFound | K::PermissionDenied | K::ReadOnlyFilesystem | K::InvalidInput | K::InvalidFilename => {
            Error::config(
                "spec.output.uri",
                format!("cannot create the folder {uri}: {error}; name one that is writable"),
            )
        }
        _ => Error::Storage { uri: uri.to_owned(), message: format!("cannot create the folder: {error}") },
    }
}
