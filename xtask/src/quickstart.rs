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

/// Set-up, release build, a generated data set, the run of `examples/quickstart.yaml`.
///
/// # Errors
/// If one of them fails.
pub fn quickstart() -> Result<()> {
    let begun = Instant::now();
    setup(Flavour::Cpu)?;
    let built = release(false)?;
    let ready = begun.elapsed();
    run(program(&built).args(["data", "synth", DATA]))?;
    run(program(&built).args(["run", "-f", RECIPE, "--nproc", "2"]))?;
    let all = begun.elapsed();
    println!(
        "\nSet-up and build took {:.0} s, data and run {:.0} s.",
        ready.as_secs_f64(),
        (all - ready).as_secs_f64()
    );
    let output = repo().join(OUTPUT);
    for (what, name) in [
        ("The run as a page, for a browser", "report.html"),
        ("Weights for PyTorch", "export"),
        ("Checkpoints", "checkpoints"),
        ("Results", "result.json"),
    ] {
        println!("{:<34}{}", format!("{what}:"), output.join(name).display());
    }
    println!("The recipe is {RECIPE}; copy it for images of your own.");
    Ok(())
}
