//! `cargo xtask quickstart`: from a fresh clone to a trained encoder, its accuracy, its weights and a report.

use std::time::Instant;

use crate::build::{program, release};
use crate::error::Result;
use crate::pins::Flavour;
use crate::process::{repo, run};
use crate::setup::setup;

const RECIPE: &str = "examples/quickstart.yaml";
const DATA: &str = "runs/quickstart/data";
const OUTPUT: &str = "runs/quickstart/out";

/// Sets up, builds for release, generates a data set and runs `examples/quickstart.yaml`.
///
/// # Errors
/// If one of these steps fails.
pub fn quickstart() -> Result<()> {
    let start = Instant::now();
    setup(Flavour::Cpu)?;
    let built = release(false)?;
    let ready = start.elapsed();
    run(program(&built).args(["data", "synth", DATA]))?;
    run(program(&built).args(["run", "-f", RECIPE, "--nproc", "2"]))?;
    let all = start.elapsed();
    println!(
        "\nSet-up and build took {:.0} s, data and run {:.0} s.",
        ready.as_secs_f64(),
        (all - ready).as_secs_f64()
    );
    let output = repo().join(OUTPUT);
    for (what, name) in [
        ("Report page", "report.html"),
        ("Weights for PyTorch", "export"),
        ("Checkpoints", "checkpoints"),
        ("Results", "result.json"),
    ] {
        println!("{:<34}{}", format!("{what}:"), output.join(name).display());
    }
    println!("To train on your own images, copy {RECIPE}.");
    Ok(())
}
