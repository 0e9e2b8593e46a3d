//! What the `tch` crate lacks for training on several devices and machines: PyTorch's distributed engine
//! ([`c10d`]), batch normalisation over all ranks ([`sync_batch_norm`]), automatic mixed precision ([`autocast`]),
//! channels-last tensors, fused SGD, raw bytes of tensors, and CUDA that is loaded at run time ([`load_cuda`]).
//!
//! It is a thin C++ shim over libtorch 2.11.0. C++ exceptions are returned as [`Error`]; nothing panics across the
//! language boundary. Apart from `simsiam-jpeg` this is the one crate with `unsafe` code.
//!
//! # Running a binary that depends on this crate
//! The linker needs the run-time path of libtorch. A binary crate that depends on `tch-ext` directly does so
//! in its own `build.rs`:
//!
//! ```
//! // in `main` of build.rs
//! println!("cargo:rerun-if-env-changed=DEP_TCH_EXT_LIBDIR");
//! if let Ok(lib) = std::env::var("DEP_TCH_EXT_LIBDIR") {
//!     println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
//! }
//! ```
//!
//! # The CUDA half
//! `TCH_EXT_CUDA=1` in the environment of the build also makes `libtch_ext_cuda.so`, if the headers of CUDA 13.0 and
//! NCCL 2.28 are beside torch, in `TCH_EXT_CUDA_INCLUDE` (colon-separated), or in `/usr/local/cuda`. `build.rs` of a
//! dependent finds its path in `DEP_TCH_EXT_CUDA_SHIM`; [`load_cuda`] looks for it beside the executable.
//! The tests compile, link and load the CUDA half on a machine without a driver; it has not run on a GPU yet.
//!
//! # Example
//! A process group of one rank averages gradients, then a fused SGD step updates the parameters. (Compiled but not run as a
//! documentation test, which has no run-time path to libtorch.)
//! ```no_run
//! use std::time::Duration;
//! use tch::{Device, Kind, Tensor};
//! use tch_ext::c10d::{Backend, Op, ProcessGroup, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (rank, world, timeout) = (0, 1, Duration::from_secs(60));
//! let store = Store::tcp("127.0.0.1", 29500, None, rank == 0, timeout)?;
//! let group = ProcessGroup::new(&store, "gradients", Backend::Gloo, rank, world, timeout)?;
//!
//! let params = [Tensor::ones([4], (Kind::Float, Device::Cpu))];
//! let grads = [params[0].full_like(0.5)];
//! group.all_reduce(&grads[0], Op::Sum)?;
//! let momentum_buffers = [params[0].zeros_like()];
//! tch_ext::fused_sgd(&params, &grads, &momentum_buffers, 0.1, 0.9, 1e-4, true)?;
//! # Ok(())
//! # }
//! ```

mod autocast;
mod batch_norm;
pub mod c10d;
pub mod cuda;
mod error;
mod ffi;
mod raw;
mod runtime;
mod sgd;
mod tensor;

pub use autocast::autocast;
pub use batch_norm::sync_batch_norm;
pub use cuda::{CudaState, load_cuda};
pub use error::{Error, Result};
pub use runtime::{
    LogLevel, deterministic, intraop_threads, manual_seed, set_intraop_threads, set_log_level, tune_allocator, version,
};
pub use sgd::fused_sgd;
pub use tensor::{
    backward, bytes as tensor_bytes, channels_last, copy_from_bytes, detach_all, from_bytes as tensor_from_bytes, grad,
    is_channels_last, make_channels_last, with_bytes as with_tensor_bytes, zero_grads,
};
