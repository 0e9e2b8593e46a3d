//! The operator: reconciles `SimSiamRun` resources into multi-node training pods.
//!
//! A watch says that something changed; [`observe`] gathers a run's children from the caches; [`mod@plan`], a pure
//! function, says what is to be done and where the run stands; [`apply`] does it. [`build`] makes the objects. Only
//! [`apply`] and [`controller`] hold a client. [`progress`] asks the runs' first pods how far they are.

pub mod api;
pub mod apply;
pub mod build;
pub mod controller;
pub mod error;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod serve;
mod turns;
