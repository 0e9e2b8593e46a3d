//! Tells the linker where libtorch lies when the program runs: beside it in an image, or where it was built.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_EXT_LIBDIR");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    if let Ok(lib) = std::env::var("DEP_TCH_EXT_LIBDIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
