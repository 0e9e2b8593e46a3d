#![doc = "The operator: runs `SimSiamRun` resources as multi-node training pods on Kubernetes."]
//!
//! A user applies one `SimSiamRun`. The operator takes it through its stages (prepare, pretrain, knn, linear, finetune,
//! export, report), each in one or more *attempts*, and each attempt is one Indexed Job. One reconciliation is a short
//! pipeline:
//!
//! 1. [`controller`] watches runs and their children, and queues the runs that something happened to;
//! 2. [`observe`] gathers a run's Jobs, pods and other children from the watches' caches;
//! 3. [`mod@plan`], a pure function, computes the next status and the actions that follow from it;
//! 4. [`controller`] writes the status, and only then [`apply`] carries the actions out.
//!
//! [`api`] has the types of the custom resource, [`build`] makes the Kubernetes objects of an attempt, [`progress`] polls
//! the first pod of each run for live display, and [`election`] lets only one replica reconcile. Only [`apply`],
//! [`controller`] and [`election`] hold a Kubernetes client.
//!
//! # Invariants and their owners
//!
//! - *Status before action*: an attempt's number and its end are stored before anything is done about them:
//!   `controller::reconcile_once`.
//! - *A status is only written over the version that was planned from*: [`apply::Cluster::write_status`].
//! - *Planning is pure*: the same [`plan::Input`] gives the same [`plan::Plan`]: [`plan::plan`].
//! - *No object is missing before its listing is complete*: [`controller::run`].
//! - *A poisoned lock hides nothing*: `sync`.
//! - *Identity is complete*: [`api::RunIdentity::of`].
//!
//! # Example
//!
//! The first step of a new run stores its first attempt and creates what the attempt needs, the Job last:
//!
//! ```
//! use simsiam_operator::api::{RunPhase, SimSiamRun, ValidatedRun};
//! use simsiam_operator::build::Settings;
//! use simsiam_operator::observe::Observed;
//! use simsiam_operator::plan::{Action, Input, plan};
//!
//! let object: SimSiamRun = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "cats", "namespace": "vision", "uid": "8b1f", "generation": 1},
//!     "spec": {"dataset": {"train": "s3://images/train"}, "output": {"uri": "s3://models/cats"}, "pretrain": {}},
//! }))?;
//! let run = ValidatedRun::read(&object);
//! let plan = plan(&Input {
//!     object: &object,
//!     run: run.as_ref().map_err(String::as_str),
//!     observed: &Observed::default(),
//!     settings: &Settings::default(),
//!     now: "2026-01-01T00:00:00Z".parse()?,
//! });
//! assert_eq!(plan.status.phase, Some(RunPhase::Pending));
//! assert!(plan.status.attempt.unwrap().job.starts_with("cats-pretrain-1-"));
//! assert!(matches!(plan.actions.last(), Some(Action::CreateJob(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
pub mod apply;
pub mod build;
pub mod controller;
pub mod election;
pub mod error;
pub mod events;
mod fair_queue;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod serve;
mod sync;
pub mod watches;
