//! Reading a file, or the checkpoint of a run, by its path or address.

use simsiam_data::storage::local_folder;
use simsiam_recipe::Output;
use tokio::runtime::Handle;

use super::state_dict::Weights;
use crate::checkpoint::store::{self, Name, Verification};
use crate::error::Error;
use crate::storage::Storage;

/// Reads the file of any supported format, or the folder of a run's checkpoint, at `uri`. Errors name `field`, which is
/// what the user gave it as; object storage is reached with the endpoint, region and credentials of `output`.
pub fn open(field: &str, uri: &str, output: &Output, runtime: &Handle) -> Result<Weights, Error> {
    let uri = uri.trim_end_matches('/');
    if let Some(path) = local_folder(uri) {
        let kind = std::fs::metadata(&path).map_err(|e| Error::config(field, format!("{uri} cannot be read: {e}")))?;
        if !kind.is_dir() {
            let bytes = std::fs::read(&path).map_err(Error::io("read", path))?;
            return Weights::from_bytes(&bytes, uri);
        }
        let storage = storage(field, uri, output, runtime)?;
        return directory(uri, store::read_directory(&storage, "")?);
    }
    let (parent, name) = uri.rsplit_once('/').unwrap_or((uri, ""));
    let storage = storage(field, parent, output, runtime)?;
    // Object storage has no folders; not every server answers well when asked for one.
    let file = if Name::parse(name).is_some() { None } else { storage.get(name).map_err(|e| in_field(field, e))? };
    match file {
        Some(bytes) => Weights::from_bytes(&bytes, uri),
        None => directory(uri, store::read_directory(&storage, name).map_err(|e| in_field(field, e))?),
    }
}

/// Reads what `--weights` names, if given: weights to use instead of a run's latest checkpoint.
pub fn open_in_place(uri: Option<&str>, output: &Output, runtime: &Handle) -> Result<Option<Weights>, Error> {
    uri.map(|uri| open("--weights", uri, output, runtime)).transpose()
}

fn directory(uri: &str, directory: Verification) -> Result<Weights, Error> {
    match directory {
        Verification::Valid(found) => Weights::from_checkpoint(&found),
        Verification::Invalid(why) => Err(Error::Checkpoint {
            uri: uri.to_owned(),
            message: format!("is neither a file nor a complete checkpoint of a run: {why}"),
        }),
    }
}

fn storage(field: &str, uri: &str, output: &Output, runtime: &Handle) -> Result<Storage, Error> {
    let output = Output { uri: uri.to_owned(), ..output.clone() };
    Storage::open(&output, runtime.clone()).map_err(|e| in_field(field, e))
}

/// Errors of the storage name `spec.output.uri`, but this is another address.
fn in_field(field: &str, error: Error) -> Error {
    match error {
        Error::Config { message, .. } => Error::config(field, message),
        other => other,
    }
}

/// Writes one file atomically, by path or address.
pub fn put(field: &str, uri: &str, bytes: Vec<u8>, output: &Output, runtime: &Handle) -> Result<(), Error> {
    let (parent, name) = uri.rsplit_once('/').unwrap_or((".", uri));
    let parent = if parent.is_empty() { "/" } else { parent };
    storage(field, parent, output, runtime)?.put(name, bytes).map_err(|e| in_field(field, e))
}
