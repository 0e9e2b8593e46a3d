//! `simsiam-operator`: its command line, its start and its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use simsiam_operator::api;
use simsiam_operator::build::{Peer, Settings};
use simsiam_operator::controller::{self, Context};
use simsiam_operator::error::Error;
use simsiam_operator::metrics::Metrics;
use simsiam_operator::progress::Reports;
use simsiam_operator::serve::{Health, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Reconciles SimSiamRun resources into multi-node training pods.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The image of runs whose spec names none
    #[arg(long, env = "TRAINER_IMAGE", default_value = concat!("simsiam-trainer:", env!("CARGO_PKG_VERSION")))]
    trainer_image: String,
    /// The one namespace whose runs are reconciled [default: all]
    #[arg(long, env = "WATCH_NAMESPACE")]
    namespace: Option<String>,
    /// The namespace of the operator itself: its lease lies there, and pods let it ask for their progress
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pod_namespace: String,
    /// Name of this replica
    #[arg(long, env = "POD_NAME", default_value = "simsiam-operator")]
    pod_name: String,
    /// Labels of the operator's pods, for the NetworkPolicies of runs
    #[arg(long, env = "POD_LABELS", value_name = "KEY=VALUE,…", value_parser = labels, default_value = "app.kubernetes.io/name=simsiam-operator")]
    pod_labels: Labels,
    /// Namespace of the Prometheus that scrapes the pods of runs; any where only labels are given
    #[arg(long, env = "PROMETHEUS_NAMESPACE")]
    prometheus_namespace: Option<String>,
    /// Labels of the pods of that Prometheus
    #[arg(long, env = "PROMETHEUS_LABELS", value_name = "KEY=VALUE,…", value_parser = labels)]
    prometheus_labels: Option<Labels>,
    /// Reconcile only while this replica holds the lease of leader election
    #[arg(long, env = "LEADER_ELECTION", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_election: bool,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// How logs are written
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Ask this address for every run's progress, in the place of its pods; for measuring
    #[arg(long, hide = true)]
    progress_stub: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the definition of the custom resource
    Crd {
        /// As the template of its chart
        #[arg(long)]
        template: bool,
        /// As a page of every field
        #[arg(long, conflicts_with = "template")]
        reference: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
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

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Crd { template, reference }) = cli.command {
        let text = match (template, reference) {
            (true, _) => api::crd_template(),
            (_, true) => api::reference(),
            _ => api::crd_yaml(),
        };
        return match text {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("error: {e}");
                ExitCode::FAILURE
            }
        };
    }
    log(cli.log_format);
    match operate(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = error.reason(), "{error}");
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_runtime=warn"));
    let logger = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => logger.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => logger.init(),
    }
}

async fn operate(cli: Cli) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new().map_err(|e| Error::Internal(e.to_string()))?);
    let ready = Arc::new(AtomicBool::new(false));
    let address = serve(cli.listen, Health { metrics: metrics.clone(), ready: ready.clone() }).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "the operator starts");
    let client = Client::try_default().await.map_err(|e| Error::Configuration(e.to_string()))?;
    let mut stop = stop_signal()?;
    let settings = Settings {
        trainer_image: cli.trainer_image,
        namespace: cli.pod_namespace.clone(),
        operator_labels: cli.pod_labels,
        prometheus: match (cli.prometheus_namespace, cli.prometheus_labels) {
            (None, None) => None,
            (namespace, labels) => Some(Peer { namespace, labels: labels.unwrap_or_default() }),
        },
    };
    let reports = Reports::default().with_stub(cli.progress_stub.as_deref());
    let context = Arc::new(Context::new(client.clone(), settings, reports, metrics.clone()));
    let namespace = cli.namespace.filter(|name| !name.is_empty());
    let lease = if cli.leader_election {
        // A replica that waits for its turn is as ready as it can be.
        ready.store(true, Ordering::Relaxed);
        let failed = |e: kube_lease_manager::LeaseManagerError| Error::Lease(e.to_string(), cli.pod_namespace.clone());
        let manager = LeaseManagerBuilder::new(client, "simsiam-operator")
            .with_namespace(&cli.pod_namespace)
            .with_identity(&cli.pod_name)
            .with_duration(15)
            .with_grace(5)
            .build()
            .await
            .map_err(failed)?;
        let (mut leads, task) = manager.watch().await;
        tracing::info!("waiting for the lease");
        loop {
            tokio::select! {
                _ = stop.changed() => {
                    drop(leads);
                    let _ = task.await;
                    return Ok(());
                }
                changed = leads.changed() => {
                    if changed.is_err() {
                        return Err(Error::Lease("the lease's task ended".into(), cli.pod_namespace));
                    }
                    if *leads.borrow_and_update() {
                        break;
                    }
                }
            }
        }
        tracing::info!("this replica leads");
        Some((leads, task))
    } else {
        None
    };
    metrics.lead(true);
    let watched = context.clone();
    let flag = ready.clone();
    tokio::spawn(async move {
        while !watched.is_ready() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        flag.store(true, Ordering::Relaxed);
    });
    let (lost, mut is_lost) = watch::channel(false);
    let task = lease.map(|(mut leads, task)| {
        let mut stop = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = stop.changed() => break,
                    changed = leads.changed() => if changed.is_err() || !*leads.borrow_and_update() {
                        let _ = lost.send(true);
                        break;
                    }
                }
            }
            (leads, task)
        })
    });
    let has_lease = task.is_some();
    let ended = async move {
        tokio::select! {
            _ = stop.changed() => tracing::info!("SIGTERM: finishing what is under way"),
            _ = is_lost.changed(), if has_lease => tracing::error!("the lease was lost"),
        }
    };
    controller::run(context, namespace.as_deref(), ended).await;
    metrics.lead(false);
    if let Some(task) = task
        && let Ok((leads, manager)) = task.await
    {
        // Hands the lease on, so that another replica need not wait for its end.
        drop(leads);
        let _ = tokio::time::timeout(Duration::from_secs(5), manager).await;
    }
    tracing::info!("the operator has stopped");
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let handler = |kind| signal(kind).map_err(|e| Error::Internal(format!("a signal handler: {e}")));
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sender.send(true);
        sender.closed().await;
    });
    Ok(receiver)
}
