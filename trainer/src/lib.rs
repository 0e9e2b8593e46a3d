//! SimSiam pre-training of image backbones, and its evaluation.
//!
//! - [`model`] the network and its loss, [`optim`] and [`schedule`] how it is trained;
//! - [`dataset`] what images a run has, [`photometric`] the part of the augmentation that a device can do;
//! - [`pretrain`], [`knn`] and [`classify`] the stages, as a [`rank`] runs them, the last two on [`features`];
//!   [`checkpoint`] and [`storage`] what they leave;
//! - [`interchange`] reads and writes other programs' weights;
//! - [`report`] the page about a run;
//! - [`agent`] starts ranks and answers for them; [`telemetry`] is what they tell meanwhile;
//! - [`cli`] is the `simsiam` command over all of it, [`run`] its whole-run mode;
//! - [`fixture`] repeats the steps that PyTorch's results are stored of.

pub mod agent;
pub mod checkpoint;
pub mod classify;
pub mod cli;
pub mod control;
pub mod dataset;
pub mod device;
pub mod embedding;
pub mod error;
pub mod features;
pub mod fixture;
pub mod interchange;
pub mod knn;
pub mod meter;
pub mod model;
pub mod optim;
pub mod peak;
pub mod photometric;
pub mod pretrain;
pub mod rank;
pub mod report;
pub mod run;
pub mod schedule;
pub mod stage;
pub mod storage;
pub mod telemetry;

pub use error::{Error, ExitCode};
