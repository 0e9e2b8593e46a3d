//! `cargo xtask crds`: the definition of the resource, from the Rust types into `crds/`.

use std::fs;

use crate::error::{Error, Result};
use crate::process::{cargo, output, repo};

const FILE: &str = "crds/simsiamruns.simsiam.dev.yaml";

/// Writes the file, in one step.
///
/// # Errors
/// If the operator doesn't build or the file can't be written.
pub fn crds() -> Result<()> {
    let text =
        output(cargo().args(["run", "--quiet", "-p", "simsiam-operator", "--bin", "simsiam-operator", "--", "crd"]))?;
    let path = repo().join(FILE);
    let new = path.with_extension("yaml.new");
    fs::write(&new, &text).map_err(Error::io("write", &new))?;
    fs::rename(&new, &path).map_err(Error::io("write", &path))?;
    println!("{FILE}: {} kB", text.len() / 1000);
    Ok(())
}
