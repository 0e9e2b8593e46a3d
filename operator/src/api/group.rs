//! Group, version and name of the resource.

/// The API group.
pub use simsiam_contract::names::GROUP;

/// The served version.
pub const VERSION: &str = "v1alpha1";
/// The resource's plural name.
pub const PLURAL: &str = "simsiamruns";
