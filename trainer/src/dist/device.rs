//! The device that a rank computes on.

use simsiam_recipe::Precision;
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// The GPU with this index, or the CPU if the machine has no GPU.
pub fn pick(index: usize) -> Result<Device, Error> {
    match tch_ext::load_cuda().devices() {
        0 => Ok(Device::Cpu),
        n if index < n => Ok(Device::Cuda(index)),
        n => Err(Error::Usage(format!(
            "local rank {index} has no GPU: this machine has {n}; start at most {n} ranks on it"
        ))),
    }
}

/// Ranks that a machine starts by default: one per GPU, or one.
pub fn count() -> usize {
    tch_ext::load_cuda().devices().max(1)
}

/// Name of the GPU, or of the CPU with its vector instructions: the last bits of a sum depend on them.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => tch_ext::cuda::device_name(index).unwrap_or_else(|_| "cuda".to_owned()),
        _ => cpu(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
    }
}

/// Copies a host tensor to `device`, through page-locked memory so that the copy does not block.
pub fn upload(tensor: &Tensor, device: Device) -> Result<Tensor, Error> {
    if !device.is_cuda() {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_pin_memory(device)?.f_to_device_(device, tensor.kind(), true, false)?)
}

/// GPU memory that this process has reserved, in bytes; `None` on a CPU.
pub fn memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => tch_ext::cuda::memory(index).ok().map(|m| m.reserved),
        _ => None,
    }
}

/// Runs a forward pass under autocast to `precision`; parameters stay fp32.
pub fn in_precision<T>(
    device: Device,
    precision: Precision,
    forward: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    match precision {
        Precision::Fp32 => forward(),
        Precision::Bf16 => tch_ext::autocast(device, Some(Kind::BFloat16), forward)?,
    }
}

/// Instruction sets that libtorch chooses kernels by, as Linux names them.
const INSTRUCTIONS: [&str; 10] =
    ["avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve"];

/// The processor of `/proc/cpuinfo`: its model and which of [`INSTRUCTIONS`] it has.
fn cpu(info: &str) -> String {
    let field = |names: [&str; 2]| {
        let line = info.lines().find(|l| names.iter().any(|name| l.starts_with(name)));
        line.and_then(|l| l.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flags: Vec<_> = field(["flags", "Features"]).split_whitespace().collect();
    let has: Vec<_> = INSTRUCTIONS.into_iter().filter(|name| flags.contains(name)).collect();
    let model = match field(["model name", "CPU implementer"]) {
        "" => std::env::consts::ARCH,
        model => model,
    };
    format!("cpu {model} ({})", has.join(" "))
}

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn cpu_name_lists_the_instruction_sets_of_its_kernels() {
        let info = "processor\t: 0\nmodel name\t: A Chip @ 2 GHz\nflags\t\t: fpu sse2 fma avx2 avx512f\n";
        assert_eq!(cpu(info), "cpu A Chip @ 2 GHz (avx2 fma avx512f)");
        assert!(cpu("").starts_with(&format!("cpu {}", std::env::consts::ARCH)));
    }
}
