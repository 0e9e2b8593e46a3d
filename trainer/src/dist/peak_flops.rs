//! Peak FLOP/s of a device: the denominator of model FLOPs utilisation.

use simsiam_recipe::Precision;
use tch::Device;

use crate::dist::device;
use crate::error::Error;

/// Environment variable with the peak FLOP/s of one rank's device, for CPUs and devices that the table lacks.
pub const VARIABLE: &str = "SIMSIAM_PEAK_FLOPS";

/// Part of the name that CUDA gives a GPU, and its dense peak in TFLOP/s with bf16 and with fp32 as TF32, which
/// convolutions use; from NVIDIA's data sheets, without sparsity. The first match counts.
const TABLE: [(&str, Option<f64>, f64); 10] = [
    ("H200", Some(989.4), 494.7),
    ("H100 PCIe", Some(756.0), 378.0),
    ("H100 NVL", Some(835.0), 417.5),
    ("H100", Some(989.4), 494.7),
    ("A100", Some(312.0), 156.0),
    ("L40S", Some(362.05), 183.0),
    ("L4", Some(121.0), 60.0),
    ("A40", Some(149.7), 74.8),
    ("A10", Some(125.0), 62.5),
    // No bf16, and no TF32.
    ("V100", None, 15.7),
];

/// Returns the peak FLOP/s of a device in a precision, if known: from the environment, or else by the GPU's name.
///
/// # Errors
/// If the environment's value is not a positive number.
pub fn of(device: Device, precision: Precision) -> Result<Option<f64>, Error> {
    if let Ok(text) = std::env::var(VARIABLE) {
        return match text.parse::<f64>() {
            Ok(peak) if peak.is_finite() && peak > 0.0 => Ok(Some(peak)),
            _ => {
                Err(Error::Usage(format!("{VARIABLE}={text}: expected the FLOP/s of one rank's device, as in 9.9e14")))
            }
        };
    }
    Ok(if device.is_cuda() { known(&device::name(device), precision) } else { None })
}

fn known(name: &str, precision: Precision) -> Option<f64> {
    let is = |word: &str| {
        name.match_indices(word)
            .any(|(at, _)| !name[at + word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let (_, bf16, fp32) = TABLE.into_iter().find(|(word, ..)| is(word))?;
    let tera = match precision {
        Precision::Bf16 => bf16?,
        Precision::Fp32 => fp32,
    };
    Some(tera * 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_of_a_gpu_is_found_by_its_name() {
        let bf16 = |name| known(name, Precision::Bf16);
        assert_eq!(bf16("NVIDIA H100 80GB HBM3"), Some(989.4e12));
        assert_eq!(bf16("NVIDIA H100 PCIe"), Some(756e12));
        assert_eq!(bf16("NVIDIA A100-SXM4-80GB"), Some(312e12));
        assert_eq!(known("NVIDIA A100-SXM4-80GB", Precision::Fp32), Some(156e12));
        assert_eq!(bf16("NVIDIA L40S"), Some(362.05e12));
        // Their names begin like others' in the table.
        assert_eq!((bf16("NVIDIA L40"), bf16("NVIDIA A10G"), bf16("NVIDIA A1000")), (None, None, None));
        assert_eq!((bf16("Tesla V100-SXM2-16GB"), bf16("NVIDIA GeForce RTX 4090")), (None, None));
    }

    #[test]
    fn peak_of_a_cpu_is_unknown() {
        assert_eq!(of(Device::Cpu, Precision::Fp32).unwrap(), None);
    }
}
