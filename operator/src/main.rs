//! `simsiam-operator`: start, leader election and shutdown.

mod cli;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use kube::Client;
use simsiam_operator::api;
use simsiam_operator::controller::{self, Context};
use simsiam_operator::election::wait_for_leadership;
use simsiam_operator::error::Error;
use simsiam_operator::metrics::Metrics;
use simsiam_operator::progress::ProgressPoller;
use simsiam_operator::serve::{Health, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use cli::{Cli, Command, LogFormat};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(command) = &cli.command {
        return print(command);
    }
    init_logging(cli.log_format);
    match operate(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = error.reason(), "{error}");
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(command: &Command) -> ExitCode {
    let text = match command {
        Command::Crd { template: true, .. } => api::crd_template(),
        Command::Crd { reference: true, .. } => api::reference(),
        Command::Crd { .. } => api::crd_yaml(),
    };
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn init_logging(format: LogFormat) {
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
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "starting the operator");
    let client = Client::try_default().await.map_err(|e| Error::Configuration(e.to_string()))?;
    let mut stop = stop_signal()?;
    let poller = ProgressPoller::default().with_stub(cli.progress_stub.as_deref());
    let context = Arc::new(Context::new(client.clone(), cli.settings(), poller, metrics.clone()));
    let leadership = if cli.leader_election {
        // A replica that waits for the lease is ready to take over.
        ready.store(true, Ordering::Relaxed);
        match wait_for_leadership(client, &cli.pod_namespace, &cli.pod_name, &mut stop).await? {
            Some(leadership) => Some(leadership),
            None => return Ok(()),
        }
    } else {
        None
    };
    metrics.set_leader(true);
    tokio::spawn(become_ready(context.clone(), ready));
    let lost = leadership.as_ref().map(|leadership| leadership.lost());
    let has_lease = lost.is_some();
    let ended = async move {
        tokio::select! {
            _ = stop.changed() => tracing::info!("SIGTERM: finishing reconciliations in progress"),
            () = async { if let Some(lost) = lost { lost.await } }, if has_lease => tracing::error!("the lease was lost"),
        }
    };
    let namespace = cli.namespace.filter(|name| !name.is_empty());
    controller::run(context, namespace.as_deref(), ended).await;
    metrics.set_leader(false);
    if let Some(leadership) = leadership {
        leadership.release().await;
    }
    tracing::info!("the operator has stopped");
    Ok(())
}

/// Reports readiness once the caches are complete.
async fn become_ready(context: Arc<Context>, ready: Arc<AtomicBool>) {
    while !context.is_ready() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ready.store(true, Ordering::Relaxed);
}

/// A flag that becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let handler = |kind| signal(kind).map_err(|e| Error::Internal(format!("cannot handle signals: {e}")));
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
