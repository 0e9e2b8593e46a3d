//! What this process computes on.

use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// The GPU of that index, or the CPU where there is none.
pub fn pick(index: usize) -> Result<Device, Error> {
    match tch_ext::load_cuda().devices() {
        0 => Ok(Device::Cpu),
        n if index < n => Ok(Device::Cuda(index)),
        n => Err(Error::Usage(format!(
            "local rank {index} has no GPU of its own: this machine has {n}; start at most {n} ranks here"
        ))),
    }
}

/// How many ranks a machine starts where nobody says: one a GPU, or one.
pub fn count() -> usize {
    tch_ext::load_cuda().devices().max(1)
}

/// The GPU's name, or the CPU's widest vector instructions: what the last bits of a sum depend on.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => tch_ext::cuda::device_name(index).unwrap_or_else(|_| "cuda".to_owned()),
        _ => format!("cpu {}", instruction_set()),
    }
}

/// A host tensor on `device`; through page-locked memory on the way to a GPU, so that the copy waits for nothing.
pub fn upload(tensor: &Tensor, device: Device) -> Result<Tensor, Error> {
    if !device.is_cuda() {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_pin_memory(device)?.f_to_device_(device, tensor.kind(), true, false)?)
}

/// GPU memory that this process holds, in bytes.
pub fn memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => tch_ext::cuda::memory(index).ok().map(|m| m.reserved),
        _ => None,
    }
}

/// The type that a precision casts to in forward; parameters stay fp32.
pub fn autocast_kind(precision: simsiam_recipe::Precision) -> Option<Kind> {
    match precision {
        simsiam_recipe::Precision::Fp32 => None,
        simsiam_recipe::Precision::Bf16 => Some(Kind::BFloat16),
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> &'static str {
    match () {
        () if std::is_x86_feature_detected!("avx512f") => "AVX-512",
        () if std::is_x86_feature_detected!("avx2") => "AVX2",
        () => "x86-64",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> &'static str {
    std::env::consts::ARCH
}
