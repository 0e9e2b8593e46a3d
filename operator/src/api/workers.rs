//! The pods of a run: number, resources and placement.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simsiam_recipe::rules::{Rule, attach};
use simsiam_recipe::schema;

use super::environment::EnvVar;
use super::patterns::{LABEL, LABEL_TEXT, NAME, NAME_TEXT, QUANTITY, QUANTITY_TEXT};
use super::volumes::{CaBundle, MountedVolume};

/// The pods of multi-process stages. Single-process stages run in one pod with the same settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules)]
pub struct Workers {
    /// Number of pods, one per node.
    pub nodes: u32,
    /// GPUs of each pod, with one rank per GPU. 0 trains on the CPU.
    pub gpus_per_node: u32,
    /// The resource that the GPUs are requested as; a MIG slice is nvidia.com/mig-3g.40gb, for instance.
    #[schemars(length(max = 253))]
    pub gpu_resource: String,
    /// Claims of devices by dynamic resource allocation (DRA), for the pods of stages that use GPUs. Set procsPerNode to the
    /// number of ranks if the GPUs come from a claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub resource_claims: Vec<ResourceClaim>,
    /// Ranks of each pod. Default: one per GPU, or one without GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procs_per_node: Option<u32>,
    /// Intra-op threads of each rank. Default: the pod's CPUs divided by its ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads_per_rank: Option<u32>,
    /// Resources of each pod besides its GPUs.
    pub resources: Resources,
    /// Size of /dev/shm, which NCCL uses between the ranks of a pod.
    #[schemars(length(max = 32))]
    pub shm_size: String,
    /// How the pods communicate.
    pub network: Network,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub node_selector: BTreeMap<String, String>,
    /// Further requirements on a node; all must be met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub node_affinity: Vec<NodeTerm>,
    /// Node taints that the pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Environment variables of the trainer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Additional volumes, each mounted in the trainer's container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub volumes: Vec<MountedVolume>,
    /// Certificate authorities that the trainer trusts when it connects to storage, instead of those in its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// The service account of the pods, for clouds that grant storage access to service accounts. No token for the
    /// cluster's API is mounted. Default: default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// The pods' runtime class, such as nvidia.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// The scheduler. Default: the cluster's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub scheduler_name: Option<String>,
    /// Gang scheduling by Volcano or KAI. Kueue needs no such scheduler: set queueName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gang: Option<Gang>,
    /// Additional labels of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub annotations: BTreeMap<String, String>,
    /// User and groups of the pods.
    pub security_context: SecurityContext,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            nodes: 1,
            gpus_per_node: 0,
            gpu_resource: GPU.into(),
            resource_claims: Vec::new(),
            procs_per_node: None,
            threads_per_rank: None,
            resources: Resources::default(),
            shm_size: "2Gi".into(),
            network: Network::default(),
            node_selector: BTreeMap::new(),
            node_affinity: Vec::new(),
            tolerations: Vec::new(),
            env: Vec::new(),
            volumes: Vec::new(),
            ca_bundle: None,
            service_account_name: None,
            runtime_class_name: None,
            scheduler_name: None,
            gang: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            security_context: SecurityContext::default(),
        }
    }
}

/// Resources of a pod, as Kubernetes quantities. Requests and limits are equal, so that a pod is not evicted for using
/// what it requested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = resource_rules)]
pub struct Resources {
    /// CPUs, such as 16. Default: a request of 100m and no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cpu: Option<String>,
    /// Memory, such as 128Gi. Default: a request of 256Mi and no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
    /// Ephemeral storage, which an emptyDir cache uses. Default: no request and no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ephemeral_storage: Option<String>,
    /// Other resources by name, such as {rdma/hca: "8"}, {vpc.amazonaws.com/efa: "32"} or {hugepages-2Mi: 5Gi}, for the
    /// pods of stages that use GPUs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8, "additionalProperties" = {"type": "string", "maxLength": 32}))]
    pub extended: BTreeMap<String, String>,
}

/// A claim of devices by dynamic resource allocation: give either a template, from which each pod gets its own claim, or the
/// name of one claim that all pods share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = claim_rules)]
pub struct ResourceClaim {
    /// Name of the claim within the pods.
    #[schemars(length(max = 63))]
    pub name: String,
    /// A ResourceClaimTemplate of the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub resource_claim_template_name: Option<String>,
    /// A ResourceClaim of the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub resource_claim_name: Option<String>,
}

/// How the pods of a run communicate. Everything is off by default; the defaults comply with the `restricted` Pod
/// Security Standard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = network_rules)]
pub struct Network {
    /// Use the host network, for InfiniBand and RoCE without a device plugin. NetworkPolicies do not apply to such pods,
    /// and two pods of a run never share a node.
    pub host_network: bool,
    /// An extended resource for RDMA, such as rdma/hca; each pod requests one. For more than one, use resources.extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub rdma_resource: Option<String>,
    /// Add the capability IPC_LOCK, which is needed to register memory for RDMA.
    pub ipc_lock: bool,
    /// Environment variables for NCCL and Gloo, such as NCCL_SOCKET_IFNAME.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub env: BTreeMap<String, String>,
}

/// Gang scheduling of the pods of an attempt: all start, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = gang_rules)]
pub struct Gang {
    /// The scheduler.
    pub scheduler: GangScheduler,
    /// Queue of the scheduler. Default: its default queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub queue: Option<String>,
}

/// A scheduler that starts gangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum GangScheduler {
    /// Volcano; schedulerName is volcano by default.
    Volcano,
    /// KAI; schedulerName is kai-scheduler by default.
    Kai,
}

/// A requirement on a node's labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain)]
pub struct NodeTerm {
    /// The label.
    #[schemars(length(max = 317))]
    pub key: String,
    /// How its value is compared.
    pub operator: Operator,
    /// The values it is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum Operator {
    /// Its value is one of these.
    In,
    /// Its value is none of these.
    NotIn,
    /// The label exists.
    Exists,
    /// The label does not exist.
    DoesNotExist,
    /// Its value is greater than the one given.
    Gt,
    /// Its value is less than the one given.
    Lt,
}

/// A taint that pods tolerate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain)]
pub struct Toleration {
    /// The taint's key; empty with operator Exists tolerates all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// Exists or Equal. Default: Equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub effect: Option<String>,
    /// For NoExecute: how long, in seconds. Default: forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// User and groups of the pods: never root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = security_rules)]
pub struct SecurityContext {
    /// User ID.
    pub run_as_user: u32,
    /// Primary group ID.
    pub run_as_group: u32,
    /// Group ID that owns the volumes.
    pub fs_group: u32,
}

impl Default for SecurityContext {
    fn default() -> Self {
        Self { run_as_user: 65532, run_as_group: 65532, fs_group: 65532 }
    }
}

const GPU: &str = "nvidia.com/gpu";
const RESOURCE: &str = "self.matches('^[a-z0-9.-]+/[A-Za-z0-9_.-]+$')";
const RESOURCE_TEXT: &str = "must be the name of an extended resource such as rdma/hca";
const ID: &str = "self >= 1 && self <= 2147483647";
const ID_TEXT: &str = "must be between 1 and 2147483647";

const WORKERS: &[Rule] = &[
    Rule::on("nodes", "self >= 1 && self <= 1024", "must be between 1 and 1024"),
    Rule::on("gpusPerNode", "self >= 0 && self <= 64", "must be between 0 and 64"),
    Rule::on("gpuResource", RESOURCE, RESOURCE_TEXT),
    Rule::on("procsPerNode", "self >= 1 && self <= 256", "must be between 1 and 256"),
    Rule::on("threadsPerRank", "self >= 1 && self <= 1024", "must be between 1 and 1024"),
    Rule::on("shmSize", QUANTITY, QUANTITY_TEXT),
    Rule::across(
        ".procsPerNode",
        "!has(self.procsPerNode) || !has(self.gpusPerNode) || self.gpusPerNode == 0 \
            || self.procsPerNode == self.gpusPerNode",
        "'must be gpusPerNode (%s) or left out, not %s'.format([self.gpusPerNode, self.procsPerNode])",
    ),
];

const RESOURCES: &[Rule] = &[
    Rule::on("cpu", QUANTITY, QUANTITY_TEXT),
    Rule::on("memory", QUANTITY, QUANTITY_TEXT),
    Rule::on("ephemeralStorage", QUANTITY, QUANTITY_TEXT),
    Rule::across(
        ".extended",
        "!has(self.extended) || self.extended.all(name, \
            name.matches('^([a-z0-9.-]+/[A-Za-z0-9_.-]+|hugepages-[0-9]+[KMG]i)$') \
            && self.extended[name].matches('^[0-9]{1,15}(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$'))",
        "'must be names of extended resources or hugepages with quantities, such as {rdma/hca: \"8\"}'",
    ),
];

const CLAIM: &[Rule] = &[
    Rule::on("name", "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "must be lower-case letters, digits and -"),
    Rule::on("resourceClaimTemplateName", NAME, NAME_TEXT),
    Rule::on("resourceClaimName", NAME, NAME_TEXT),
    Rule::needs(
        ".resourceClaimTemplateName",
        "has(self.resourceClaimTemplateName) != has(self.resourceClaimName)",
        "give either resourceClaimTemplateName or resourceClaimName",
    ),
];

const GANG: &[Rule] = &[Rule::on("queue", LABEL, LABEL_TEXT)];

const NETWORK: &[Rule] = &[Rule::on("rdmaResource", RESOURCE, RESOURCE_TEXT)];

const SECURITY: &[Rule] =
    &[Rule::on("runAsUser", ID, ID_TEXT), Rule::on("runAsGroup", ID, ID_TEXT), Rule::on("fsGroup", ID, ID_TEXT)];

fn rules(schema: &mut schemars::Schema) {
    attach(schema, WORKERS);
}

fn resource_rules(schema: &mut schemars::Schema) {
    attach(schema, RESOURCES);
}

fn network_rules(schema: &mut schemars::Schema) {
    attach(schema, NETWORK);
}

fn claim_rules(schema: &mut schemars::Schema) {
    attach(schema, CLAIM);
}

fn gang_rules(schema: &mut schemars::Schema) {
    attach(schema, GANG);
}

fn security_rules(schema: &mut schemars::Schema) {
    attach(schema, SECURITY);
}
