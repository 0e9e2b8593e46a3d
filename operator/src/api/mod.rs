//! The custom resource `SimSiamRun`: what a user may say ([`ClusterSpec`] beside the recipe), what the operator
//! answers ([`Status`]), and the definition that tells an API server of both ([`crd()`]).

mod crd;
mod duration;
mod object;
mod reference;
mod spec;
mod status;
mod workers;

pub use crd::{crd, crd_template, crd_yaml};
pub use duration::{parse as parse_duration, shown as show_duration};
pub use object::{Json, Run, SimSiamRun};
pub use reference::reference;
pub use spec::{CacheVolume, ClusterSpec, ImagePullPolicy, NamedReference, RestartPolicy};
pub use status::{
    Attempt, AttemptState, Checkpoint, Condition, ConditionStatus, Phase, Progress, Restarts, Results, StageRecord,
    StageState, Status, WorkersStatus,
};
pub use workers::{EnvVar, Network, NodeTerm, Operator, Resources, SecurityContext, Toleration, Workers};

/// The API group.
pub const GROUP: &str = "simsiam.dev";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// The resource's plural.
pub const PLURAL: &str = "simsiamruns";
