//! Devices and their memory.

use tch::Tensor;

use super::load::shim;
use crate::error::{Error, Result, check, take_text};
use crate::raw::{one_tensor, raw};

fn index(op: &'static str, device: usize) -> Result<i32> {
    i32::try_from(device).map_err(|_| Error::argument(op, format!("there is no device {device}")))
}

/// A device's marketing name.
///
/// # Errors
/// [`Error::NoCuda`]; when there is no such device. (So it is for all functions here.)
pub fn device_name(device: usize) -> Result<String> {
    const OP: &str = "device name";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    let mut name = std::ptr::null_mut();
    // SAFETY: `name` is a valid place; on success it holds a malloc'ed string.
    check(OP, |message| unsafe { (shim.device_name)(device, &mut name, message) })?;
    Ok(take_text(name))
}

/// Versions as each library counts them: CUDA 13.0 is 13000, cuDNN 9.19.0 is 91900, NCCL 2.28.9 is 22809.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The newest CUDA that the driver supports; 0 without a driver.
    pub driver: i32,
    /// CUDA's run-time library.
    pub runtime: i32,
    /// cuDNN.
    pub cudnn: i32,
    /// NCCL.
    pub nccl: i32,
}

/// Versions of the loaded libraries; needs no device and no driver.
///
/// # Errors
/// [`Error::NoCuda`].
pub fn versions() -> Result<Versions> {
    const OP: &str = "versions";
    let shim = shim(OP)?;
    let mut figures = [0i32; 4];
    // SAFETY: the shim writes four figures.
    check(OP, |message| unsafe { (shim.versions)(figures.as_mut_ptr(), message) })?;
    let [driver, runtime, cudnn, nccl] = figures;
    Ok(Versions { driver, runtime, cudnn, nccl })
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// Its memory in bytes.
    pub memory: u64,
    /// Its compute capability, as in (9, 0).
    pub compute_capability: (u32, u32),
    /// Its streaming multiprocessors.
    pub multiprocessors: u32,
}

/// Properties of a device.
///
/// # Errors
/// As [`device_name`].
pub fn properties(device: usize) -> Result<Properties> {
    const OP: &str = "device properties";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    let mut figures = [0i64; 4];
    // SAFETY: the shim writes four figures.
    check(OP, |message| unsafe { (shim.device_properties)(device, figures.as_mut_ptr(), message) })?;
    let small = |n: i64| u32::try_from(n).unwrap_or_default();
    Ok(Properties {
        memory: figures[0].unsigned_abs(),
        compute_capability: (small(figures[1]), small(figures[2])),
        multiprocessors: small(figures[3]),
    })
}

/// Whether `device` reads the memory of `peer` directly.
///
/// # Errors
/// As [`device_name`].
pub fn peer_access(device: usize, peer: usize) -> Result<bool> {
    const OP: &str = "peer access";
    let (shim, device, peer) = (shim(OP)?, index(OP, device)?, index(OP, peer)?);
    let mut can = false;
    // SAFETY: `can` is a valid place.
    check(OP, |message| unsafe { (shim.peer_access)(device, peer, &mut can, message) })?;
    Ok(can)
}

/// Makes `device` the calling thread's current one; a rank does so at its start.
///
/// # Errors
/// As [`device_name`].
pub fn set_device(device: usize) -> Result<()> {
    const OP: &str = "set device";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    // SAFETY: plain values.
    check(OP, |message| unsafe { (shim.set_device)(device, message) })
}

/// Waits until all work queued on `device` is done.
///
/// # Errors
/// As [`device_name`]; errors of earlier kernels show here too.
pub fn synchronize(device: usize) -> Result<()> {
    const OP: &str = "synchronize";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    // SAFETY: plain values.
    check(OP, |message| unsafe { (shim.synchronize)(device, message) })
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// In tensors, now.
    pub allocated: u64,
    /// In tensors, at most since the start or [`reset_peak_memory`].
    pub allocated_peak: u64,
    /// Held by PyTorch's allocator, now.
    pub reserved: u64,
    /// Held by PyTorch's allocator, at most.
    pub reserved_peak: u64,
    /// Free on the device, for all processes.
    pub free: u64,
    /// The device's memory.
    pub total: u64,
}

/// Memory figures of a device.
///
/// # Errors
/// As [`device_name`].
pub fn memory(device: usize) -> Result<MemoryStats> {
    const OP: &str = "memory statistics";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    let mut figures = [0u64; 6];
    // SAFETY: the shim writes six figures.
    check(OP, |message| unsafe { (shim.memory)(device, figures.as_mut_ptr(), message) })?;
    let [allocated, allocated_peak, reserved, reserved_peak, free, total] = figures;
    Ok(MemoryStats { allocated, allocated_peak, reserved, reserved_peak, free, total })
}

/// Resets the peaks of [`memory`].
///
/// # Errors
/// As [`device_name`].
pub fn reset_peak_memory(device: usize) -> Result<()> {
    const OP: &str = "reset peak memory";
    let (shim, device) = (shim(OP)?, index(OP, device)?);
    // SAFETY: plain values.
    check(OP, |message| unsafe { (shim.reset_peak_memory)(device, message) })
}

/// Gives memory that PyTorch's allocator holds but does not use back to the device.
///
/// # Errors
/// As [`device_name`].
pub fn empty_cache() -> Result<()> {
    const OP: &str = "empty cache";
    let shim = shim(OP)?;
    // SAFETY: no arguments.
    check(OP, |message| unsafe { (shim.empty_cache)(message) })
}

/// A copy of a CPU tensor in page-locked memory, from which [`copy_async`] runs beside computation.
///
/// # Errors
/// As [`device_name`].
pub fn pin(tensor: &Tensor) -> Result<Tensor> {
    const OP: &str = "pin memory";
    let shim = shim(OP)?;
    // SAFETY: the tensor is alive during the call.
    one_tensor(OP, |out, message| unsafe { (shim.pin)(raw(tensor), out, message) })
}

/// Queues a copy of `source` into `target` on the current stream. A pinned `source` may be dropped at once (PyTorch's
/// allocator waits for the copy), but must not be written to until the copy is done.
///
/// # Errors
/// As [`device_name`]; when shapes do not fit.
pub fn copy_async(target: &Tensor, source: &Tensor) -> Result<()> {
    const OP: &str = "asynchronous copy";
    let shim = shim(OP)?;
    // SAFETY: both tensors are alive during the call; the allocator keeps the memory until the copy is done.
    check(OP, |message| unsafe { (shim.copy_async)(raw(target), raw(source), message) })
}
