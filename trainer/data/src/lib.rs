//! Images to batches: sources, decode, the two-view augmentation, and a loader whose output is fixed by its options.
//!
//! # How a batch comes about
//! [`permutation`] orders an epoch's samples → [`Loader`]'s threads read a sample from its [`Source`] → [`TwoViews`] draws
//! two sets of [`ViewParams`] for the size in the image's header → [`Decoder`] decodes what their crops need, once for both
//! → [`Renderer`] makes the views of it → normalised `[N, 3, S, S]` planes, or with [`Output::Crops`] only the resized
//! crops, for a device to do the rest. A classifier is trained on one view. [`EvalLoader`] makes the fixed [`EvalView`] of whole images, in order of ids.
//!
//! # Determinism
//! Everything random is keyed by counters ([`rng`]): the order by (seed, epoch), a view by (seed, epoch, sample, view).
//! Neither the number of threads or ranks, nor where a run was interrupted, changes a pixel.
//!
//! # Agreement with torchvision
//! Every operation follows torchvision's on PIL images, down to PIL's fixed-point arithmetic and its rounding; the
//! tests compare each with fixtures that PIL and torchvision made. EXIF orientation is ignored, as torchvision's loader
//! ignores it.

pub mod cache;
mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod loader;
pub mod ops;
mod order;
pub mod pack;
pub mod rng;
mod source;
pub mod store;
pub mod synth;
mod times;
mod transcode;
mod view;

pub use decode::{DecodeMode, Decoder, MAX_PIXELS, Part, Wanted};
pub use encode::encode_jpeg;
pub use error::Error;
pub use image::RgbImage;
pub use loader::{Batch, EvalBatch, EvalLoader, Loader, LoaderOptions, Output, Replaced, Skipped};
pub use order::{permutation, rank_slice};
pub use source::{Access, ImageFolder, Manifest, Objects, ShardInfo, Shards, Source, Subset, open};
pub use times::{Stage, StageTimes};
pub use transcode::{TargetSize, Transcoder};
pub use view::{Crop, EvalView, Jitter, JitterOp, Renderer, TwoViews, ViewParams};
