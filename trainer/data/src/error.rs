//! The crate's error type.

use std::path::PathBuf;

use crate::storage_error::StorageErrorKind;

/// What can go wrong between a folder of images and a batch; each message names the thing and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as in `read`.
        action: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The data set's root is not a folder.
    #[error("{}: not a folder; expected a folder of class folders, or a flat folder, of images", path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },

    /// The address has a scheme that cannot be used here.
    #[error("{location}: scheme {scheme:?} is not supported; expected {expected}")]
    Scheme {
        /// The location as given.
        location: String,
        /// The part before `://`.
        scheme: String,
        /// The supported forms of an address.
        expected: &'static str,
    },

    /// A storage operation failed.
    #[error("{uri}: {reason}")]
    Storage {
        /// Why, as a caller has to react to it.
        kind: StorageErrorKind,
        /// The object or prefix.
        uri: String,
        /// What the storage reported, and what to do.
        reason: String,
    },

    /// A shard, its index or a packed set's manifest is damaged or inconsistent.
    #[error("{uri}: {reason}")]
    Shard {
        /// The file or object.
        uri: String,
        /// What was expected and found, and what to do.
        reason: String,
    },

    /// What to read at an address is not clear, or is not there: several splits or columns, or none of the name given.
    #[error("{uri}: {reason}")]
    Selection {
        /// The address or file.
        uri: String,
        /// What was found, and what to set.
        reason: String,
    },

    /// The folder is empty.
    #[error("{location}: the folder is empty; expected <class>/<name>.jpg|png|…, or images without class folders")]
    EmptyFolder {
        /// The data set's root.
        location: String,
    },

    /// The folder has files, but none with the name of an image.
    #[error(
        "{location}: no images among {files} files{}; expected names ending in .jpg, .jpeg, .jfif, .jpe, .png, .tif, .tiff, .bmp, .webp, .dcm or .npy, at the top or one folder deep{}",
        in_brackets(kinds),
        parquet_advice(kinds)
    )]
    NoImages {
        /// The data set's root.
        location: String,
        /// Number of other files.
        files: usize,
        /// Their kinds, as `10 .webp, 1 .txt`.
        kinds: String,
    },

    /// Images are both in class folders and beside them.
    #[error(
        "{location}: found {flat} images next to {classes} class folders (first: {first}); move them into a class folder or remove the folders"
    )]
    MixedLayout {
        /// The data set's root.
        location: String,
        /// Number of images at the top.
        flat: usize,
        /// Number of class folders.
        classes: usize,
        /// One of the images at the top.
        first: String,
    },

    /// An evaluation set has a class that the training set does not have.
    #[error(
        "{location}: class folder {class:?} is not among the {known} classes of the training set; rename or remove it"
    )]
    UnknownClass {
        /// The evaluation set's root.
        location: String,
        /// The class folder's name.
        class: String,
        /// Number of classes of the training set.
        known: usize,
    },

    /// A sample id is beyond the source's end.
    #[error("sample {id} does not exist; the data set has {len} samples, numbered from 0")]
    NoSuchSample {
        /// The id asked for.
        id: u64,
        /// The source's length.
        len: usize,
    },

    /// An image's bytes could not be decoded.
    #[error("{name}: not a readable image: {reason}")]
    Decode {
        /// The image's name, as its source gives it.
        name: String,
        /// What the decoder found.
        reason: String,
    },

    /// An image has too many pixels; decoding it could exhaust the memory.
    #[error("{name}: {width}x{height} pixels exceed the limit of {limit}; downscale the image")]
    TooLarge {
        /// The image's name.
        name: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Most pixels allowed.
        limit: u64,
    },

    /// More images are unreadable than `max_corrupt` allows.
    #[error(
        "{count} unreadable images, more than the {limit} allowed; the last is {name}: {reason}; repair or remove them, or raise the limit"
    )]
    TooManyCorrupt {
        /// Distinct unreadable images so far.
        count: u64,
        /// The limit.
        limit: u64,
        /// The image that went over the limit.
        name: String,
        /// Why it is unreadable.
        reason: String,
    },

    /// No image of the data set could be read.
    #[error("none of the {samples} images can be read; the last is {name}: {reason}")]
    NothingReadable {
        /// Number of samples.
        samples: usize,
        /// The last image tried.
        name: String,
        /// Why it is unreadable.
        reason: String,
    },

    /// The data set is smaller than one global batch.
    #[error(
        "the data set has {samples} images, fewer than one global batch of {batch}; use a smaller batch or add images"
    )]
    TooFewSamples {
        /// Number of samples.
        samples: usize,
        /// The global batch size.
        batch: usize,
    },

    /// An option is outside its range.
    #[error("{option} = {value}: expected {expected}")]
    Option {
        /// The option's name in this crate.
        option: &'static str,
        /// The value given.
        value: String,
        /// The allowed range or relation.
        expected: String,
    },

    /// A loader's thread could not be started or ended before its work was done.
    #[error("a data loading thread {what}; this is a bug, or this machine is out of threads or memory")]
    Worker {
        /// What happened to the thread.
        what: String,
    },
}

fn parquet_advice(kinds: &str) -> &'static str {
    let has = kinds.split(", ").any(|kind| kind.ends_with(" .parquet"));
    if has { "; of Parquet files, name the folder that they are directly in, or one of them" } else { "" }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

impl Error {
    /// Whether the error is about one image's content, so that a loader may replace the sample, rather than about the
    /// data set, an option or the machine.
    #[must_use]
    pub fn is_bad_image(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, NotFound, PermissionDenied};
        match self {
            Self::Decode { .. } | Self::TooLarge { .. } | Self::Shard { .. } => true,
            Self::Storage { kind, .. } => *kind == StorageErrorKind::Missing,
            // All else (a stale network mount, too many open files) says nothing about the image, and may pass.
            Self::Io { source, .. } => matches!(source.kind(), NotFound | PermissionDenied | InvalidData),
            _ => false,
        }
    }

    /// The option of this crate that the error is about, if it is about one, so that a caller can name its own setting.
    #[must_use]
    pub fn option_name(&self) -> Option<&'static str> {
        match self {
            Self::Option { option, .. } => Some(option),
            Self::TooManyCorrupt { .. } => Some("max_corrupt"),
            Self::TooFewSamples { .. } => Some("batch"),
            _ => None,
        }
    }

    /// An object that was listed, or named by the user, does not exist.
    pub(crate) fn missing(uri: impl Into<String>) -> Self {
        Self::Storage { kind: StorageErrorKind::Missing, uri: uri.into(), reason: "there is no such object".into() }
    }

    pub(crate) fn option(option: &'static str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { option, value: value.to_string(), expected: expected.into() }
    }
}
