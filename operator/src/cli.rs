//! The command line of `simsiam-operator`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::{Parser, Subcommand, ValueEnum};
use simsiam_operator::build::{Peer, Settings};

/// Runs SimSiamRun resources as multi-node training pods.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Trainer image of runs that do not set spec.image
    #[arg(long, env = "TRAINER_IMAGE", default_value = concat!("simsiam-trainer:", env!("CARGO_PKG_VERSION")))]
    pub trainer_image: String,
    /// Reconcile only runs in this namespace [default: all namespaces]
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub namespace: Option<String>,
    /// Namespace of the operator: its lease is created there, and runs accept progress requests from there
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,
    /// Name of this replica
    #[arg(long, env = "POD_NAME", default_value = "simsiam-operator")]
    pub pod_name: String,
    /// Labels of the operator's pods, for the NetworkPolicies of runs
    #[arg(long, env = "POD_LABELS", value_name = "KEY=VALUE,…", value_parser = labels, default_value = "app.kubernetes.io/name=simsiam-operator")]
    pub pod_labels: Labels,
    /// Namespace of the Prometheus that scrapes the pods of runs [default: any, if --prometheus-labels is given]
    #[arg(long, env = "PROMETHEUS_NAMESPACE")]
    pub prometheus_namespace: Option<String>,
    /// Labels of that Prometheus' pods
    #[arg(long, env = "PROMETHEUS_LABELS", value_name = "KEY=VALUE,…", value_parser = labels)]
    pub prometheus_labels: Option<Labels>,
    /// Reconcile only while this replica holds the leader election lease
    #[arg(long, env = "LEADER_ELECTION", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_election: bool,
    /// Leave the user and group IDs of pods to the cluster, as OpenShift requires, unless a run sets them
    #[arg(long, env = "OMIT_USER_IDS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub omit_user_ids: bool,
    /// Address that serves /healthz, /readyz and /metrics; [::] also accepts IPv4
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Log format
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Request every run's progress from this address instead of from its pods (for benchmarks)
    #[arg(long, hide = true)]
    pub progress_stub: Option<String>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Print the definition of the custom resource
    Crd {
        /// Print it as the template of its Helm chart
        #[arg(long)]
        template: bool,
        /// Print a reference page of all fields
        #[arg(long, conflicts_with = "template")]
        reference: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

type Labels = BTreeMap<String, String>;

fn labels(text: &str) -> Result<Labels, String> {
    let pair = |text: &str| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{text}: expected KEY=VALUE")),
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

impl Cli {
    /// The settings that show in the objects of runs.
    pub fn settings(&self) -> Settings {
        let prometheus = match (&self.prometheus_namespace, &self.prometheus_labels) {
            (None, None) => None,
            (namespace, labels) => {
                Some(Peer { namespace: namespace.clone(), labels: labels.clone().unwrap_or_default() })
            }
        };
        Settings {
            trainer_image: self.trainer_image.clone(),
            namespace: self.pod_namespace.clone(),
            operator_labels: self.pod_labels.clone(),
            omit_user_ids: self.omit_user_ids,
            prometheus,
        }
    }
}
