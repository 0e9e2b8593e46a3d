//! What to train: the types of a `SimSiamRun`'s recipe, their defaults, presets and rules.
//!
//! The same types are the training part of the Kubernetes resource's `spec` and of the file that
//! `simsiam run -f run.yaml` reads, so every field exists once. This crate knows neither Kubernetes nor
//! libtorch.
//!
//! - [`RunFile`] reads the whole YAML document and hands out a checked [`Recipe`].
//! - [`Preset`] and [`LinearPreset`] are partial recipes that lie under what the user wrote.
//! - [`rules`] holds each rule once, as data; [`schema()`] carries them to an API server, [`RunFile::parse`]
//!   evaluates them here, with the same words.

mod augment;
mod check;
mod dataset;
mod digest;
mod error;
mod eval;
mod evaluate;
mod overrides;
mod presets;
mod pretrain;
mod recipe;
mod report;
pub mod rules;
mod run_file;
pub mod schema;
mod stage;
mod structure;
mod yaml;

pub use augment::{Augment, AugmentDevice};
pub use dataset::{Cache, Dataset, Decode, Pack};
pub use digest::digest_of;
pub use error::{Error, Kind, Place, Violation};
pub use eval::{Finetune, Knn, KnnProtocol, Linear, LinearOptimizer, LinearPreset};
pub use pretrain::{
    Ablation, Alternation, Arch, CollapsePolicy, Precision, Preset, Pretrain, Projector, Schedule, Stem,
};
pub use recipe::{CheckpointPolicy, ExportFormat, Output, Recipe};
pub use report::Report;
pub use run_file::{API_VERSION, CACHE_VOLUME, CLUSTER_ONLY, KIND, RunFile};
pub use schema::schema;
pub use stage::Stage;
