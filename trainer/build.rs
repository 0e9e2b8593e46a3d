//! Sets the run-time search path of libtorch: beside the program in an image, or the folder it was built with.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_EXT_LIBDIR");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    if let Ok(lib) = std::env::var("DEP_TCH_EXT_LIBDIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
