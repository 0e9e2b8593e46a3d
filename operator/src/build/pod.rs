//! The pods of an attempt: the trainer's agent, without a service account token, not as root, on a read-only root file
//! system.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapKeySelector, Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource,
    HTTPGetAction, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    SeccompProfile, SecretEnvSource, SecretKeySelector, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use simsiam_contract::WorkerCommand;
use simsiam_contract::names::{CACHE_FOLDER, HEALTH_PATH, METRICS_PORT, RENDEZVOUS_PORT, env};
use simsiam_recipe::Stage;

use super::config_map::FILE;
use super::settings::Settings;
use super::shape::Shape;
use super::volumes::{CLAIMS, RUN_FOLDER};
use super::{gang, resources, volumes};
use crate::api::{Attempt, EnvSource, KeyReference, Operator, SecurityContext as SecurityIds, ValidatedRun, Workers};
use crate::names;

/// The part of the grace period that is left to the agent after its ranks have stopped.
const AGENT_SECONDS: u32 = 15;
/// How long a pod is kept on a node that is not ready.
const LOST_NODE_SECONDS: i64 = 30;

/// Istio's label, formerly an annotation, that opts in to or out of a sidecar.
const ISTIO: &str = "sidecar.istio.io/inject";
/// Linkerd's annotation that opts in to or out of a sidecar.
const LINKERD: &str = "linkerd.io/inject";

/// The template of an attempt's pods.
pub fn template(
    run: &ValidatedRun,
    stage: Stage,
    attempt: &Attempt,
    shape: Shape,
    settings: &Settings,
) -> PodTemplateSpec {
    let workers = &run.cluster.workers;
    let host_network = workers.network.host_network;
    let claims = volumes::claims(run);
    let ids = &workers.security_context;
    // The API server writes the defaults into the run, so a default cannot be distinguished from a value that its author wrote.
    let set_ids = !settings.omit_user_ids || *ids != SecurityIds::default();
    let id = |id: u32| set_ids.then(|| i64::from(id));
    let mut annotations = workers.annotations.clone();
    let mut labels = workers.labels.clone();
    // A sidecar would not end with the trainer, and proxies do not carry NCCL's and Gloo's connections.
    if !annotations.contains_key(ISTIO) {
        labels.entry(ISTIO.into()).or_insert_with(|| "false".into());
    }
    annotations.entry(LINKERD.into()).or_insert_with(|| "disabled".into());
    labels.extend(names::labels(run.name()));
    labels.insert(names::STAGE.into(), stage.name().into());
    labels.insert(names::ATTEMPT.into(), attempt.number.to_string());
    let mut metadata = ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };
    gang::mark_pods(&mut metadata, workers);
    PodTemplateSpec {
        metadata: Some(metadata),
        spec: Some(PodSpec {
            restart_policy: Some("Never".into()),
            subdomain: Some(names::service(run.name())),
            termination_grace_period_seconds: Some(i64::from(run.cluster.grace_seconds())),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            service_account_name: workers.service_account_name.clone(),
            runtime_class_name: workers.runtime_class_name.clone(),
            scheduler_name: gang::scheduler(workers),
            priority_class_name: run.cluster.priority_class_name.clone(),
            image_pull_secrets: some(&run.cluster.image_pull_secrets, |reference| LocalObjectReference {
                name: reference.name.clone(),
            }),
            host_network: host_network.then_some(true),
            dns_policy: host_network.then(|| "ClusterFirstWithHostNet".into()),
            node_selector: Some(workers.node_selector.clone()).filter(|map| !map.is_empty()),
            affinity: affinity(run, &attempt.avoid_nodes, host_network),
            tolerations: Some(tolerations(workers)),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: id(ids.run_as_user),
                run_as_group: id(ids.run_as_group),
                fs_group: id(ids.fs_group),
                // Changing the group of every file of a large volume takes minutes.
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            volumes: Some(volumes::volumes(run, &claims)),
            resource_claims: resources::claims(workers, shape),
            containers: vec![container(run, stage, attempt, shape, settings, &claims)],
            ..PodSpec::default()
        }),
    }
}

fn container(
    run: &ValidatedRun,
    stage: Stage,
    attempt: &Attempt,
    shape: Shape,
    settings: &Settings,
    claims: &BTreeSet<String>,
) -> Container {
    let workers = &run.cluster.workers;
    let port = i32::from(METRICS_PORT);
    Container {
        name: names::CONTAINER.into(),
        image: Some(run.cluster.image.clone().unwrap_or_else(|| settings.trainer_image.clone())),
        image_pull_policy: run.cluster.image_pull_policy.map(|policy| format!("{policy:?}")),
        args: Some(command(run, stage, attempt, shape, claims).to_args()),
        env: Some(environment(workers, shape)),
        env_from: some(&secrets(run), |secret| EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: (*secret).to_owned(), optional: Some(false) }),
            ..EnvFromSource::default()
        }),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".into()),
            container_port: port,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        // No liveness probe: the agent's own watchdog knows what its ranks are doing.
        readiness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some(HEALTH_PATH.into()),
                port: IntOrString::String("metrics".into()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(5),
            timeout_seconds: Some(2),
            ..Probe::default()
        }),
        resources: Some(resources::resources(workers, shape)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: workers.network.ipc_lock.then(|| vec!["IPC_LOCK".into()]),
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(volumes::mounts(workers, claims)),
        ..Container::default()
    }
}

/// The Secrets whose keys become environment variables: that of the storage, and the tracker's if it is another. A key
/// in both has the storage's value: of several sources, Kubernetes takes the last.
fn secrets(run: &ValidatedRun) -> Vec<&str> {
    let tracker = run.recipe.track.as_ref().and_then(|track| track.mlflow.credentials_secret.as_deref());
    let output = run.recipe.output.credentials_secret.as_deref();
    tracker.filter(|secret| Some(*secret) != output).into_iter().chain(output).collect()
}

/// The agent's command line.
fn command(
    run: &ValidatedRun,
    stage: Stage,
    attempt: &Attempt,
    shape: Shape,
    claims: &BTreeSet<String>,
) -> WorkerCommand {
    let policy = &run.cluster.restart_policy;
    WorkerCommand {
        file: format!("{RUN_FOLDER}/{FILE}"),
        stage: stage.name().into(),
        attempt: attempt.number,
        nnodes: shape.nodes,
        node_rank: "$(JOB_COMPLETION_INDEX)".into(),
        nproc_per_node: shape.procs,
        master_addr: names::first_pod_address(run.name(), &attempt.job, run.namespace()),
        master_port: RENDEZVOUS_PORT,
        stall_timeout: policy.stall().as_secs(),
        rendezvous_timeout: policy.rendezvous().as_secs(),
        stop_grace: run.cluster.grace_seconds().saturating_sub(AGENT_SECONDS).into(),
        threads_per_rank: run.cluster.workers.threads_per_rank,
        mounts: claims.iter().map(|claim| (claim.clone(), format!("{CLAIMS}/{claim}"))).collect(),
    }
}

fn environment(workers: &Workers, shape: Shape) -> Vec<EnvVar> {
    let literal =
        |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() };
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut variables = vec![
        // Kubernetes appends its own after ours, too late for use in arguments.
        field("JOB_COMPLETION_INDEX", &format!("metadata.annotations['{}']", names::COMPLETION_INDEX)),
        field("NODE_NAME", "spec.nodeName"),
        literal("HOME", "/tmp"),
        literal("CUDA_CACHE_PATH", &format!("{CACHE_FOLDER}/cuda")),
    ];
    if shape.gpus > 0 {
        variables.push(literal(env::GPUS, &shape.gpus.to_string()));
    }
    if !resources::requests_devices(workers, shape) {
        // Without it, a node whose default runtime is NVIDIA's would show a pod all of its GPUs. With devices it would
        // replace the variable by which their plugin shows them.
        variables.push(literal("NVIDIA_VISIBLE_DEVICES", "void"));
    }
    variables.extend(workers.network.env.iter().map(|(name, value)| literal(name, value)));
    variables.extend(workers.ca_bundle.as_ref().map(|_| literal("SSL_CERT_FILE", volumes::CA_FILE)));
    variables.extend(workers.env.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        value: variable.value.clone(),
        value_from: variable.value_from.as_ref().map(source),
    }));
    variables
}

fn source(source: &EnvSource) -> EnvVarSource {
    let optional = |reference: &KeyReference| reference.optional.then_some(true);
    EnvVarSource {
        secret_key_ref: source.secret_key_ref.as_ref().map(|reference| SecretKeySelector {
            name: reference.name.clone(),
            key: reference.key.clone(),
            optional: optional(reference),
        }),
        config_map_key_ref: source.config_map_key_ref.as_ref().map(|reference| ConfigMapKeySelector {
            name: reference.name.clone(),
            key: reference.key.clone(),
            optional: optional(reference),
        }),
        field_ref: source
            .field_ref
            .as_ref()
            .map(|reference| ObjectFieldSelector { field_path: reference.field_path.clone(), api_version: None }),
        ..EnvVarSource::default()
    }
}

fn affinity(run: &ValidatedRun, avoid_nodes: &[String], host_network: bool) -> Option<Affinity> {
    let terms = &run.cluster.workers.node_affinity;
    let node = (!terms.is_empty() || !avoid_nodes.is_empty()).then(|| NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: some(terms, |term| NodeSelectorRequirement {
                    key: term.key.clone(),
                    operator: operator(term.operator).to_owned(),
                    values: Some(term.values.clone()).filter(|values| !values.is_empty()),
                }),
                // By name: the label kubernetes.io/hostname may be another. A requirement takes one name only.
                match_fields: some(avoid_nodes, |name| NodeSelectorRequirement {
                    key: "metadata.name".into(),
                    operator: operator(Operator::NotIn).to_owned(),
                    values: Some(vec![name.clone()]),
                }),
            }],
        }),
        ..NodeAffinity::default()
    });
    // On the host network two pods of one node would use the same ports.
    let apart = host_network.then(|| PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
            label_selector: Some(LabelSelector {
                match_labels: Some(names::pod_selector(run.name())),
                match_expressions: None,
            }),
            topology_key: "kubernetes.io/hostname".into(),
            ..PodAffinityTerm::default()
        }]),
        ..PodAntiAffinity::default()
    });
    (node.is_some() || apart.is_some()).then_some(Affinity {
        node_affinity: node,
        pod_anti_affinity: apart,
        pod_affinity: None,
    })
}

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::In => "In",
        Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::Gt => "Gt",
        Operator::Lt => "Lt",
    }
}

fn tolerations(workers: &Workers) -> Vec<Toleration> {
    let lost = ["not-ready", "unreachable"].map(|taint| Toleration {
        key: Some(format!("node.kubernetes.io/{taint}")),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(LOST_NODE_SECONDS),
        value: None,
    });
    let asked = workers.tolerations.iter().map(|toleration| Toleration {
        key: toleration.key.clone(),
        operator: toleration.operator.clone(),
        value: toleration.value.clone(),
        effect: toleration.effect.clone(),
        toleration_seconds: toleration.toleration_seconds,
    });
    asked.chain(lost).collect()
}

fn some<A, B>(list: &[A], f: impl Fn(&A) -> B) -> Option<Vec<B>> {
    (!list.is_empty()).then(|| list.iter().map(f).collect())
}
