//! Reads the safetensors files that `tests/parity` holds.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::Result;

/// Tensors by name, each of the type it was written in, on the CPU.
pub type Tensors = BTreeMap<String, Tensor>;

/// A file of `tests/parity`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(name)
}

/// Tensors and metadata of the file `name`.
pub fn read(name: &str) -> Result<(Tensors, HashMap<String, String>)> {
    let path = path(name);
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let metadata = SafeTensors::read_metadata(&bytes)?.1.metadata().clone().unwrap_or_default();
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
        let kind = match view.dtype() {
            Dtype::U8 => Kind::Uint8,
            Dtype::I64 => Kind::Int64,
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            other => return Err(format!("{name} has the type {other:?}").into()),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        tensors.insert(name.to_owned(), Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok((tensors, metadata))
}

/// ‖a − b‖ / ‖b‖, computed in f64.
pub fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.f_to_kind(Kind::Double)?, b.f_to_kind(Kind::Double)?);
    Ok(a.f_sub(&b)?.f_norm()?.f_double_value(&[])? / b.f_norm()?.f_double_value(&[])?)
}
