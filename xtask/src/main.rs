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

/// Set-up and developer commands. New here? `cargo xtask quickstart` trains a small encoder, `cargo xtask test` checks
/// everything.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring what a plain `cargo build` needs: system packages and libtorch
    Setup {
        /// The full libtorch with CUDA (about 2.5 GB to download), and the headers for the CUDA shim
        #[arg(long)]
        cuda: bool,
    },
    /// Set up, build, make a small data set, train on it and show the result
    Quickstart,
    /// Formatting, lints, licences, documentation and all tests
    Test(test::Options),
    /// Measure: speed and memory beside PyTorch's and torchvision's, and the operator with many runs
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Write the definition of the custom resource into crds/ and its chart, and the page of its fields into docs/
    Crds,
    /// A real Kubernetes cluster for tests on this machine
    Cluster {
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Container images of operator and trainer as archives in target/images, without Docker
    Images(images::Options),
    /// Pack what a check on a GPU machine needs into dist/gpu-bundle (that machine: no Rust, no network)
    GpuBundle(gpu_bundle::Options),
}

#[derive(Subcommand)]
enum Bench {
    /// Images per second and memory of a training step on the CPU, beside the same model in eager PyTorch
    Train(bench::train::Options),
    /// Images per second of the two-view input pipeline, on one core and two, beside torchvision's
    Data(bench::data::Options),
    /// The operator with many runs against a real API server: latency, requests, memory
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
