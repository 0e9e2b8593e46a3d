//! Checks of driver, libraries, devices and what connects them.

use std::path::Path;

use tch_ext::CudaState;
use tch_ext::cuda::{self, Missing};

use super::check::Check;
use crate::dist::device;

/// The oldest compute capability for which libtorch's wheel has kernels.
const OLDEST: (u32, u32) = (7, 5);
/// The first with bf16 in its tensor cores.
pub(super) const BF16: (u32, u32) = (8, 0);

/// All checks of CUDA; a run on `gpus` GPUs needs them.
pub fn checks(gpus: usize) -> Vec<Check> {
    let state = tch_ext::load_cuda();
    let libraries = cuda::load_cuda_libraries();
    let mut checks = vec![libraries_check(gpus, &libraries), state_check(gpus, &state)];
    for index in 0..state.devices() {
        checks.push(device_check(index));
    }
    if state.devices() > 1 {
        checks.push(peers_check(state.devices()));
    }
    if state.devices() > 0 || gpus > 0 {
        checks.push(network_check(&adapters(Path::new("/sys/class/infiniband"))));
    }
    checks
}

/// What is wrong if GPUs are asked for, and only slow otherwise.
fn lacking(gpus: usize, name: &str, found: String, advice: String) -> Check {
    if gpus > 0 { Check::wrong(name, found, advice) } else { Check::slow(name, found, advice) }
}

fn libraries_check(gpus: usize, libraries: &Result<Option<String>, (Missing, String)>) -> Check {
    const NAME: &str = "CUDA libraries";
    match libraries {
        Ok(None) => Check::ok(NAME, device::versions()),
        Ok(Some(why)) => lacking(
            gpus,
            NAME,
            format!("libtorch has CUDA, but NCCL is unavailable: {why}"),
            "use the CUDA image, or build with TCH_EXT_CUDA=1".into(),
        ),
        Err((missing, reason)) => lacking(gpus, NAME, reason.clone(), device::remedy(*missing)),
    }
}

fn state_check(gpus: usize, state: &CudaState) -> Check {
    const NAME: &str = "CUDA";
    match state {
        CudaState::Unavailable { missing, reason } => lacking(gpus, NAME, reason.clone(), device::remedy(*missing)),
        CudaState::Ready { devices, .. } if *devices < gpus => Check::wrong(
            NAME,
            format!("{devices} devices, {gpus} requested"),
            "compare nvidia-smi -L and NVIDIA_VISIBLE_DEVICES",
        ),
        CudaState::Ready { devices, .. } => Check::ok(NAME, format!("{devices} devices")),
    }
}

fn device_check(index: usize) -> Check {
    let name = format!("GPU {index}");
    let found = cuda::device_name(index).and_then(|model| Ok((model, cuda::properties(index)?, cuda::memory(index)?)));
    match found {
        Err(e) => Check::wrong(name, e.to_string(), "look for Xid errors of this GPU in the host's kernel log"),
        Ok((model, properties, memory)) => {
            let (major, minor) = properties.compute_capability;
            let found = format!(
                "{model}, {} of {} MiB free, compute capability {major}.{minor}",
                memory.free >> 20,
                memory.total >> 20
            );
            match properties.compute_capability {
                capability if capability < OLDEST => {
                    Check::wrong(name, found, "libtorch 2.11.0 has kernels for compute capability 7.5 and newer")
                }
                capability if capability < BF16 => Check::slow(name, found, "no bf16 support: use precision: fp32"),
                _ if memory.free < memory.total / 10 * 9 => {
                    Check::slow(name, found, "another process uses its memory: see nvidia-smi")
                }
                _ => Check::ok(name, found),
            }
        }
    }
}

fn peers_check(devices: usize) -> Check {
    const NAME: &str = "GPU to GPU";
    let pairs = (0..devices).flat_map(|a| (0..a).map(move |b| (a, b)));
    let without: Vec<_> = pairs.filter(|&(a, b)| !cuda::peer_access(a, b).unwrap_or(false)).collect();
    match without.first() {
        None => Check::ok(NAME, "every pair has direct access; NCCL uses NVLink or PCIe"),
        Some((a, b)) => Check::slow(
            NAME,
            format!(
                "{} pairs have no direct access (for example {a} and {b}); NCCL uses /dev/shm between them",
                without.len()
            ),
            "see nvidia-smi topo -m; virtual machines often disable peer access",
        ),
    }
}

/// Names of the InfiniBand and RoCE adapters that the kernel shows.
fn adapters(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn network_check(adapters: &[String]) -> Check {
    const NAME: &str = "node to node";
    let devices = Path::new("/dev/infiniband/uverbs0");
    match adapters {
        [] => Check::slow(
            NAME,
            "no InfiniBand or RoCE adapter: NCCL uses TCP between nodes",
            "with one node this does not matter; otherwise see spec.workers.network in docs/networking.md",
        ),
        _ if !devices.exists() => Check::slow(
            NAME,
            format!("{}, but no /dev/infiniband: NCCL uses TCP between nodes", adapters.join(", ")),
            "request the adapter from its device plugin: spec.workers.network.rdmaResource",
        ),
        _ => Check::ok(NAME, format!("{}: NCCL uses InfiniBand or RoCE", adapters.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckState;
    use super::*;

    #[test]
    fn missing_cuda_is_slow_without_gpus_and_wrong_with_them() {
        let none = CudaState::Unavailable { missing: Missing::Driver, reason: "no NVIDIA driver: libcuda.so.1".into() };
        assert_eq!(state_check(0, &none).state, CheckState::Slow);
        let wrong = state_check(2, &none);
        assert_eq!(wrong.state, CheckState::Wrong);
        assert!(wrong.advice.contains("driver 580") && wrong.advice.contains("nvidia.com/gpu"), "{wrong:?}");
        let libraries = Err((Missing::CudaLibtorch, "for CPUs only".to_owned()));
        assert_eq!(
            (libraries_check(0, &libraries).state, libraries_check(1, &libraries).state),
            (CheckState::Slow, CheckState::Wrong)
        );
    }

    #[test]
    fn fewer_devices_than_requested_are_wrong() {
        let two = CudaState::Ready { devices: 2, shim_missing: None };
        assert_eq!((state_check(2, &two).state, state_check(4, &two).state), (CheckState::Ok, CheckState::Wrong));
    }

    #[test]
    fn adapters_are_listed_from_the_kernels_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(network_check(&adapters(folder.path())).state, CheckState::Slow);
        for name in ["mlx5_1", "mlx5_0"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(adapters(folder.path()), ["mlx5_0", "mlx5_1"]);
        assert!(network_check(&adapters(folder.path())).found.starts_with("mlx5_0, mlx5_1"));
    }
}
