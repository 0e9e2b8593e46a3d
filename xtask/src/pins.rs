//! The pinned libtorch: the PyTorch wheels that contain it, their checksums, and the files that are kept.
//!
//! There is no CPU-only wheel on the package index, but `libtorch_cpu.so` needs only two small CUDA libraries
//! (`libcudart`, `libcupti`), so the CPU set-up downloads three wheels and keeps 0.5 GB of them.

/// The version that `tch` supports.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// Flags that make pip choose the same file on every machine, regardless of its Python version.
pub const PLATFORM: &[&str] = &["--python-version=3.11", "--implementation=cp", "--abi=cp311"];

/// The accepted glibc versions (2.x); pip requires each to be named.
pub const GLIBC_MINORS: std::ops::RangeInclusive<u32> = 17..=28;

/// One wheel.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name of the package on the index.
    pub name: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// The file's size in bytes, for the progress bar.
    pub size: u64,
}

impl Wheel {
    /// Returns `name==version`, pip's requirement.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

/// Which libtorch to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Trains on CPUs; 0.5 GB.
    Cpu,
    /// Trains on GPUs too and builds the CUDA shim; 4 GB.
    Cuda,
}

impl Flavour {
    /// Returns the wheels that contain it.
    pub fn wheels(self) -> Vec<Wheel> {
        match self {
            Self::Cpu => CPU_WHEELS.to_vec(),
            Self::Cuda => [CPU_WHEELS, CUDA_WHEELS].concat(),
        }
    }

    /// Returns the folder name in the cache. The last number is incremented when [`Flavour::keeps`] changes.
    pub fn folder(self) -> String {
        let name = match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cu130",
        };
        format!("libtorch-{LIBTORCH_VERSION}-{name}-x86_64-1")
    }

    /// Returns the bytes of disk space that the download needs at most; pip briefly stores a wheel twice.
    pub fn disk(self) -> u64 {
        match self {
            Self::Cpu => 1_800_000_000,
            Self::Cuda => 6_500_000_000,
        }
    }

    /// Returns the required files, relative to the folder that contains `torch/`.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &CUDA_FILES[..CPU_FILES],
            Self::Cuda => CUDA_FILES,
        }
    }

    /// Returns whether a file of a wheel is kept.
    pub fn keeps(self, path: &str) -> bool {
        if path.ends_with('/') {
            return false;
        }
        if path.starts_with("torch/include/") || path == "torch/version.py" {
            return true;
        }
        match self {
            Self::Cpu => self.required().contains(&path),
            Self::Cuda => {
                let library = path.strip_prefix("torch/lib/").is_some_and(|name| {
                    name.contains(".so") && !name.contains('/') && !["libtorch_python.so", "libshm.so"].contains(&name)
                });
                // NVRTC's `.alt` libraries are copies for another mode.
                library || (path.starts_with("nvidia/") && !path.contains(".alt.so"))
            }
        }
    }
}

/// The CPU set-up needs this many of the first [`CUDA_FILES`].
const CPU_FILES: usize = 7;
const CUDA_FILES: &[&str] = &[
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libtorch.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
    "torch/include/torch/headeronly/version.h",
    "torch/lib/libtorch_cuda.so",
    "torch/lib/libc10_cuda.so",
    "nvidia/nccl/lib/libnccl.so.2",
    "nvidia/nccl/include/nccl.h",
    "nvidia/cudnn/lib/libcudnn.so.9",
    "nvidia/cu13/include/cuda_runtime_api.h",
    "nvidia/cu13/include/crt/host_defines.h",
    "nvidia/cu13/include/nv/target",
];

const CPU_WHEELS: &[Wheel] = &[
    Wheel {
        name: "torch",
        version: "2.11.0",
        sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        size: 530_604_548,
    },
    Wheel {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        size: 2_243_632,
    },
    Wheel {
        name: "nvidia-cuda-cupti",
        version: "13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        size: 10_715_597,
    },
];

/// The libraries that `libtorch_cuda.so` links, and the headers of the CUDA shim.
const CUDA_WHEELS: &[Wheel] = &[
    Wheel {
        name: "nvidia-cublas",
        version: "13.1.0.3",
        sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        size: 423_133_236,
    },
    Wheel {
        name: "nvidia-cuda-cccl",
        version: "13.0.85",
        sha256: "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
        size: 3_120_526,
    },
    Wheel {
        name: "nvidia-cuda-crt",
        version: "13.0.88",
        sha256: "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
        size: 134_086,
    },
    Wheel {
        name: "nvidia-cuda-nvrtc",
        version: "13.0.88",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        size: 90_215_200,
    },
    Wheel {
        name: "nvidia-cudnn-cu13",
        version: "9.19.0.56",
        sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        size: 366_066_321,
    },
    Wheel {
        name: "nvidia-cufft",
        version: "12.0.0.61",
        sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        size: 214_085_489,
    },
    Wheel {
        name: "nvidia-cufile",
        version: "1.15.1.6",
        sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        size: 1_223_672,
    },
    Wheel {
        name: "nvidia-curand",
        version: "10.4.0.35",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        size: 59_544_258,
    },
    Wheel {
        name: "nvidia-cusolver",
        version: "12.0.4.66",
        sha256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        size: 200_941_980,
    },
    Wheel {
        name: "nvidia-cusparse",
        version: "12.6.3.3",
        sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        size: 145_942_937,
    },
    Wheel {
        name: "nvidia-cusparselt-cu13",
        version: "0.8.0",
        sha256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        size: 169_884_119,
    },
    Wheel {
        name: "nvidia-nccl-cu13",
        version: "2.28.9",
        sha256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        size: 196_493_177,
    },
    Wheel {
        name: "nvidia-nvjitlink",
        version: "13.0.88",
        sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        size: 40_713_933,
    },
    Wheel {
        name: "nvidia-nvshmem-cu13",
        version: "3.4.5",
        sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        size: 60_412_546,
    },
    Wheel {
        name: "nvidia-nvtx",
        version: "13.0.85",
        sha256: "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        size: 148_047,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_wheels_have_checksums_and_unique_names() {
        let wheels = Flavour::Cuda.wheels();
        for wheel in &wheels {
            assert!(wheel.sha256.len() == 64 && wheel.sha256.chars().all(|c| c.is_ascii_hexdigit()), "{}", wheel.name);
            assert!(wheel.size > 0 && !wheel.version.is_empty());
        }
        let mut names: Vec<_> = wheels.iter().map(|w| w.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), wheels.len());
        assert_eq!(wheels[0].requirement(), format!("torch=={LIBTORCH_VERSION}"));
    }

    #[test]
    fn cpu_flavour_keeps_only_required_files() {
        let cpu = Flavour::Cpu;
        assert!(cpu.required().iter().all(|path| cpu.keeps(path)));
        assert!(cpu.keeps("torch/include/c10/core/Device.h"));
        for path in ["torch/lib/libtorch_cuda.so", "torch/__init__.py", "nvidia/cu13/include/cuda.h", "torch/include/"]
        {
            assert!(!cpu.keeps(path), "{path}");
        }
    }

    #[test]
    fn cuda_flavour_keeps_what_the_shim_needs() {
        let cuda = Flavour::Cuda;
        assert!(cuda.required().iter().all(|path| cuda.keeps(path)));
        assert!(cuda.required().starts_with(Flavour::Cpu.required()));
        for path in ["torch/lib/libtorch_python.so", "torch/lib/libshm/err.h", "nvidia/cu13/lib/libnvrtc.alt.so.13"] {
            assert!(!cuda.keeps(path), "{path}");
        }
    }

    #[test]
    fn flavours_have_separate_folders() {
        assert_ne!(Flavour::Cpu.folder(), Flavour::Cuda.folder());
    }
}
