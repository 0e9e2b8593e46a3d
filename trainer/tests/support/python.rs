//! Pythons for the tests that ask PyTorch or NumPy itself.

use std::path::{Path, PathBuf};
use std::process::Command;

fn works(python: &Path, check: &str) -> bool {
    command(python).args(["-c", check]).output().is_ok_and(|out| out.status.success())
}

/// Without the path to our libtorch, which is not Python's.
fn command(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.env_remove("LD_LIBRARY_PATH").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A Python with torch and torchvision: `SIMSIAM_PYTHON`, or what `cargo xtask bench train` installs. `None`, with one line
/// that says so, where there is none.
pub fn with_torch() -> Option<PathBuf> {
    let own = std::env::var_os("SIMSIAM_PYTHON").filter(|own| !own.is_empty()).map(PathBuf::from);
    let folder = |variable, below| Some(PathBuf::from(std::env::var_os(variable)?).join(below));
    let cache = folder("SIMSIAM_CACHE", "")
        .or_else(|| folder("XDG_CACHE_HOME", "simsiam"))
        .or_else(|| folder("HOME", ".cache/simsiam"));
    let python = own.or_else(|| Some(cache?.join("venv-torch-2.11.0/bin/python")))?;
    if works(&python, "import torch, torchvision") {
        return Some(python);
    }
    eprintln!("SKIPPED: {} has no torch with torchvision; `cargo xtask bench train` installs them", python.display());
    None
}

/// That Python, if it has timm as well.
pub fn with_timm() -> Option<PathBuf> {
    let python = with_torch()?;
    if works(&python, "import timm, safetensors") {
        return Some(python);
    }
    eprintln!("SKIPPED: {0} has no timm; `{0} -m pip install timm` installs it", python.display());
    None
}

/// A Python with this NumPy.
pub fn with_numpy(version: &str) -> Option<PathBuf> {
    let check = format!("import numpy; assert numpy.__version__ == '{version}'");
    installed(&format!("numpy-{version}"), &check, &[&format!("numpy=={version}")])
}

/// A Python with ONNX Runtime, NumPy, Pillow and PyArrow. Tests that run at the same time share it.
pub fn with_onnxruntime() -> Option<PathBuf> {
    static INSTALLED: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    let check = "import onnxruntime, numpy, PIL, pyarrow; assert onnxruntime.__version__ == '1.32.0'";
    // What else ONNX Runtime names as dependencies is not needed to run a graph.
    let packages = ["--no-deps", "onnxruntime==1.32.0", "numpy==2.3.5", "pillow==12.0.0", "pyarrow==22.0.0"];
    INSTALLED.get_or_init(|| installed("onnxruntime-1.32.0", check, &packages)).clone()
}

/// A Python with packages in a virtual environment `name` under `target`, for which `check` succeeds. `None`, with one line
/// that says so, where it can't be had.
fn installed(name: &str, check: &str, packages: &[&str]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin/python");
    let succeeds = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    let there = works(&python, check)
        || succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            && succeeds(command(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))
            && works(&python, check);
    if !there {
        eprintln!("SKIPPED: {name} cannot be installed for this machine's python3");
    }
    there.then_some(python)
}

/// Runs a script of `tests/parity`, which must succeed.
#[track_caller]
pub fn script(python: &Path, name: &str, arguments: &[&std::ffi::OsStr]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(name);
    let out = command(python).arg(path).args(arguments).output();
    let out = out.unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    let text = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "{name} {arguments:?}:\n{}", String::from_utf8_lossy(&text));
}
