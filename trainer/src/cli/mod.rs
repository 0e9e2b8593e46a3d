//! The `simsiam` command line.

mod bar;
mod bench_step;
mod convert;
mod data;
mod embed;
mod export;
mod file;
mod fixture_step;
mod knn;
mod report;
mod run;
mod weights;
mod worker;

pub use worker::{Patience, default_threads};

use simsiam_recipe::Stage;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, ExitCode};

/// SimSiam pre-training of image backbones, from a laptop to a GPU cluster.
///
/// Write a run as YAML (see examples/), check it with `simsiam validate -f run.yaml`, and start it with
/// `simsiam run -f run.yaml`. The same file goes to a cluster by `kubectl apply -f run.yaml`.
#[derive(Parser)]
#[command(name = "simsiam", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 64 bad usage; 65 bad data; 75 temporary, try again; 78 bad configuration;
85 stopped by SIGTERM after a checkpoint; 86 diverged or collapsed.";

#[derive(Subcommand)]
enum Command {
    /// Run the whole file on this machine: every stage, with live progress and a table of results
    Run(run::Args),
    /// Check a run file and show what it resolves to
    Validate(file::FileArgs),
    /// Run one stage on this node of a multi-node job, a rank process a GPU
    Worker(worker::Args),
    /// Judge a run's latest checkpoint by kNN, beside the untrained encoder
    Knn(knn::Args),
    /// Judge a run's latest checkpoint by a linear classifier (the stage alone)
    Linear(run::JudgeArgs),
    /// Train a run's latest checkpoint on with labels (the stage alone)
    Finetune(run::JudgeArgs),
    /// Write a run's features as a Parquet file
    Embed(embed::Args),
    /// Write a run's latest weights for torchvision, timm, Detectron2 and others
    Export(export::Args),
    /// Turn one kind of weights file into another
    Convert(convert::Args),
    /// Write a page about a run: curves, views, nearest neighbours, a projection of the features
    Report(report::Args),
    /// Make data sets
    #[command(subcommand)]
    Data(data::Command),
    /// One rank process (started by `simsiam worker` and `simsiam run`)
    #[command(hide = true)]
    Rank(worker::RankArgs),
    /// Time optimiser steps on random images
    #[command(hide = true)]
    BenchStep(bench_step::Args),
    /// Repeat the training steps of a parity fixture
    #[command(hide = true)]
    FixtureStep(fixture_step::Args),
}

/// Runs the command line and gives the process's exit code. Errors go to standard error, one line each.
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
    // What c10d says of lost peers arrives as errors, too; its stacks are for whoever looks for defects.
    if !std::env::var("SIMSIAM_LOG").is_ok_and(|asked| asked.contains("debug") || asked.contains("trace")) {
        tch_ext::set_log_level(tch_ext::LogLevel::Fatal);
    }
    match execute(cli.command) {
        Ok(()) => ExitCode::Done,
        // A rank's error reaches the user through its agent, once; before it reached the agent it is a line like any other.
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
        Command::Linear(args) => run::judge(&args, Stage::Linear),
        Command::Finetune(args) => run::judge(&args, Stage::Finetune),
        Command::Embed(args) => embed::execute(&args),
        Command::Validate(args) => file::validate(&args),
        Command::Worker(args) => worker::execute(&args),
        Command::Knn(args) => knn::execute(&args),
        Command::Export(args) => export::execute(&args),
        Command::Convert(args) => convert::execute(&args),
        Command::Report(args) => report::execute(&args),
        Command::Data(command) => data::execute(&command),
        Command::Rank(args) => worker::execute_rank(&args),
        Command::BenchStep(args) => bench_step::execute(&args),
        Command::FixtureStep(args) => fixture_step::execute(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
