//! The CUDA half, compiled, linked and loaded on a machine that has no NVIDIA driver.
//!
//! `TCH_EXT_TEST_CUDA` names a libtorch with CUDA; `cargo xtask test` downloads one and sets it. Its `libtorch_cpu.so` is
//! the same file as that of the libtorch for CPUs, with which these tests are linked.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tch_ext::CudaState;
use tch_ext::cuda::Missing;

#[path = "../build/cuda_shim.rs"]
mod cuda_shim;

/// The libtorch with CUDA; without one the tests report that they are skipped.
fn libtorch() -> Option<PathBuf> {
    let found = std::env::var_os("TCH_EXT_TEST_CUDA").map(PathBuf::from);
    if found.is_none() {
        println!(
            "skipped: TCH_EXT_TEST_CUDA names no libtorch with CUDA; `cargo xtask test --test cuda` downloads one"
        );
    }
    found
}

/// Builds the shim once, into `folder`.
fn build(libtorch: &Path, folder: &Path) -> Result<PathBuf, String> {
    let mut build = cc::Build::new();
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    build.target(&platform).host(&platform).out_dir(folder);
    let shim = folder.join(cuda_shim::NAME);
    let csrc = Path::new(env!("CARGO_MANIFEST_DIR")).join("csrc");
    cuda_shim::build(build, &csrc, libtorch, &shim).map_err(|e| e.to_string())?;
    Ok(shim)
}

fn shim(libtorch: &Path) -> PathBuf {
    static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = SHIM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-shim");
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        build(libtorch, &folder)
    });
    built.clone().unwrap()
}

/// In a process of its own, since libraries are never unloaded.
const CHILD: &str = "TCH_EXT_TEST_CUDA_CHILD";

fn in_child(test: &str, libtorch: &Path, shim: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("TCH_EXT_CUDA_DIR", libtorch.join("lib"))
        .env("TCH_EXT_CUDA_SHIM", shim)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}

#[test]
fn cuda_libraries_without_a_driver_load_and_find_no_device() {
    const NAME: &str = "cuda_libraries_without_a_driver_load_and_find_no_device";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(tch_ext::cuda::load_cuda_libraries(), Ok(None), "libtorch_cuda and the shim load");
        let versions = tch_ext::cuda::versions().unwrap();
        println!("{versions:?}");
        assert_eq!(versions.runtime / 1000, 13, "CUDA 13");
        assert!(versions.nccl > 22_800, "{versions:?}");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for library in ["libtorch_cuda.so", "libnccl.so.2", "libcudnn.so.9", cuda_shim::NAME] {
            assert!(maps.contains(library), "{library} is not mapped");
        }
        assert_eq!(tch::Cuda::device_count(), 0);
        return;
    }
    let Some(libtorch) = libtorch() else { return };
    in_child(NAME, &libtorch, &shim(&libtorch));
}

#[test]
fn cuda_state_without_a_driver_names_the_driver() {
    const NAME: &str = "cuda_state_without_a_driver_names_the_driver";
    if std::env::var_os(CHILD).is_some() {
        let CudaState::Unavailable { missing, reason } = tch_ext::load_cuda() else { panic!("there is no driver") };
        assert_eq!(missing, Missing::Driver);
        assert!(reason.contains("no NVIDIA driver") && reason.contains("libcuda.so.1"), "{reason}");
        return;
    }
    let Some(libtorch) = libtorch() else { return };
    if Path::new("/proc/driver/nvidia/version").exists() {
        println!("skipped: this machine has an NVIDIA driver");
        return;
    }
    in_child(NAME, &libtorch, &shim(&libtorch));
}

#[test]
fn missing_cuda_headers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("torch/lib")).unwrap();
    let error = build(&folder.path().join("torch"), folder.path()).unwrap_err();
    assert!(error.contains("cuda_runtime.h") && error.contains("TCH_EXT_CUDA_INCLUDE"), "{error}");
}
