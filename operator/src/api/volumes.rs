//! Additional volumes of the pods: `workers.volumes` and `workers.caBundle`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simsiam_recipe::rules::{Rule, attach};
use simsiam_recipe::schema;

use super::patterns::{NAME, NAME_TEXT, QUANTITY, QUANTITY_TEXT};

/// A volume and where it is mounted: one of configMap, secret, persistentVolumeClaim, hostPath and emptyDir.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = volume_rules)]
pub struct MountedVolume {
    /// Where it is mounted.
    #[schemars(length(max = 1024))]
    pub mount_path: String,
    /// The folder or file of the volume that is mounted. Default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub sub_path: Option<String>,
    /// Mount it read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// A ConfigMap of the run's namespace, with a file for each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub config_map: Option<String>,
    /// A Secret of the run's namespace, with a file for each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
    /// A persistent volume claim that all pods can mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub persistent_volume_claim: Option<String>,
    /// A directory of the node. Not allowed by the Pod Security Standards baseline and restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub host_path: Option<String>,
    /// An empty directory that is deleted with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// An empty directory. `{}` takes every default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = empty_dir_rules)]
pub struct EmptyDir {
    /// Maximum size; a pod that exceeds it is evicted. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size_limit: Option<String>,
}

/// Certificate authorities in a ConfigMap of the run's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = ca_rules)]
pub struct CaBundle {
    /// The ConfigMap's name.
    #[schemars(length(max = 253))]
    pub config_map: String,
    /// The key with the certificates, as PEM.
    #[serde(default = "ca_key")]
    #[schemars(length(max = 253))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".into()
}

const PATH: &str = "self.startsWith('/') && !self.contains('..')";
const PATH_TEXT: &str = "must be an absolute path";

/// The folders are those of `build::volumes` and [`CACHE_FOLDER`](simsiam_contract::names::CACHE_FOLDER); a test compares.
const VOLUME: &[Rule] = &[
    Rule::on("mountPath", PATH, PATH_TEXT),
    Rule::on(
        "mountPath",
        "!(self in ['/', '/etc/simsiam', '/etc/simsiam-ca', '/cache', '/tmp', '/dev/shm', '/mnt/claims'])",
        "must be a folder that the trainer does not use",
    ),
    Rule::on("subPath", "!self.startsWith('/') && !self.contains('..')", "must be a relative path"),
    Rule::on("configMap", NAME, NAME_TEXT),
    Rule::on("secret", NAME, NAME_TEXT),
    Rule::on("persistentVolumeClaim", NAME, NAME_TEXT),
    Rule::on("hostPath", PATH, PATH_TEXT),
    Rule::needs(
        ".configMap",
        "[has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), has(self.hostPath), \
            has(self.emptyDir)].filter(given, given).size() == 1",
        "give one of configMap, secret, persistentVolumeClaim, hostPath and emptyDir",
    ),
];

const EMPTY_DIR: &[Rule] = &[Rule::on("sizeLimit", QUANTITY, QUANTITY_TEXT)];

const CA: &[Rule] = &[
    Rule::on("configMap", NAME, NAME_TEXT),
    Rule::on("key", "self.matches('^[-._a-zA-Z0-9]+$')", "must be a key of a ConfigMap: letters, digits, -, _ and ."),
];

fn volume_rules(schema: &mut schemars::Schema) {
    attach(schema, VOLUME);
}

fn empty_dir_rules(schema: &mut schemars::Schema) {
    attach(schema, EMPTY_DIR);
}

fn ca_rules(schema: &mut schemars::Schema) {
    attach(schema, CA);
}
