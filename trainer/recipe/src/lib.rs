//! What to train: the types of a `SimSiamRun`'s recipe, their defaults, presets and validation rules.
//!
//! The same types are the training part of the Kubernetes resource's `spec` and of the file that
//! `simsiam run -f run.yaml` reads, so every field exists once. This crate knows neither Kubernetes nor
//! libtorch.
//!
//! - [`RunFile`] reads the whole YAML document and returns a validated [`Recipe`].
//! - [`Preset`], [`AugmentPreset`] and [`LinearPreset`] are partial recipes, merged underneath the user's fields.
//! - [`rules`] holds each rule once, as data; [`schema()`] passes them to an API server, [`RunFile::parse`]
//!   evaluates them locally, with the same messages.
//!
//! # Example
//! Load and validate a run file; presets and defaults are filled in, and every violation is reported with its position.
//! ```
//! use simsiam_recipe::{Arch, RunFile, Stage};
//!
//! let text = "
//! apiVersion: simsiam.dev/v1alpha1
//! kind: SimSiamRun
//! metadata: {name: photos}
//! spec:
//!   dataset: {train: photos/train, val: photos/val}
//!   output: {uri: out}
//!   pretrain: {preset: cifar10, epochs: 200}
//!   knn: {}
//! ";
//! let run = RunFile::parse(text, "run.yaml")?;
//! let pretrain = run.recipe.pretrain.as_ref().ok_or("no pretrain stage")?;
//! assert_eq!((pretrain.arch, pretrain.epochs), (Arch::Resnet18, 200));
//! assert_eq!(run.recipe.stages(), [Stage::Pretrain, Stage::Knn]);
//!
//! let error = RunFile::parse(&text.replace("200", "0"), "run.yaml").unwrap_err().to_string();
//! assert_eq!(
//!     error,
//!     "run.yaml:8:31: spec.pretrain.epochs: Invalid value: 0: must be between 1 and 100000"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod augment;
mod channels;
mod dataset;
mod digest;
mod edit;
mod error;
mod evaluation;
mod overrides;
mod presets;
mod pretrain;
mod range;
mod recipe;
mod recipe_schema;
mod report;
mod rule_engine;
pub mod rules;
mod run_file;
pub mod schema;
mod shape;
mod stage;
mod track;
mod validate;
mod yaml;

pub use augment::{Augment, AugmentDevice, AugmentPreset, SecondView};
pub use dataset::{Cache, Dataset, Decode, Pack, Probe};
pub use digest::{digest_of, hex};
pub use edit::{Edit, Edited, edit};
pub use error::{Error, Position, Violation, ViolationKind};
pub use evaluation::{Finetune, Knn, KnnProtocol, Linear, LinearOptimizer, LinearPreset};
pub use pretrain::{
    Ablation, Alternation, Arch, CollapsePolicy, Precision, Preset, Pretrain, Projector, Schedule, Stem,
};
pub use range::{Pages, RangeMode, ValueRange};
pub use recipe::{CheckpointPolicy, ExportFormat, Output, Recipe};
pub use recipe_schema::{schema, without_defaults};
pub use report::Report;
pub use run_file::{API_VERSION, CACHE_VOLUME, CLUSTER_ONLY, KIND, RunFile};
pub use stage::{Stage, StageRanks};
pub use track::{Mlflow, Track};
pub use validate::check_field;
