//! Finding and loading libtorch's CUDA half and our own at run time.

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::shim::Shim;
use crate::error::{Error, Result, check, take_text};

const SHIM: &str = "libtch_ext_cuda.so";

/// The driver's library, by the loader's own search and where GKE mounts it.
const DRIVER: &[&str] = &["libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1"];

/// What keeps CUDA from working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// NVIDIA's driver.
    Driver,
    /// The CUDA half of libtorch: this one is for CPUs only.
    CudaLibtorch,
    /// A library that libtorch's CUDA half needs.
    Library,
    /// A device that the driver lets this process use.
    Device,
}

/// What [`load_cuda`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaState {
    /// CUDA works here.
    Ready {
        /// How many devices there are.
        devices: usize,
        /// Why our own CUDA library is missing, if it is: devices then work, but NCCL, streams and memory figures do not.
        shim_missing: Option<String>,
    },
    /// A run on the CPU, and why.
    Unavailable {
        /// What is missing.
        missing: Missing,
        /// What the loader or the driver said about it.
        reason: String,
    },
}

impl CudaState {
    /// How many devices there are; 0 without CUDA.
    pub fn devices(&self) -> usize {
        match self {
            CudaState::Ready { devices, .. } => *devices,
            CudaState::Unavailable { .. } => 0,
        }
    }
}

/// Loads CUDA if this machine has it. To be called once at the start of `main`, before tch is asked anything about CUDA
/// (libtorch remembers its first answer); later calls return the same.
///
/// `libtorch_cuda.so` comes from `TCH_EXT_CUDA_DIR` or from beside the `libtorch_cpu.so` in use; our `libtch_ext_cuda.so`
/// from `TCH_EXT_CUDA_SHIM` (a file), from beside the executable or its `../lib`, or from where the build put it. Without
/// an NVIDIA driver nothing is loaded, since libtorch's CUDA half is over a gigabyte.
pub fn load_cuda() -> CudaState {
    static STATE: OnceLock<CudaState> = OnceLock::new();
    STATE
        .get_or_init(|| {
            if let Err(reason) = open_driver() {
                return CudaState::Unavailable { missing: Missing::Driver, reason };
            }
            let shim_missing = match load_cuda_libraries() {
                Ok(shim_missing) => shim_missing,
                Err((missing, reason)) => return CudaState::Unavailable { missing, reason },
            };
            match usize::try_from(tch::Cuda::device_count()) {
                Ok(devices) if devices > 0 => CudaState::Ready { devices, shim_missing },
                _ => CudaState::Unavailable { missing: Missing::Device, reason: no_device(shim_missing) },
            }
        })
        .clone()
}

fn open_driver() -> std::result::Result<(), String> {
    let mut first = None;
    for path in DRIVER {
        match open(Path::new(path)) {
            Ok(_) => return Ok(()),
            Err(reason) => first = first.or(Some(reason)),
        }
    }
    Err(format!("no NVIDIA driver: {}", first.unwrap_or_default()))
}

/// Why there is no device, in the words of CUDA's run-time library, which libtorch does not pass on.
fn no_device(shim_missing: Option<String>) -> String {
    let said = TABLE.get().and_then(|shim| {
        let mut text = std::ptr::null_mut();
        // SAFETY: `text` is a valid place; on success it holds a malloc'ed string.
        let asked = check("device count", |message| unsafe { (shim.device_error)(&mut text, message) });
        asked.ok().map(|()| take_text(text)).filter(|text| !text.is_empty())
    });
    match (said, shim_missing) {
        (Some(said), _) => format!("the driver offers no CUDA device: {said}"),
        (None, Some(why)) => format!("the driver offers no CUDA device ({why})"),
        (None, None) => "the driver offers no CUDA device".into(),
    }
}

/// The loading that [`load_cuda`] does once it has found a driver; public for checks on machines without one. `Ok` holds
/// why our own library is missing, if it is.
///
/// # Errors
/// Why libtorch's CUDA half can not be loaded.
pub fn load_cuda_libraries() -> std::result::Result<Option<String>, (Missing, String)> {
    static DONE: OnceLock<std::result::Result<Option<String>, (Missing, String)>> = OnceLock::new();
    DONE.get_or_init(|| {
        let dir = match std::env::var_os("TCH_EXT_CUDA_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => loaded_folder("libtorch_cpu.so")
                .ok_or((Missing::CudaLibtorch, "the folder of libtorch_cpu.so is not known".to_owned()))?,
        };
        let library = dir.join("libtorch_cuda.so");
        if !library.exists() {
            let reason = format!("{} does not exist: this libtorch is for CPUs only", library.display());
            return Err((Missing::CudaLibtorch, reason));
        }
        open(&library).map_err(|reason| (Missing::Library, reason))?;
        Ok(load_shim().err())
    })
    .clone()
}

static TABLE: OnceLock<Shim> = OnceLock::new();

fn load_shim() -> std::result::Result<(), String> {
    let candidates = shim_candidates();
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let places: Vec<_> = candidates.iter().map(|p| p.display().to_string()).collect();
        return Err(format!("{SHIM} is in none of: {}", places.join(", ")));
    };
    let library = open(path)?;
    // SAFETY: a handle of `dlopen`; a library of another build lacks names or is refused by libtorch's versioned sonames.
    let shim = unsafe { Shim::find(library) }.map_err(|e| format!("{}: {e}", path.display()))?;
    TABLE.get_or_init(|| shim);
    Ok(())
}

fn shim_candidates() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("TCH_EXT_CUDA_SHIM") {
        return vec![named.into()];
    }
    let mut places = Vec::new();
    if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.extend([dir.join(SHIM), dir.join("../lib").join(SHIM)]);
    }
    places.push(env!("TCH_EXT_BUILT_CUDA_SHIM").into());
    places
}

/// The CUDA shim's functions, for an operation that needs them.
pub(crate) fn shim(op: &'static str) -> Result<&'static Shim> {
    TABLE.get().ok_or_else(|| {
        let reason = match load_cuda() {
            CudaState::Unavailable { reason, .. } => reason,
            CudaState::Ready { shim_missing, .. } => shim_missing.unwrap_or_else(|| "it is not loaded".into()),
        };
        Error::NoCuda { op, reason }
    })
}

/// Loads a library for good, its names visible to those loaded later.
fn open(path: &Path) -> std::result::Result<*mut c_void, String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: a NUL-terminated path. The libraries' initialisers are PyTorch's, NVIDIA's and ours; registering operators
    // while no other thread uses libtorch is why this belongs to the start of `main`.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: `dlerror` gives null or a string that is valid until this thread's next dl call.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() { "unknown error".into() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(text)
}

/// The folder of a library that this process has mapped.
fn loaded_folder(file_name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').and_then(|start| line.get(start..)))
        .map(Path::new)
        .find(|path| path.file_name().is_some_and(|name| name == file_name))
        .and_then(Path::parent)
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_folder_is_found() {
        // Uses libtorch, so that the library is loaded.
        assert!(crate::intraop_threads() > 0);
        let dir = loaded_folder("libtorch_cpu.so").unwrap();
        assert!(dir.join("libtorch_cpu.so").exists());
        assert_eq!(loaded_folder("libno_such_thing.so"), None);
    }

    #[test]
    fn missing_library_gives_reason() {
        let reason = open(Path::new("/no/such/library.so")).unwrap_err();
        assert!(reason.contains("/no/such/library.so"), "{reason}");
    }

    #[test]
    fn missing_driver_is_named_by_load_and_operations() {
        if open_driver().is_ok() {
            return; // a machine with a GPU
        }
        let CudaState::Unavailable { missing, reason } = load_cuda() else { panic!("there is no driver here") };
        assert_eq!(missing, Missing::Driver);
        assert!(reason.contains("libcuda.so.1"), "{reason}");
        let error = crate::cuda::device_name(0).unwrap_err();
        assert!(matches!(&error, Error::NoCuda { op: "device name", .. }), "{error}");
        assert!(!error.is_temporary());
    }
}
