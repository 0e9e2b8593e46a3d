//! The Python environment of the PyTorch baselines.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::download::PYTHON;
use crate::error::{Error, Result};
use crate::pins::LIBTORCH_VERSION;
use crate::process::{output, succeeds};

const TORCHVISION_VERSION: &str = "0.26.0";

/// Returns a Python with torch and torchvision: `SIMSIAM_PYTHON`, or a virtual environment in the cache.
///
/// # Errors
/// If it can't be installed; the error says what to do.
pub(super) fn with_torch() -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("SIMSIAM_PYTHON").filter(|value| !value.is_empty()) {
        let own = PathBuf::from(own);
        return if has_torch(&own) {
            Ok(own)
        } else {
            Err(Error::Refused(format!(
                "SIMSIAM_PYTHON={} has no torch {LIBTORCH_VERSION} with torchvision; install them there, or unset it",
                own.display()
            )))
        };
    }
    let root = simsiam_cache::root()?;
    let venv = root.join(format!("venv-torch-{LIBTORCH_VERSION}"));
    let python = venv.join("bin/python");
    if has_torch(&python) {
        return Ok(python);
    }
    eprintln!("Installing PyTorch {LIBTORCH_VERSION} into {} (2.5 GB to download, once)", venv.display());
    std::fs::create_dir_all(&root).map_err(Error::io("create", &root))?;
    if !succeeds(Command::new(PYTHON).args(["-m", "venv", "--help"])) {
        return Err(Error::Refused("python3 has no venv module: apt-get install python3-venv".into()));
    }
    // To standard error, because standard output may be JSON.
    eprint!("{}", output(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&venv))?);
    let packages =
        [format!("torch=={LIBTORCH_VERSION}"), format!("torchvision=={TORCHVISION_VERSION}"), "numpy".into()];
    eprint!("{}", output(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?);
    Ok(python)
}

fn has_torch(python: &Path) -> bool {
    let check = format!("import torch, torchvision; assert torch.__version__.split('+')[0] == '{LIBTORCH_VERSION}'");
    python.is_file() && succeeds(Command::new(python).args(["-c", &check]).env_remove("LD_LIBRARY_PATH"))
}
