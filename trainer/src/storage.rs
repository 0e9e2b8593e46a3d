//! The storage of a run's output: the data crate's facade, with errors that name the run's field.

use std::time::SystemTime;

use simsiam_data::storage::{self as facade, StorageErrorKind, StorageOptions};
use simsiam_recipe::Output;
use tokio::runtime::Handle;

use crate::error::Error;

/// The field that the storage's address comes from.
const FIELD: &str = "spec.output.uri";

/// A folder in a local file system or an object store.
///
/// Calls block; they must not come from a thread of the async runtime.
#[derive(Clone, Debug)]
pub struct Storage(facade::Storage);

impl Storage {
    /// Opens `output.uri`; a local folder is created. Credentials come from the environment.
    pub fn open(output: &Output, runtime: Handle) -> Result<Self, Error> {
        let uri = output.uri.trim_end_matches('/');
        if uri.starts_with("pvc://") {
            let message = format!(
                "{uri} names a persistent volume claim; outside a cluster give its path with --mount name=/path"
            );
            return Err(Error::config(FIELD, message));
        }
        let options = StorageOptions {
            endpoint: output.endpoint.clone(),
            region: output.region.clone(),
            ..crate::data::datasets::store_options()
        };
        facade::Storage::create(uri, &options, runtime).map(Self).map_err(|e| match e {
            // Nothing is there yet, so what is missing is the folder that was asked for.
            simsiam_data::Error::Storage { kind: StorageErrorKind::Missing, .. }
            | simsiam_data::Error::Scheme { .. } => Error::config(FIELD, e.to_string()),
            e => failed(e),
        })
    }

    /// The runtime that requests run on.
    pub fn runtime(&self) -> &Handle {
        self.0.runtime()
    }

    /// The address of `name` in this folder, for messages.
    pub fn uri(&self, name: &str) -> String {
        format!("{}/{name}", self.0.uri(""))
    }

    /// Writes a whole object; readers see all of it or none.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.0.put(name, bytes).map_err(failed)
    }

    /// Reads a whole object; `None` if it does not exist.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(name).map_err(failed)
    }

    /// When an object was written, by the storage's clock.
    pub fn modified(&self, name: &str) -> Result<SystemTime, Error> {
        self.0.modified(name).map_err(failed)
    }

    /// Names of the folders directly in `folder`.
    pub fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        self.0.list_folder(folder).map(|listing| listing.folders).map_err(failed)
    }

    /// Names of the objects directly in `folder`.
    pub fn files(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listing = self.0.list_folder(folder).map_err(failed)?;
        let base = |name: String| name.rsplit('/').next().map(str::to_owned);
        Ok(listing.objects.into_iter().filter_map(|object| base(object.name)).collect())
    }

    /// Deletes everything in `folder`, the object `first` before all others, and the folder itself.
    pub fn delete_folder(&self, folder: &str, first: &str) -> Result<(), Error> {
        self.0.delete_folder(folder, first).map_err(failed)
    }
}

/// What the user has to fix becomes an error of the field; all else may pass.
fn failed(error: simsiam_data::Error) -> Error {
    match error {
        simsiam_data::Error::Storage { kind: StorageErrorKind::Denied, .. } => {
            Error::AccessDenied { field: FIELD.into(), message: error.to_string() }
        }
        simsiam_data::Error::Storage { kind: StorageErrorKind::Refused | StorageErrorKind::ReadOnly, .. } => {
            Error::config(FIELD, error.to_string())
        }
        simsiam_data::Error::Storage { uri, reason, .. } => Error::Storage { uri, message: reason },
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use simsiam_contract::FailureReason;

    use super::*;

    #[test]
    fn exit_code_of_each_storage_error_kind_matches_table() {
        use StorageErrorKind::{Denied, Full, Missing, ReadOnly, Refused, Unavailable};
        let error = |kind| simsiam_data::Error::Storage { kind, uri: "s3://b/x".into(), reason: "cannot read".into() };
        // Of a run's output, then of a data set.
        for (kind, output, dataset) in [
            (Missing, 75, 65),
            (Denied, 78, 78),
            (Refused, 78, 78),
            (ReadOnly, 78, 78),
            (Full, 75, 75),
            (Unavailable, 75, 75),
        ] {
            assert_eq!(failed(error(kind)).exit_code().code(), output, "{kind:?}");
            assert_eq!(Error::from(error(kind)).exit_code().code(), dataset, "{kind:?}");
        }
        assert_eq!(failed(error(Refused)).to_string(), "spec.output.uri: s3://b/x: cannot read");
        // What may pass is another reason than what cannot.
        for (kind, reason) in [(Denied, FailureReason::AccessDenied), (Refused, FailureReason::BadConfiguration)] {
            assert_eq!(failed(error(kind)).reason(), reason);
            assert_eq!(Error::from(error(kind)).reason(), reason);
        }
        assert_eq!(failed(error(Denied)).subject().as_deref(), Some("spec.output.uri"));
    }

    #[test]
    fn output_that_cannot_be_created_is_error_of_its_field() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for uri in ["ftp://host/x".to_owned(), "pvc://claim/x".into(), file.display().to_string()] {
            let output = Output { uri, endpoint: None, region: None, credentials_secret: None };
            let error = Storage::open(&output, runtime.handle().clone()).unwrap_err();
            assert_eq!(
                (error.exit_code().code(), error.subject().as_deref()),
                (78, Some("spec.output.uri")),
                "{error}"
            );
        }
    }
}
