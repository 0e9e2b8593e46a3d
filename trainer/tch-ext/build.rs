//! Compiles the C++ shim against libtorch and, when `TCH_EXT_CUDA=1`, its CUDA half as a shared library.
//!
//! libtorch comes from `LIBTORCH` (a folder with `lib/` and `include/`, normally set by `.cargo/config.toml`).
//! A crate that depends on this one reads `DEP_TCH_EXT_LIBDIR` (and `DEP_TCH_EXT_CUDA_SHIM`, the path of the CUDA
//! shim, where it was built) in its own `build.rs`.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &[&str] =
    &["errors.cpp", "store.cpp", "group.cpp", "reducer.cpp", "sync_batch_norm.cpp", "tensor_ops.cpp", "runtime.cpp"];
const HEADERS: &[&str] = &["common.h", "group.h"];
const CUDA_SOURCES: &[&str] = &["cuda/nccl.cpp", "cuda/device.cpp"];
const CUDA_SHIM: &str = "libtch_ext_cuda.so";

fn main() {
    if let Err(error) = build() {
        eprintln!("tch-ext: {error}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    for name in ["LIBTORCH", "TCH_EXT_CUDA", "TCH_EXT_CUDA_INCLUDE", "CXX"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let csrc = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("csrc");
    for file in SOURCES.iter().chain(HEADERS).chain(CUDA_SOURCES) {
        println!("cargo:rerun-if-changed={}", csrc.join(file).display());
    }
    println!("cargo:rerun-if-changed={}", csrc.join("gloo_standins").display());

    let root = env::var_os("LIBTORCH").map(PathBuf::from).ok_or(
        "LIBTORCH is not set; it names the folder of libtorch 2.11.0 (with lib/ and include/). `cargo xtask setup` brings one",
    )?;
    let root = root
        .canonicalize()
        .map_err(|e| format!("LIBTORCH={}: {e}; `cargo xtask setup` brings libtorch", root.display()))?;
    let (lib, include) = (root.join("lib"), root.join("include"));
    let probe = lib.join("libtorch_cpu.so");
    if !probe.exists() {
        return Err(format!("{} is missing: LIBTORCH must be the folder of libtorch 2.11.0", probe.display()).into());
    }

    let mut shim = cc::Build::new();
    base_flags(&mut shim, &include);
    shim.include(csrc.join("gloo_standins")).define("USE_C10D_GLOO", None);
    for source in SOURCES {
        shim.file(csrc.join(source));
    }
    shim.try_compile("tch_ext_shim")?;

    println!("cargo:rustc-link-search=native={}", lib.display());
    for name in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
    println!("cargo:rustc-link-lib=dylib=stdc++");
    // For this package's own tests; a binary crate emits its own (see the crate's documentation).
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:libdir={}", lib.display());

    // Where `load_cuda` looks last, so that tests of an ordinary build tree find the shim.
    let out = PathBuf::from(env::var("OUT_DIR")?).join(CUDA_SHIM);
    println!("cargo:rustc-env=TCH_EXT_BUILT_CUDA_SHIM={}", out.display());
    if env::var("TCH_EXT_CUDA").is_ok_and(|v| v == "1") {
        match build_cuda(&csrc, &root, &out) {
            Ok(()) => println!("cargo:cuda_shim={}", out.display()),
            Err(error) => println!("cargo:warning=TCH_EXT_CUDA=1, but the CUDA shim was not built: {error}"),
        }
    }
    Ok(())
}

/// Flags that both halves share: they must match how libtorch itself was compiled.
fn base_flags(build: &mut cc::Build, include: &Path) {
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

fn build_cuda(csrc: &Path, root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let includes = cuda_includes(root)?;
    let mut build = cc::Build::new();
    base_flags(&mut build, &root.join("include"));
    build.include(csrc.join("gloo_standins")).define("USE_C10D_NCCL", None).pic(true).cargo_metadata(false);
    for dir in &includes {
        build.include(dir);
    }
    for source in CUDA_SOURCES {
        build.file(csrc.join(source));
    }
    let objects = build.try_compile_intermediates()?;
    let lib = root.join("lib");
    let site = root.parent().ok_or("LIBTORCH has no parent folder")?;
    let mut link = Command::new(build.try_get_compiler()?.path());
    link.arg("-shared").arg("-o").arg(out).args(&objects);
    link.arg(format!("-Wl,-soname,{CUDA_SHIM}")).arg("-Wl,--no-undefined").arg("-Wl,--as-needed");
    for dir in [lib, site.join("nvidia/cu13/lib"), site.join("nvidia/nccl/lib")] {
        link.arg(format!("-L{}", dir.display())).arg(format!("-Wl,-rpath-link,{}", dir.display()));
    }
    link.args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10", "-l:libcudart.so.13", "-lstdc++"]);
    let status = link.status().map_err(|e| format!("the linker did not start: {e}"))?;
    if !status.success() {
        return Err(format!("linking {CUDA_SHIM} failed ({status})").into());
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
