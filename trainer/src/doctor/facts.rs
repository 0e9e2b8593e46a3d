//! Figures of this machine that other commands plan with.

use std::path::Path;

use serde::Serialize;
use tch_ext::cuda;

use super::machine;
use crate::data::datasets::cache_folder;
use crate::dist::device;

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineFacts {
    /// Cores for this process, which a container may limit.
    pub cores: usize,
    /// The CPU's model and vector instructions.
    pub cpu: String,
    /// Whether the CPU computes with bf16.
    pub cpu_bf16: bool,
    /// Memory in bytes that this process may still take.
    pub free_memory: u64,
    /// Its GPUs.
    pub gpus: Vec<GpuFacts>,
    /// Free bytes where the cache of remote images is; `None` if that is unknown.
    pub cache_free: Option<u64>,
}

/// What a GPU has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuFacts {
    /// Its model.
    pub name: String,
    /// Free memory in bytes.
    pub free_memory: u64,
    /// Whether it computes with bf16.
    pub bf16: bool,
}

/// The facts of this machine.
pub fn facts() -> MachineFacts {
    let cpu = device::name(tch::Device::Cpu);
    MachineFacts {
        cores: machine::cores(),
        cpu_bf16: machine::has_bf16(&cpu),
        cpu: cpu.trim_start_matches("cpu ").to_owned(),
        free_memory: free_memory(),
        gpus: (0..tch_ext::load_cuda().devices()).filter_map(gpu).collect(),
        cache_free: machine::free(&cache_folder()).ok(),
    }
}

fn gpu(index: usize) -> Option<GpuFacts> {
    let properties = cuda::properties(index).ok()?;
    Some(GpuFacts {
        name: cuda::device_name(index).ok()?,
        free_memory: cuda::memory(index).ok()?.free,
        bf16: properties.compute_capability >= super::cuda::BF16,
    })
}

/// The kernel's estimate of available memory, or what the container's limit leaves if that is less.
fn free_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let available = meminfo(&read("/proc/meminfo"), "MemAvailable:").unwrap_or(0);
    let limits = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    let left = limits.into_iter().filter_map(|(limit, used)| left(&read(limit), &read(used)));
    left.min().map_or(available, |left| left.min(available))
}

/// A line of `/proc/meminfo` in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// What a control group's limit leaves; `None` without a limit.
fn left(limit: &str, used: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    Some(limit.saturating_sub(used.trim().parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_the_kernels_figure_or_what_the_container_leaves() {
        let text = "MemTotal:       16 kB\nMemAvailable:    12 kB\n";
        assert_eq!(meminfo(text, "MemAvailable:"), Some(12 << 10));
        assert_eq!((left("max\n", "5\n"), left("100\n", "30\n"), left("", "")), (None, Some(70), None));
        assert!(free_memory() > 0);
    }
}
