//! The image of the CUDA flavour: its root file system has every library that libtorch with CUDA needs, except those that
//! belong to the host's driver.

#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use simsiam_cluster::images::{Cuda, root_file_system};

/// What NVIDIA's container toolkit mounts from the host's driver.
const DRIVER: &[&str] = &["libcuda.so.1", "libnvidia-ml.so.1"];

/// Loaded by name: by libtorch, by cuDNN, by NVRTC, and by NCCL for InfiniBand and RoCE.
const BY_NAME: &[&str] = &[
    "libtorch_cuda_linalg.so",
    "libcaffe2_nvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc-builtins.so.13.0",
    "libcudnn_adv.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn_graph.so.9",
    "libcudnn_heuristic.so.9",
    "libcudnn_ops.so.9",
    "libibverbs.so.1",
    "libmlx5.so.1",
    "libmlx5-rdmav34.so",
    "libtch_ext_cuda.so",
];

/// The libraries below `root`, by file name.
fn libraries(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && name.contains(".so") {
                found.insert(name, entry.path());
            }
        }
    }
    found
}

/// What libraries need that neither the image nor the driver has, and which of them need it.
fn missing(libraries: &BTreeMap<String, PathBuf>) -> BTreeMap<String, Vec<&str>> {
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, path) in libraries {
        let dynamic = Command::new("readelf").arg("-dW").arg(path).output().unwrap();
        assert!(dynamic.status.success(), "readelf {}", path.display());
        for line in String::from_utf8_lossy(&dynamic.stdout).lines().filter(|line| line.contains("(NEEDED)")) {
            let needed = line.split(['[', ']']).nth(1).unwrap();
            if !libraries.contains_key(needed) && !DRIVER.contains(&needed) {
                missing.entry(needed.to_owned()).or_default().push(name);
            }
        }
    }
    missing
}

/// The libraries of `/bin/ls` stand for the program's, which are the same as in the image for CPUs.
#[test]
fn cuda_image_has_all_libraries_but_the_drivers() {
    let Some(torch) = std::env::var_os("TCH_EXT_TEST_CUDA").map(PathBuf::from) else {
        println!("skipped: TCH_EXT_TEST_CUDA names no libtorch with CUDA; `cargo xtask test cuda` downloads one");
        return;
    };
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target").unwrap();
    let shim = dir.path().join("libtch_ext_cuda.so");
    let cuda = Cuda { shim: shim.clone(), libtorch: torch.parent().unwrap().to_owned(), link: true };
    let root = dir.path().join("root");
    let refused = root_file_system(Path::new("/bin/ls"), Some(&cuda), &root).unwrap_err().to_string();
    assert!(refused.contains("libtch_ext_cuda.so is missing"), "{refused}");
    // A small library that needs others of CUDA takes the shim's place; tch-ext's tests load the shim itself.
    fs::copy(torch.join("lib/libc10_cuda.so"), &shim).unwrap();
    root_file_system(Path::new("/bin/ls"), Some(&cuda), &root).unwrap();

    let mut libraries = libraries(&root);
    assert_eq!(missing(&libraries), BTreeMap::new());
    for name in BY_NAME {
        assert!(libraries.contains_key(*name), "{name} is not in the image");
    }
    for name in ["libcufile_rdma.so.1", "nvshmem_transport_ibgda.so.3", "libnvperf_host.so"] {
        assert!(!libraries.contains_key(name), "{name} needs what the image lacks, or no training uses it");
    }
    assert!(root.join("etc/libibverbs.d/mlx5.driver").is_file());
    let size: u64 = libraries.values().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!((3_000_000_000..3_800_000_000).contains(&size), "{size} bytes");
    libraries.remove("libcusparseLt.so.0");
    assert_eq!(missing(&libraries)["libcusparseLt.so.0"], ["libtorch_cuda.so"], "the check sees what is missing");
}
