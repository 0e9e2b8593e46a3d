//! `cargo xtask crds`: the definition of the resource, from the Rust types into `crds/`, the chart that
//! installs it and the page of its fields.

use std::fs;

use crate::error::{Error, Result};
use crate::process::{cargo, output, repo};

/// A file, and how the operator is asked for it.
const FILES: [(&str, &[&str]); 3] = [
    ("crds/simsiamruns.simsiam.dev.yaml", &["crd"]),
    ("charts/simsiam-crds/templates/simsiamruns.simsiam.dev.yaml", &["crd", "--template"]),
    ("docs/reference.md", &["crd", "--reference"]),
];

/// Writes the files, each in one step.
///
/// # Errors
/// If the operator doesn't build or a file can't be written.
pub fn crds() -> Result<()> {
    for (file, arguments) in FILES {
        let mut operator = cargo();
        operator.args(["run", "--quiet", "-p", "simsiam-operator", "--bin", "simsiam-operator", "--"]).args(arguments);
        let text = output(&mut operator)?;
        let path = repo().join(file);
        let new = path.with_extension("new");
        fs::write(&new, &text).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("write", &path))?;
        println!("{file}: {} kB", text.len() / 1000);
    }
    Ok(())
}
