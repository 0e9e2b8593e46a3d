//! The Kubernetes objects of an attempt, each made by a pure function in its own file.
//!
//! ```
//! use simsiam_operator::api::{Attempt, AttemptState, SimSiamRun, ValidatedRun};
//! use simsiam_operator::build::{Objects, Settings};
//! use simsiam_operator::names;
//! use simsiam_recipe::Stage;
//!
//! let object: SimSiamRun = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "cats", "namespace": "vision", "uid": "8b1f"},
//!     "spec": {"dataset": {"train": "s3://images/train"}, "output": {"uri": "s3://models/cats"}, "pretrain": {},
//!         "workers": {"nodes": 4, "gpusPerNode": 8}},
//! }))?;
//! let run = ValidatedRun::read(&object)?;
//! let created = "2026-01-01T00:00:00Z".parse()?;
//! let job = names::job("cats", "8b1f", Stage::Pretrain, 1);
//! let state = AttemptState::Creating;
//! let attempt = Attempt { number: 1, job, state, generation: 1, avoid_nodes: vec![], created, ended: None };
//! let objects = Objects::of(&run, Stage::Pretrain, &attempt, &Settings::default());
//! assert_eq!(objects.job.spec.unwrap().completions, Some(4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config_map;
mod gang;
mod job;
mod metadata;
mod network_policy;
mod pod;
mod resources;
mod service;
mod settings;
mod shape;
mod volumes;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use simsiam_recipe::Stage;

use crate::api::{Attempt, ValidatedRun};
pub use settings::{Peer, Settings};
pub use shape::Shape;

/// All objects of an attempt.
#[derive(Debug, Clone)]
pub struct Objects {
    /// DNS names of the pods.
    pub service: Service,
    /// Which pods may connect to the run's pods.
    pub network_policy: NetworkPolicy,
    /// The run file.
    pub config_map: ConfigMap,
    /// The pods.
    pub job: Job,
}

impl Objects {
    /// Builds the objects of an attempt at `stage`.
    pub fn of(run: &ValidatedRun, stage: Stage, attempt: &Attempt, settings: &Settings) -> Self {
        Self {
            service: service::service(run),
            network_policy: network_policy::network_policy(run, settings),
            config_map: config_map::config_map(run),
            job: job::job(run, stage, attempt, settings),
        }
    }
}
