//! The custom resource `SimSiamRun`.
//!
//! [`SimSiamRun`] is the object as received, [`ValidatedRun`] one whose identity and spec were checked: the recipe and,
//! beside it, [`ClusterSpec`]. [`Status`] is what the operator writes, and [`crd()`] the definition that describes both to
//! an API server.

mod crd;
mod duration;
mod environment;
mod group;
mod identity;
mod object;
mod patterns;
mod reference;
mod spec;
mod status;
mod validated;
mod volumes;
mod workers;

pub use crd::{crd, crd_template, crd_yaml};
pub use environment::{EnvSource, EnvVar, FieldReference, KeyReference};
pub use group::{GROUP, PLURAL, VERSION};
pub use identity::{MissingMetadata, RunIdentity, RunKey};
pub use object::{Json, SimSiamRun};
pub use reference::reference;
pub use spec::{CacheVolume, ClusterSpec, ImagePullPolicy, NamedReference, RestartPolicy};
pub use status::{
    Attempt, AttemptState, AvoidedNode, CheckpointStatus, Condition, ConditionStatus, ProgressStatus, Restarts,
    Results, RunPhase, StageRecord, StageState, Status, WorkersStatus,
};
pub use validated::ValidatedRun;
pub use volumes::{CaBundle, EmptyDir, MountedVolume};
pub use workers::{
    Gang, GangScheduler, Network, NodeTerm, Operator, ResourceClaim, Resources, SecurityContext, Toleration, Workers,
};
