//! Reads the safetensors files that `tests/parity` holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use simsiam::training::fixture::Tensors;
use tch::{Kind, Tensor};

use super::Result;

/// A file of `tests/parity`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(name)
}

/// Tensors and metadata of the file `name`.
pub fn read(name: &str) -> Result<(Tensors, BTreeMap<String, String>)> {
    Ok(simsiam::training::fixture::read(&path(name))?)
}

/// ‖a − b‖ / ‖b‖, computed in f64.
pub fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.f_to_kind(Kind::Double)?, b.f_to_kind(Kind::Double)?);
    Ok(a.f_sub(&b)?.f_norm()?.f_double_value(&[])? / b.f_norm()?.f_double_value(&[])?)
}
