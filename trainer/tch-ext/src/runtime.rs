//! Switches of the whole process.

use std::ffi::CStr;

use crate::error::{Error, Result, check};
use crate::ffi;

/// How many threads one operator may use on the CPU.
///
/// # Errors
/// For 0.
pub fn set_intraop_threads(n: usize) -> Result<()> {
    const OP: &str = "intra-op threads";
    let n = i32::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| Error::argument(OP, format!("{n} is not a number of threads")))?;
    // SAFETY: plain values.
    check(OP, |message| unsafe { ffi::tchx_set_threads(n, message) })
}

/// How many threads one operator uses on the CPU now.
pub fn intraop_threads() -> usize {
    // SAFETY: no arguments.
    usize::try_from(unsafe { ffi::tchx_threads() }).unwrap_or(1)
}

/// Asks for operators whose result is the same in each run. An operator without such a form then fails, or, with
/// `warn_only`, warns once. cuBLAS also needs `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the environment from the start.
///
/// # Errors
/// None that are known.
pub fn deterministic(on: bool, warn_only: bool) -> Result<()> {
    // SAFETY: plain values.
    check("deterministic", |message| unsafe { ffi::tchx_deterministic(on, warn_only, message) })
}

/// Seeds libtorch's generators on all devices. To be called after [`crate::load_cuda`].
///
/// # Errors
/// When CUDA fails.
pub fn manual_seed(seed: u64) -> Result<()> {
    // SAFETY: plain values.
    check("manual seed", |message| unsafe { ffi::tchx_manual_seed(seed, message) })
}

/// libtorch's version, as its headers had it when this crate was built.
pub fn version() -> String {
    // SAFETY: a string constant of the shim.
    unsafe { CStr::from_ptr(ffi::tchx_version()) }.to_string_lossy().into_owned()
}

/// What libtorch may print on standard error by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Info,
    /// Warnings and worse; libtorch's default.
    Warning,
    /// Errors, which it often prints with a C++ stack although they also arrive as [`Error`].
    Error,
    /// Only what ends the process.
    Fatal,
}

/// Sets what libtorch prints by itself. `TORCH_CPP_LOG_LEVEL` in the environment wins. To be called at the start.
pub fn set_log_level(level: LogLevel) {
    if std::env::var_os("TORCH_CPP_LOG_LEVEL").is_some() {
        return;
    }
    let level = match level {
        LogLevel::Info => 0,
        LogLevel::Warning => 1,
        LogLevel::Error => 2,
        LogLevel::Fatal => 3,
    };
    // SAFETY: sets one integer that libtorch only reads.
    unsafe { ffi::tchx_log_level(level) };
}

/// Keeps the memory of libtorch's large CPU buffers for reuse. glibc otherwise gives every block over 32 MiB straight
/// back to the kernel and trims the top of the heap, so that each training step pays for the same page faults again. Call
/// it once at the start, before other threads allocate. Does nothing where the C library is not glibc.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 1 << 30;
        // SAFETY: `mallopt` takes plain values and is thread-safe in glibc; a refused value changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}
