//! `cargo xtask gpu-bundle`: packs the check for a GPU machine into one folder.
//!
//! The GPU machine has CUDA and a Python with torch, but neither Rust nor a network. The bundle does not contain libtorch:
//! the check uses the one in that Python's torch.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::build::{SHIM, program, release, shim};
use crate::error::{Error, Result};
use crate::pins::Flavour;
use crate::process::{output, repo, run};
use crate::setup::setup;

const LIMIT: u64 = 60 << 20;
/// Paths in the repository and in the bundle; `tests/gpu/run` relies on the latter.
const FILES: &[(&str, &str)] = &[
    ("tests/gpu/run", "run"),
    ("tests/gpu/checks.py", "checks.py"),
    ("tests/gpu/tensors.py", "tensors.py"),
    ("tests/gpu/train.yaml", "train.yaml"),
    ("tests/gpu/README.md", "README.md"),
    ("tests/parity/model.py", "parity/model.py"),
    ("tests/parity/bench_train.py", "parity/bench_train.py"),
    ("tests/parity/fixtures/basic.inputs.safetensors", "parity/basic.inputs.safetensors"),
    ("tests/parity/fixtures/basic.f32.safetensors", "parity/basic.f32.safetensors"),
];

/// What to pack.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Omit the CUDA shim and its 2.5 GB set-up, to rehearse the check with `run --cpu`
    #[arg(long)]
    cpu: bool,
}

/// Builds and packs.
///
/// # Errors
/// If the shim or the program doesn't build, or the bundle is over its limit of 60 MiB.
pub fn bundle(options: &Options) -> Result<()> {
    setup(if options.cpu { Flavour::Cpu } else { Flavour::Cuda })?;
    let built = release(!options.cpu)?;
    let folder = repo().join("dist/gpu-bundle");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::io("clear", &folder))?;
    }
    for (from, to) in FILES {
        copy(&repo().join(from), &folder.join(to))?;
    }
    strip(&built.program, &folder.join("bin/simsiam"))?;
    if !options.cpu {
        strip(&shim(&built)?, &folder.join("lib").join(SHIM))?;
    }
    let mut synth = program(&built);
    synth.args(["data", "synth"]).arg(folder.join("data"));
    run(synth.args(["--train-per-class", "64", "--val-per-class", "16", "--size", "64"]))?;
    let version = folder.join("VERSION");
    fs::write(&version, describe()).map_err(Error::io("write", &version))?;

    let size = size_of(&folder)?;
    println!("{}: {:.1} MiB", folder.display(), size as f64 / f64::from(1 << 20));
    if size > LIMIT {
        return Err(Error::Refused(format!("the bundle is over {} MiB", LIMIT >> 20)));
    }
    println!("Copy it to the GPU machine and run ./run there. To rehearse it here: dist/gpu-bundle/run --cpu");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    run(Command::new("strip").arg("-o").arg(to).arg(from))
}

fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(Error::io("create", parent)))
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        size +=
            if path.is_dir() { size_of(&path)? } else { fs::metadata(&path).map_err(Error::io("read", &path))?.len() };
    }
    Ok(size)
}

/// Returns the version and, if git is available, the commit.
fn describe() -> String {
    let commit = output(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(repo()));
    format!("simsiam {} {}\n", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_files_exist_in_the_repository() {
        for (from, _) in FILES {
            assert!(repo().join(from).is_file(), "{from}");
        }
    }

    #[test]
    fn bundle_size_includes_subfolders() {
        let dir = tempfile::tempdir().unwrap();
        copy(&repo().join("Cargo.toml"), &dir.path().join("a/b/Cargo.toml")).unwrap();
        let size = fs::metadata(repo().join("Cargo.toml")).unwrap().len();
        assert_eq!(size_of(dir.path()).unwrap(), size);
    }
}
