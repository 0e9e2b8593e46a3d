//! SimSiam pre-training of image backbones, and its evaluation.
//!
//! From the command line down:
//!
//! - [`cli`] is the `simsiam` command: flags, and nothing that could be used without them;
//! - [`agent`] starts the ranks of a stage on this machine, supervises them and reports for them; it also runs a whole
//!   file locally;
//! - [`stage`] is what a rank runs: one module for each stage, and the dispatch between them;
//! - [`training`] is the loop that pre-training and both classifiers share, with their optimisers and schedules;
//! - [`eval`] measures features; [`weights`] reads and writes weights of other programs;
//! - [`checkpoint`] and [`storage`] are what a run leaves; [`report`] is the page about it;
//! - [`model`] is the network and its loss, [`data`] the images of a run, [`dist`] one rank among its peers;
//! - [`telemetry`] is what ranks report while they run;
//! - [`doctor`] checks this machine for a run;
//! - [`advise`] looks at a run's images and this machine and proposes values for its fields.
//!
//! ```
//! use simsiam::training::schedule::LearningRate;
//! use simsiam_recipe::Pretrain;
//!
//! let recipe = Pretrain { warmup_epochs: 0, ..Pretrain::default() };
//! let rates = LearningRate::new(&recipe, 100); // steps per epoch
//! assert_eq!(rates.at(0).encoder, recipe.peak_lr());
//! assert!(rates.at(9_999).encoder < rates.at(0).encoder);
//! ```

pub mod advise;
pub mod agent;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod dist;
pub mod doctor;
pub mod error;
pub mod eval;
pub mod model;
pub mod report;
pub mod runtime;
pub mod stage;
pub mod storage;
pub mod telemetry;
pub mod training;
pub mod weights;

pub use error::{Error, ExitCode};
