//! The device that a rank computes on.

use simsiam_recipe::Precision;
use tch::{Device, Kind, Tensor};
use tch_ext::CudaState;
use tch_ext::cuda::Missing;

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

/// What runs need of CUDA, for messages: libtorch's wheels are built for CUDA 13.0, which that driver brought.
pub const NEEDED: &str = "libtorch 2.11.0 with CUDA 13.0 needs NVIDIA driver 580 or newer";

/// The number of GPUs that a command asks for, checked against those that it finds. `field` is what asks: a flag, or a field
/// of the run.
///
/// # Errors
/// [`Error::Config`] with what is missing and what to do about it, if there are fewer.
pub fn require(gpus: usize, field: &str) -> Result<(), Error> {
    refusal(gpus, &tch_ext::load_cuda()).map_or(Ok(()), |message| Err(Error::config(field, message)))
}

fn refusal(gpus: usize, state: &CudaState) -> Option<String> {
    let asked = if gpus == 1 { "1 GPU was requested".to_owned() } else { format!("{gpus} GPUs were requested") };
    match state {
        _ if gpus == 0 => None,
        CudaState::Unavailable { .. } => Some(format!("{asked}, but {}", describe(state))),
        CudaState::Ready { shim_missing: Some(_), .. } => Some(format!("{asked}, but {}", describe(state))),
        CudaState::Ready { devices, .. } if *devices < gpus => Some(format!(
            "{asked}, but this machine or container has {devices}; compare nvidia-smi -L and NVIDIA_VISIBLE_DEVICES"
        )),
        CudaState::Ready { .. } => None,
    }
}

/// The state of CUDA in one line: the devices and versions, or why there are none and what to do.
pub fn describe(state: &CudaState) -> String {
    match state {
        CudaState::Ready { devices, shim_missing: None } => format!("CUDA: {devices} devices, {}", versions()),
        CudaState::Ready { devices, shim_missing: Some(why) } => format!(
            "CUDA has {devices} devices, but NCCL and streams are unavailable: {why}; use the CUDA image, or build with \
             TCH_EXT_CUDA=1"
        ),
        CudaState::Unavailable { missing, reason } => {
            format!("CUDA is unavailable: {reason} ({}); {}", versions(), remedy(*missing))
        }
    }
}

/// What makes CUDA available.
pub fn remedy(missing: Missing) -> String {
    match missing {
        Missing::Driver => format!(
            "{NEEDED}. In a container NVIDIA's container toolkit mounts it; in Kubernetes the pod must request \
             nvidia.com/gpu from NVIDIA's device plugin"
        ),
        Missing::CudaLibtorch => {
            "use the CUDA image (its tag ends with -cuda), or build with `cargo xtask setup --cuda` and \
             TCH_EXT_CUDA=1"
                .into()
        }
        Missing::Library => "the image or installation is incomplete; use the CUDA image".into(),
        Missing::Device => {
            format!("{NEEDED}; compare nvidia-smi -L, NVIDIA_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES")
        }
    }
}

/// Versions of driver and libraries, as far as they are known here.
pub fn versions() -> String {
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok().and_then(|text| driver_version(&text));
    let driver = driver.unwrap_or_else(|| "none found".into());
    match tch_ext::cuda::versions() {
        Err(_) => format!("driver {driver}, libtorch {}", tch_ext::version()),
        Ok(found) => format!(
            "driver {driver}, CUDA {}.{}, cuDNN {}, NCCL {}.{}.{}, libtorch {}",
            found.runtime / 1000,
            found.runtime % 1000 / 10,
            found.cudnn,
            found.nccl / 10_000,
            found.nccl % 10_000 / 100,
            found.nccl % 100,
            tch_ext::version()
        ),
    }
}

/// The driver's version in the text of `/proc/driver/nvidia/version`.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version).map(str::to_owned)
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
    use super::*;

    fn unavailable(missing: Missing, reason: &str) -> CudaState {
        CudaState::Unavailable { missing, reason: reason.into() }
    }

    #[test]
    fn gpus_that_are_not_there_are_refused_with_reason_versions_and_remedy() {
        let none = unavailable(Missing::Driver, "no NVIDIA driver: libcuda.so.1: cannot open");
        let message = refusal(8, &none).unwrap();
        for part in
            ["8 GPUs were requested", "libcuda.so.1", "driver", "libtorch 2.11.0", "driver 580", "nvidia.com/gpu"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(refusal(1, &unavailable(Missing::CudaLibtorch, "CPUs only")).unwrap().contains("-cuda"));
        let two = CudaState::Ready { devices: 2, shim_missing: None };
        assert!(refusal(4, &two).unwrap().contains("has 2"));
        let without_shim = CudaState::Ready { devices: 2, shim_missing: Some("it is nowhere".into()) };
        assert!(refusal(2, &without_shim).unwrap().contains("it is nowhere"));
        assert_eq!((refusal(2, &two), refusal(0, &none)), (None, None));
    }

    #[test]
    fn driver_version_is_read_from_the_kernel_module() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x)\nGCC version: gcc 12.2.0\n";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n";
        assert_eq!(driver_version(open).as_deref(), Some("580.65.06"));
        assert_eq!(driver_version(closed).as_deref(), Some("535.104.05"));
        assert_eq!(driver_version("something else"), None);
    }

    #[test]
    fn cpu_name_lists_the_instruction_sets_of_its_kernels() {
        let info = "processor\t: 0\nmodel name\t: A Chip @ 2 GHz\nflags\t\t: fpu sse2 fma avx2 avx512f\n";
        assert_eq!(cpu(info), "cpu A Chip @ 2 GHz (avx2 fma avx512f)");
        assert!(cpu("").starts_with(&format!("cpu {}", std::env::consts::ARCH)));
    }
}
