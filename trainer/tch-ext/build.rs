//! Compiles the C++ shim against libtorch and, when `TCH_EXT_CUDA=1`, its CUDA half as a shared library.
//!
//! libtorch comes from `LIBTORCH` (a folder with `lib/` and `include/`, normally set by `.cargo/config.toml`).
//! A crate that depends on this one reads `DEP_TCH_EXT_LIBDIR` (and `DEP_TCH_EXT_CUDA_SHIM`, the path of the CUDA
//! shim, where it was built) in its own `build.rs`.

use std::env;
use std::error::Error;
use std::path::PathBuf;

#[path = "build/cuda_shim.rs"]
mod cuda_shim;

const SOURCES: &[&str] =
    &["errors.cpp", "store.cpp", "group.cpp", "reducer.cpp", "sync_batch_norm.cpp", "tensor_ops.cpp", "runtime.cpp"];
const HEADERS: &[&str] = &["common.h", "group.h"];

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
    for file in SOURCES.iter().chain(HEADERS).chain(cuda_shim::SOURCES) {
        println!("cargo:rerun-if-changed={}", csrc.join(file).display());
    }
    println!("cargo:rerun-if-changed={}", csrc.join("gloo_standins").display());
    println!("cargo:rerun-if-changed=build/cuda_shim.rs");
    println!("cargo:rerun-if-changed=build.rs");

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
    cuda_shim::base_flags(&mut shim, &include);
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
    let out = PathBuf::from(env::var("OUT_DIR")?).join(cuda_shim::NAME);
    println!("cargo:rustc-env=TCH_EXT_BUILT_CUDA_SHIM={}", out.display());
    if env::var("TCH_EXT_CUDA").is_ok_and(|v| v == "1") {
        cuda_shim::build(cc::Build::new(), &csrc, &root, &out)
            .map_err(|error| format!("TCH_EXT_CUDA=1, but the CUDA shim was not built: {error}"))?;
        println!("cargo:cuda_shim={}", out.display());
    }
    Ok(())
}
