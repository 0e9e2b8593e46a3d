//! Set-up and every developer command of this repository: `cargo xtask --help`.

mod bench;
mod build;
mod cluster;
mod counts;
mod crds;
mod download;
mod error;
mod gpu_bundle;
mod images;
mod libtorch;
mod mlflow;
mod pins;
mod process;
mod quickstart;
mod setup;
mod system;
mod table;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pins::Flavour;

/// Set-up and developer commands. Start with `cargo xtask quickstart`, which trains a small encoder; `cargo xtask test`
/// runs all checks.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what a plain `cargo build` needs: system packages and libtorch
    Setup {
        /// Install the full libtorch with CUDA (a 2.5 GB download) and the headers for the CUDA shim
        #[arg(long)]
        cuda: bool,
    },
    /// Set up, build, generate a small data set, train on it and show the result
    Quickstart,
    /// Run formatting, lints, licence and documentation checks and all tests; or only the tests of a name
    Test(test::Options),
    /// Benchmark training and data loading against PyTorch and torchvision, and the operator with many runs
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Generate the CRD (crds/ and its chart) and docs/reference.md
    Crds,
    /// Manage a real Kubernetes cluster for tests on this machine
    Cluster {
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Build container images of operator and trainer as archives in target/images, without Docker
    Images(images::Options),
    /// Pack the check for a GPU machine into dist/gpu-bundle (that machine needs neither Rust nor a network)
    GpuBundle(gpu_bundle::Options),
}

#[derive(Subcommand)]
enum Bench {
    /// Measure images per second and memory of a training step on the CPU, ours and eager PyTorch's
    Train(bench::train::Options),
    /// Measure images per second of the two-view input pipeline on one and two cores, ours and torchvision's
    Data(bench::data::Options),
    /// Measure latency, requests and memory of the operator with many runs on a real API server
    Operator(bench::operator::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup { cuda } => setup::setup(if cuda { Flavour::Cuda } else { Flavour::Cpu }),
        Command::Quickstart => quickstart::quickstart(),
        Command::Test(options) => test::test(&options),
        Command::Bench { what: Bench::Train(options) } => bench::train::train(&options),
        Command::Bench { what: Bench::Data(options) } => bench::data::data(&options),
        Command::Bench { what: Bench::Operator(options) } => bench::operator::operator(&options),
        Command::Crds => crds::crds(),
        Command::Cluster { action } => cluster::cluster(action),
        Command::Images(options) => images::images(&options),
        Command::GpuBundle(options) => gpu_bundle::bundle(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
