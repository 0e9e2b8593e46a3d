//! Builds the CUDA half of the shim as a shared library. Used by `build.rs` with `TCH_EXT_CUDA=1`, and by the test that
//! loads the library on a machine without a GPU.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library's file name.
pub const NAME: &str = "libtch_ext_cuda.so";
/// Its sources. `errors.cpp` is in the program too, whose copy is not visible to a library.
pub const SOURCES: &[&str] = &["cuda/nccl.cpp", "cuda/device.cpp", "errors.cpp"];

/// Flags that both halves share: they must match how libtorch itself was compiled.
pub fn base_flags(build: &mut cc::Build, include: &Path) {
    build
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .flag_if_supported("-fvisibility=hidden")
        .flag_if_supported("-Wno-unused-parameter")
        .warnings(false)
        // Debug information of libtorch's templates is hundreds of megabytes; the kernels here are always optimised.
        .debug(false)
        .opt_level(2);
}

/// Compiles the shim with `build` and links it as `out`, leaving no symbol undefined.
///
/// # Errors
/// If a header of CUDA or NCCL is missing, or it does not compile or link.
pub fn build(mut build: cc::Build, csrc: &Path, root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let includes = cuda_includes(root)?;
    base_flags(&mut build, &root.join("include"));
    build.include(csrc.join("gloo_standins")).define("USE_C10D_NCCL", None).pic(true).cargo_metadata(false);
    for dir in &includes {
        build.include(dir);
    }
    for source in SOURCES {
        build.file(csrc.join(source));
    }
    let objects = build.try_compile_intermediates()?;
    let lib = root.join("lib");
    let site = root.parent().ok_or("LIBTORCH has no parent folder")?;
    let mut link = Command::new(build.try_get_compiler()?.path());
    link.arg("-shared").arg("-o").arg(out).args(&objects);
    link.arg(format!("-Wl,-soname,{NAME}")).arg("-Wl,--no-undefined").arg("-Wl,--as-needed");
    for dir in [lib, site.join("nvidia/cu13/lib"), site.join("nvidia/nccl/lib")] {
        link.arg(format!("-L{}", dir.display())).arg(format!("-Wl,-rpath-link,{}", dir.display()));
    }
    link.args([
        "-ltorch_cuda",
        "-lc10_cuda",
        "-ltorch_cpu",
        "-lc10",
        "-l:libcudart.so.13",
        "-l:libnccl.so.2",
        "-lstdc++",
    ]);
    let status = link.status().map_err(|e| format!("the linker did not start: {e}"))?;
    if !status.success() {
        return Err(format!("linking {NAME} failed ({status})").into());
    }
    Ok(())
}

/// The CUDA and NCCL header folders: beside torch in a pip installation, in `TCH_EXT_CUDA_INCLUDE` (colon-separated,
/// for the `crt` and `cccl` headers that the run-time wheels lack), or in `/usr/local/cuda`.
fn cuda_includes(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let site = root.parent().ok_or("LIBTORCH has no parent folder")?;
    let mut found: Vec<PathBuf> =
        env::var_os("TCH_EXT_CUDA_INCLUDE").map(|paths| env::split_paths(&paths).collect()).unwrap_or_default();
    found.extend([
        site.join("nvidia/nccl/include"),
        site.join("nvidia/cu13/include"),
        site.join("nvidia/cu13/include/cccl"),
        PathBuf::from("/usr/local/cuda/include"),
        PathBuf::from("/usr/local/cuda/include/cccl"),
    ]);
    found.retain(|dir| dir.is_dir());
    for header in ["cuda_runtime.h", "crt/host_defines.h", "nccl.h", "nv/target"] {
        if !found.iter().any(|dir| dir.join(header).exists()) {
            return Err(format!(
                "the header {header} is nowhere in {}; install nvidia-nccl-cu13, nvidia-cuda-runtime, \
                 nvidia-cuda-crt and nvidia-cuda-cccl beside torch, or name their folders in TCH_EXT_CUDA_INCLUDE",
                found.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(":")
            )
            .into());
        }
    }
    Ok(found)
}
