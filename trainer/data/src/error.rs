//! The crate's one error type.

use std::path::PathBuf;

/// What can go wrong between a folder of images and a batch; each message names the thing and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase: `open this folder`, `read this file`.
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },

    /// The data set's root is not a folder.
    #[error("{}: not a folder; expected a folder of class folders, or a flat folder, of .jpg, .jpeg and .png files", path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },

    /// The location is of a kind that this build does not read.
    #[error(
        "{location}: scheme {scheme:?} is not supported for images; expected a local path or file://<absolute path>"
    )]
    Scheme {
        /// The location as given.
        location: String,
        /// The part before `://`.
        scheme: String,
    },

    /// The storage does not let us do this; trying again would not help.
    #[error("{uri}: {reason}")]
    Refused {
        /// The object or prefix.
        uri: String,
        /// What the storage said, and what to do.
        reason: String,
    },

    /// The storage did not answer, or answered with a fault, for as long as was agreed.
    #[error("{uri}: {reason}")]
    Unreachable {
        /// The object or prefix.
        uri: String,
        /// What the storage said last.
        reason: String,
    },

    /// An object that was listed is not there.
    #[error("{uri}: there is no such object")]
    Vanished {
        /// The object.
        uri: String,
    },

    /// A shard, its index or a packed set's manifest does not hold what it should.
    #[error("{uri}: {reason}")]
    Shard {
        /// The file or object.
        uri: String,
        /// What was expected and found, and what to do.
        reason: String,
    },

    /// Nothing at all is in the folder.
    #[error("{}: the folder is empty; expected <class>/<name>.jpg|jpeg|png, or images without class folders", path.display())]
    EmptyFolder {
        /// The data set's root.
        path: PathBuf,
    },

    /// The folder holds files, but none that is an image by its name.
    #[error(
        "{}: no images among {files} files; expected names ending in .jpg, .jpeg or .png, at the top or one folder deep",
        path.display()
    )]
    NoImages {
        /// The data set's root.
        path: PathBuf,
        /// How many files of other kinds were seen.
        files: usize,
    },

    /// Images stand both in class folders and beside them.
    #[error(
        "{}: {flat} images stand beside {classes} class folders (first: {first}); move them into a class folder or remove the folders",
        path.display()
    )]
    MixedLayout {
        /// The data set's root.
        path: PathBuf,
        /// Number of images at the top.
        flat: usize,
        /// Number of class folders.
        classes: usize,
        /// One of the images at the top.
        first: String,
    },

    /// An evaluation set has a class that the training set has not.
    #[error(
        "{}: class folder {class:?} is not among the {known} classes of the training set; rename or remove it",
        path.display()
    )]
    UnknownClass {
        /// The evaluation set's root.
        path: PathBuf,
        /// The class folder's name.
        class: String,
        /// How many classes the training set has.
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

    /// An image has more pixels than is sane; decoding it could exhaust the memory.
    #[error("{name}: {width}x{height} pixels are more than the {limit} allowed; scale the image down")]
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

    /// More images are unreadable than `dataset.maxCorrupt` allows.
    #[error(
        "{count} unreadable images, more than dataset.maxCorrupt = {limit} allows; the last is {name}: {reason}; repair or remove them, or raise the limit"
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
        "the data set has {samples} images, fewer than one global batch of {batch}; lower pretrain.batchSize or add images"
    )]
    TooFewSamples {
        /// Number of samples.
        samples: usize,
        /// The global batch size.
        batch: usize,
    },

    /// An option is outside its range.
    #[error("{field} = {value}: expected {expected}")]
    Option {
        /// The option's name.
        field: &'static str,
        /// The value given.
        value: String,
        /// The allowed range or relation.
        expected: String,
    },

    /// A loader's thread could not be started or ended before its work was done.
    #[error("a data loading thread {what}; this is a defect or a lack of threads or memory on this machine")]
    Worker {
        /// What became of the thread.
        what: String,
    },
}

impl Error {
    /// Whether the error is about one image's content, so that a loader may replace the sample, rather than about the
    /// data set, an option or the machine.
    #[must_use]
    pub fn is_bad_image(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, NotFound, PermissionDenied};
        match self {
            Self::Decode { .. } | Self::TooLarge { .. } | Self::Vanished { .. } | Self::Shard { .. } => true,
            // All else (a stale network mount, too many open files) says nothing about the image, and may pass.
            Self::Io { source, .. } => matches!(source.kind(), NotFound | PermissionDenied | InvalidData),
            _ => false,
        }
    }

    pub(crate) fn option(field: &'static str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self::Option { field, value: value.to_string(), expected: expected.into() }
    }
}
