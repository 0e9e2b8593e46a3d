//! `cargo xtask bench operator`: duration of reconciliations and memory with many runs.

use std::process::Command;

use simsiam_cluster::Cluster;

use crate::build::{binary, example};
use crate::error::Result;
use crate::process::output;
use crate::system;

/// Size of the benchmark, and its output.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of runs
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Pods per run
    #[arg(long, default_value_t = 8)]
    pods: usize,
    /// Runs created per second; 0 creates them as fast as the API server accepts them
    #[arg(long, default_value_t = 5)]
    rate: u64,
    /// Seconds of steady training that are measured
    #[arg(long, default_value_t = 60)]
    steady: u64,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

/// Starts an API server without nodes, scheduler and controllers, and measures the operator against it.
///
/// # Errors
/// If a program doesn't build or start.
pub fn operator(options: &Options) -> Result<()> {
    system::ensure(system::CLUSTER)?;
    let operator = binary("simsiam-operator", "simsiam-operator", true)?;
    let scale = example("simsiam-operator", "scale")?;
    let cluster = Cluster::up(&simsiam_cluster::Options { nodes: 0, quiet: true, ..Default::default() })?;
    let mut command = Command::new(scale);
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--operator").arg(operator);
    for (name, value) in [
        ("--runs", options.runs.to_string()),
        ("--pods", options.pods.to_string()),
        ("--rate", options.rate.to_string()),
        ("--steady", options.steady.to_string()),
    ] {
        command.args([name, &value]);
    }
    command.args(options.json.then_some("--json"));
    let text = output(&mut command);
    cluster.down()?;
    print!("{}", text?);
    Ok(())
}
