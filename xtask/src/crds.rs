//! `cargo xtask crds`: generates the CRD in `crds/` and in its chart, and `docs/reference.md`, from the Rust types.

use std::fs;

use crate::error::{Error, Result};
use crate::process::{cargo, output, repo};

/// Each file and the operator's arguments that print it.
const FILES: [(&str, &[&str]); 3] = [
    ("crds/simsiamruns.simsiam.dev.yaml", &["crd"]),
    ("charts/simsiam-crds/templates/simsiamruns.simsiam.dev.yaml", &["crd", "--template"]),
    ("docs/reference.md", &["crd", "--reference"]),
];

/// Writes the files atomically.
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
