//! Fetching a file, or one of our checkpoints, from where it lies.

use simsiam_data::store::local_folder;
use simsiam_recipe::Output;
use tokio::runtime::Handle;

use super::Weights;
use crate::checkpoint::Found;
use crate::checkpoint::store::{self, Name};
use crate::error::Error;
use crate::storage::Storage;

/// Reads what lies at `uri`: a file of any kind that is known, or the folder of one of our checkpoints. `field` is what
/// the user named it by; an address in object storage is reached as `output` is.
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

/// Reads what `--weights` names, if anything: weights to use in the place of a run's latest checkpoint.
pub fn open_in_place(uri: Option<&str>, output: &Output, runtime: &Handle) -> Result<Option<Weights>, Error> {
    uri.map(|uri| open("--weights", uri, output, runtime)).transpose()
}

fn directory(uri: &str, found: Result<Found, String>) -> Result<Weights, Error> {
    let refused = |why| Error::Checkpoint {
        uri: uri.to_owned(),
        message: format!("is neither a file nor a complete checkpoint of ours: {why}"),
    };
    Weights::from_checkpoint(&found.map_err(refused)?)
}

fn storage(field: &str, uri: &str, output: &Output, runtime: &Handle) -> Result<Storage, Error> {
    let place = Output { uri: uri.to_owned(), ..output.clone() };
    Storage::open(&place, runtime.clone()).map_err(|e| in_field(field, e))
}

/// The storage speaks of the output, which this is not.
fn in_field(field: &str, error: Error) -> Error {
    match error {
        Error::Config { message, .. } => Error::config(field, message),
        other => other,
    }
}

/// Writes one file whole, by path or address.
pub fn put(field: &str, uri: &str, bytes: Vec<u8>, output: &Output, runtime: &Handle) -> Result<(), Error> {
    let (parent, name) = uri.rsplit_once('/').unwrap_or((".", uri));
    let parent = if parent.is_empty() { "/" } else { parent };
    storage(field, parent, output, runtime)?.put(name, bytes).map_err(|e| in_field(field, e))
}
