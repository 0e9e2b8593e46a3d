//! Images to batches: sources, decode, the two-view augmentation, and a loader whose output is fixed by its options.
//!
//! # How a batch is made
//! [`permutation`] orders an epoch's samples → [`Loader`]'s threads read a sample from its [`Source`] → [`TwoViews`] draws
//! two sets of [`ViewParams`] for the size in the image's header → [`Decoder`] decodes what their crops need, once for both
//! → [`Renderer`] makes the views of it → normalised `[N, C, S, S]` planes, or with [`ViewFormat::Crops`] only the resized
//! crops, for a device to do the rest. A classifier is trained on one view. [`EvalLoader`] makes the fixed [`EvalView`]
//! of whole images, in order of ids.
//!
//! # Determinism
//! Everything random is keyed by counters ([`rng`]): the order by (seed, epoch), a view by (seed, epoch, sample, view).
//! Neither the number of threads or ranks, nor where a run was interrupted, changes a pixel.
//!
//! # Agreement with torchvision
//! Every operation follows torchvision's on PIL images, down to PIL's fixed-point arithmetic and its rounding; the
//! tests compare each with fixtures that PIL and torchvision made. EXIF orientation is ignored, as torchvision's loader
//! ignores it.
//!
//! # Example
//! Open a folder of images and iterate over the batches of an epoch.
//! ```
//! use simsiam_data::{Access, Loader, LoaderOptions, TwoViews, open, synth};
//!
//! # let folder = tempfile::tempdir()?;
//! # let root = folder.path();
//! // Ten classes of drawn shapes; any folder of class folders, tar shards or a packed set works the same way.
//! let drawn = synth::SynthOptions { train_per_class: 2, val_per_class: 1, size: 40, seed: 1 };
//! synth::write(root, &drawn, &mut |_done, _total| {})?;
//!
//! let runtime = tokio::runtime::Runtime::new()?; // for requests to object storage
//! let access = Access::new(runtime.handle().clone());
//! let source = open(&root.join("train").display().to_string(), None, &access)?;
//! assert_eq!((source.len(), source.classes().len()), (20, 10));
//!
//! let views = TwoViews { crop_size: 32, ..TwoViews::default() };
//! let options = LoaderOptions { batch: 8, threads: 2, ..LoaderOptions::default() };
//! let loader = Loader::two_views(source, views, options)?;
//! assert_eq!(loader.batches(), 2); // the partial third batch is dropped
//! for batch in loader {
//!     let batch = batch?;
//!     assert_eq!(batch.views[0].len(), 8 * 3 * 32 * 32); // [N, 3, S, S]
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cache;
mod decode;
pub mod describe;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hex;
mod ifd;
mod image;
mod loader;
pub mod ops;
mod order;
pub mod pack;
mod range;
pub mod rng;
mod source;
pub mod storage;
mod storage_error;
pub mod synth;
mod times;
mod transcode;
mod view;

pub use decode::{DecodeMode, DecodeOptions, Decoder, MAX_PIXELS, Part, Wanted};
pub use encode::encode_jpeg;
pub(crate) use encode::encode_png;
pub use error::Error;
pub use image::{Crop, RgbImage};
pub use loader::{Batch, EvalBatch, EvalLoader, Loader, LoaderOptions, Replaced, Skipped, ViewFormat};
pub use ops::{Jitter, JitterOp};
pub use order::{permutation, rank_slice};
pub use range::ValueRange;
pub use source::{
    Access, Columns, ImageFolder, ListingReport, Manifest, Objects, Pages, ParquetFiles, ShardInfo, Shards, Source,
    Subset, listing_digest, open,
};
pub use times::{LoadStage, LoadTimes};
pub use transcode::{TargetSize, Transcoder};
pub use view::{EvalView, Probabilities, Renderer, TwoViews, ViewParams};
