//! The `simsiam` command line.

mod advise;
mod bar;
mod bench_step;
mod convert;
mod data;
mod doctor;
mod embed;
mod export;
mod file;
mod fixture_step;
mod knn;
mod report;
mod run;
mod stage;
mod track;
mod weights;
mod worker;

use clap::{Parser, Subcommand};
use simsiam_recipe::Stage;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, ExitCode};

/// SimSiam pre-training of image backbones, from a laptop to a GPU cluster.
///
/// Write a run as YAML (see examples/), check it with `simsiam validate -f run.yaml`, and start it with
/// `simsiam run -f run.yaml`. The same file runs on a cluster with `kubectl apply -f run.yaml`.
#[derive(Parser)]
#[command(name = "simsiam", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 64 bad usage; 65 bad data; 75 temporary failure, try again;
78 bad configuration; 85 stopped by SIGTERM after writing a checkpoint; 86 diverged or collapsed.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run every stage of a run on this machine, with live progress and a table of results
    Run(run::Args),
    /// Check a run file and print what it resolves to
    Validate(file::FileArgs),
    /// Look at the images and this machine, and propose batch size, crops, epochs and other fields
    Advise(advise::Args),
    /// Run one stage on this node of a multi-node job, with one rank per GPU
    Worker(worker::Args),
    /// Evaluate the latest checkpoint with kNN, and the untrained encoder for comparison
    Knn(knn::Args),
    /// Evaluate the latest checkpoint with a linear classifier (only that stage)
    Linear(run::ClassifierArgs),
    /// Fine-tune the latest checkpoint with labels (only that stage)
    Finetune(run::ClassifierArgs),
    /// Write the features of a run's images to a Parquet file
    Embed(embed::Args),
    /// Export the latest checkpoint for torchvision, timm, Detectron2 and others
    Export(export::Args),
    /// Convert a weights file to another format
    Convert(convert::Args),
    /// Write an HTML report of a run: curves, augmented views, nearest neighbours, a projection of the features
    Report(report::Args),
    /// Send what a run measured to its MLflow server, as far as that has not received it
    Track(file::FileArgs),
    /// Create, pack and inspect data sets
    #[command(subcommand)]
    Data(data::Command),
    /// Check this machine for a run: GPUs, libraries, CPU, disk, storage, other nodes
    Doctor(doctor::Args),
    /// Run one rank (started by `simsiam worker` and `simsiam run`)
    #[command(hide = true)]
    Rank(worker::RankArgs),
    /// Time optimiser steps on random images
    #[command(hide = true)]
    BenchStep(bench_step::Args),
    /// Repeat the training steps of a parity fixture
    #[command(hide = true)]
    FixtureStep(fixture_step::Args),
}

/// Runs the command line and returns the exit code. Errors go to standard error, one line each.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
        }
    };
    let filter = EnvFilter::try_from_env("SIMSIAM_LOG").unwrap_or_else(|_| EnvFilter::new("simsiam=info,warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    // c10d also reports lost peers as errors, which are shown; its stack traces are for debugging.
    if !std::env::var("SIMSIAM_LOG").is_ok_and(|asked| asked.contains("debug") || asked.contains("trace")) {
        tch_ext::set_log_level(tch_ext::LogLevel::Fatal);
    }
    match execute(cli.command) {
        Ok(()) => ExitCode::Done,
        // The agent reports a rank's error to the user, once.
        Err(Error::AlreadyReported(code)) => code,
        Err(e) => {
            eprintln!("simsiam: {e}");
            e.exit_code()
        }
    }
}

fn execute(command: Command) -> Result<(), Error> {
    match command {
        Command::Run(args) => run::execute(&args),
        Command::Linear(args) => run::execute_stage(&args, Stage::Linear),
        Command::Finetune(args) => run::execute_stage(&args, Stage::Finetune),
        Command::Embed(args) => embed::execute(&args),
        Command::Validate(args) => file::validate(&args),
        Command::Advise(args) => advise::execute(&args),
        Command::Worker(args) => worker::execute(&args),
        Command::Knn(args) => knn::execute(&args),
        Command::Export(args) => export::execute(&args),
        Command::Convert(args) => convert::execute(&args),
        Command::Report(args) => report::execute(&args),
        Command::Track(args) => track::execute(&args),
        Command::Data(command) => data::execute(&command),
        Command::Doctor(args) => doctor::execute(&args),
        Command::Rank(args) => worker::execute_rank(&args),
        Command::BenchStep(args) => bench_step::execute(&args),
        Command::FixtureStep(args) => fixture_step::execute(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_passes_claps_own_checks() {
        super::Cli::command().debug_assert();
    }
}
