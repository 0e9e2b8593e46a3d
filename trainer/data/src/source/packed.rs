//! The manifest of a packed set, `packed.json`. It is written last, so a set without it is incomplete; that invariant is
//! upheld by [`crate::pack::pack`].

use serde::{Deserialize, Serialize};

use crate::Error;

/// The manifest's name.
pub(crate) const MANIFEST: &str = "packed.json";
/// The version that this build reads and writes.
const VERSION: u32 = 1;

/// `packed.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Samples in all.
    pub samples: usize,
    /// The classes' names, sorted by bytes; empty without labels.
    pub classes: Vec<String>,
    /// The size that images were resized to, as `keep`, `maxSide 400` or `shortSide 256`.
    pub size: String,
    /// JPEG quality of re-encoded images.
    pub quality: u8,
    /// Digest of the source's listing and these settings; packing the same again gives the same digest.
    pub of: String,
    /// Images of the source that could not be read and are not here.
    pub left_out: Vec<String>,
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
}

/// One shard: `<stem>.tar` and `<stem>.idx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// The name of its two files, without the ending.
    pub stem: String,
    /// Bytes of the tar.
    pub bytes: u64,
    /// SHA-256 of the tar, in hex.
    pub sha256: String,
    /// Samples in it.
    pub samples: usize,
}

impl Manifest {
    /// An empty manifest of this version.
    pub(crate) fn new(classes: Vec<String>, size: String, quality: u8, of: String) -> Self {
        Self { version: VERSION, samples: 0, classes, size, quality, of, left_out: Vec::new(), shards: Vec::new() }
    }

    /// Reads the file; `uri` names it in errors.
    ///
    /// # Errors
    /// [`Error::Shard`] for anything but a manifest of a version that this build knows.
    pub(crate) fn parse(uri: &str, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason: String| Error::Shard { uri: uri.to_owned(), reason };
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|e| bad(format!("not a packed set's manifest: {e}; pack the data again")))?;
        if manifest.version != VERSION {
            let found = manifest.version;
            return Err(bad(format!("is of version {found}, this build reads version {VERSION}; pack the data again")));
        }
        let total: usize = manifest.shards.iter().map(|shard| shard.samples).sum();
        if total != manifest.samples {
            return Err(bad(format!(
                "says {} samples, its shards have {total}; pack the data again",
                manifest.samples
            )));
        }
        // Names come from a file: they must stay in its folder.
        match manifest.shards.iter().find(|shard| shard.stem.is_empty() || shard.stem.contains(['/', '\\', '.'])) {
            Some(shard) => Err(bad(format!("names a shard {:?}; pack the data again", shard.stem))),
            None => Ok(manifest),
        }
    }
}
