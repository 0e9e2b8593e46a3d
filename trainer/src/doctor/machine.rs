//! Checks of CPU, shared memory and disk.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::check::Check;
use crate::data::datasets::cache_folder;
use crate::dist::device;

/// Cores that decode and augment for one GPU; with fewer the GPU waits.
const CORES_PER_GPU: usize = 8;
/// What NCCL and the data loader need of shared memory for each rank.
const SHM_PER_RANK: u64 = 256 << 20;
/// Below this a cache holds too little of a data set to be of use.
const CACHE: u64 = 10 << 30;

/// All checks of the machine.
pub fn checks(gpus: usize, cache: Option<PathBuf>) -> Vec<Check> {
    let cores = cores();
    let cache = cache.unwrap_or_else(cache_folder);
    vec![
        cpu(cores, gpus, &device::name(tch::Device::Cpu)),
        shared_memory(free(Path::new("/dev/shm")), gpus),
        disk(&cache, free(&cache)),
    ]
}

/// Cores for this process.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Whether a CPU, as [`device::name`] describes it, has instructions for bf16.
pub(super) fn has_bf16(model: &str) -> bool {
    ["amx_bf16", "avx512_bf16"].iter().any(|name| model.contains(name))
}

/// Free bytes of the file system of `path`, or of its nearest parent that exists.
pub(super) fn free(path: &Path) -> Result<u64, String> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let found = statvfs(existing).map_err(|e| format!("{}: {e}", existing.display()))?;
    Ok(found.blocks_available() * found.fragment_size())
}

fn cpu(cores: usize, gpus: usize, model: &str) -> Check {
    const NAME: &str = "CPU";
    let found = format!("{cores} cores for this container; {}", model.trim_start_matches("cpu "));
    let x86 = cfg!(target_arch = "x86_64");
    if gpus > 0 && cores / gpus < CORES_PER_GPU {
        let advice = format!(
            "{} cores per GPU; below {CORES_PER_GPU} the GPU may wait for images: raise spec.workers.resources.cpu, pack \
             the data set, or set augment.device: gpu",
            cores / gpus
        );
        return Check::slow(NAME, found, advice);
    }
    if x86 && !model.contains("avx2") {
        return Check::slow(NAME, found, "without AVX2, libtorch and the image code run several times slower");
    }
    if gpus == 0 && x86 && !has_bf16(model) {
        return Check { advice: "no bf16 instructions: use precision: fp32".into(), ..Check::ok(NAME, found) };
    }
    Check::ok(NAME, found)
}

fn shared_memory(free: Result<u64, String>, gpus: usize) -> Check {
    const NAME: &str = "/dev/shm";
    const ADVICE: &str = "raise spec.workers.shmSize, or Docker's --shm-size";
    let needed = SHM_PER_RANK * gpus.max(1) as u64;
    match free {
        Err(why) => Check::wrong(NAME, why, "mount a tmpfs there"),
        Ok(free) if free < needed && gpus > 1 => {
            Check::wrong(NAME, format!("{} MiB free, {} MiB needed for {gpus} ranks", free >> 20, needed >> 20), ADVICE)
        }
        Ok(free) if free < needed => Check::slow(NAME, format!("{} MiB free", free >> 20), ADVICE),
        Ok(free) => Check::ok(NAME, format!("{} MiB free", free >> 20)),
    }
}

fn disk(folder: &Path, free: Result<u64, String>) -> Check {
    const NAME: &str = "cache";
    match free {
        Err(why) => Check::wrong(NAME, why, "set --cache or SIMSIAM_CACHE to a writable folder"),
        Ok(bytes) => {
            let found = format!("{} GiB free in {}", bytes >> 30, folder.display());
            if bytes < CACHE {
                let advice = "a data set that does not fit is read from storage in every epoch: see spec.dataset.cache";
                return Check::slow(NAME, found, advice);
            }
            Check::ok(NAME, found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckState;
    use super::*;

    const MODEL: &str = "cpu A Chip (avx2 fma avx512f avx512_bf16)";

    #[test]
    fn few_cores_per_gpu_are_slow_and_the_line_says_how_many() {
        assert_eq!(cpu(64, 8, MODEL).state, CheckState::Ok);
        let few = cpu(16, 8, MODEL);
        assert!(few.state == CheckState::Slow && few.advice.starts_with("2 cores per GPU"), "{few:?}");
    }

    #[test]
    fn small_shared_memory_is_wrong_for_several_ranks() {
        let docker = Ok(64 << 20);
        assert_eq!(shared_memory(docker.clone(), 8).state, CheckState::Wrong);
        assert_eq!(shared_memory(docker, 1).state, CheckState::Slow);
        assert_eq!(shared_memory(Ok(8 << 30), 8).state, CheckState::Ok);
        assert_eq!(shared_memory(Err("no such folder".into()), 1).state, CheckState::Wrong);
    }

    #[test]
    fn free_space_of_a_folder_to_be_created_is_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(&folder.path().join("a/b")).unwrap() > 0);
        assert_eq!(disk(folder.path(), Ok(1 << 30)).state, CheckState::Slow);
        assert_eq!(disk(folder.path(), Ok(100 << 30)).state, CheckState::Ok);
    }
}
