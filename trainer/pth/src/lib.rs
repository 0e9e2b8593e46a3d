//! PyTorch's checkpoint files, read and written without Python.
//!
//! A file is a tree of [`Value`]s with [`Tensor`]s in it.
//!
//! - [`read()`] takes what `torch.save` writes, the zip format of today and the one before PyTorch 1.6, and plain
//!   pickles of NumPy arrays such as Detectron2's. The format is detected by the first bytes.
//! - [`write()`] makes a file that `torch.load(weights_only=True)` takes, [`write_pickle`] a pickle of NumPy arrays that
//!   opens under NumPy 1 and NumPy 2.
//!
//! These formats are programs for a small stack machine, and Python runs them as such. Here nothing is executed: the
//! machine knows the few names that tensors are made of and refuses every other one, its memory is bounded by the
//! size of the file, and it does not recurse. See [`limits`].
//!
//! # Example
//! Write a checkpoint in memory and read it back.
//! ```
//! use simsiam_pth::{Dtype, Tensor, Value, read, write};
//!
//! let data: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
//! let weight = Tensor { dtype: Dtype::F32, shape: vec![3], data };
//! let state_dict = Value::Dict(vec![(Value::Str("fc.weight".into()), Value::Tensor(weight.clone()))]);
//! let checkpoint = Value::Dict(vec![
//!     (Value::Str("epoch".into()), Value::Int(100)),
//!     (Value::Str("state_dict".into()), state_dict),
//! ]);
//!
//! let bytes = write(&checkpoint)?; // torch.load(…, weights_only=True) reads these bytes
//! let value = read(&bytes)?;
//! assert_eq!(value.get("epoch").and_then(Value::as_int), Some(100));
//! let found = value.get("state_dict").and_then(|state| state.get("fc.weight"));
//! assert_eq!(found, Some(&Value::Tensor(weight)));
//! # Ok::<(), simsiam_pth::Error>(())
//! ```

mod archive;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod legacy;
pub mod limits;
mod pickle;
mod strided;
mod unpickle;
mod value;

pub use error::Error;
pub use value::{Dtype, Tensor, Value};

/// Reads a file of `torch.save` (zip or legacy), or a pickle of NumPy arrays.
///
/// # Errors
/// [`Error::Unrecognised`] if it is none of these; any other variant says what is wrong, and where.
pub fn read(bytes: &[u8]) -> Result<Value, Error> {
    if archive::is_zip(bytes) {
        archive::read(bytes)
    } else if legacy::is_legacy(bytes) {
        legacy::read(bytes)
    } else if bytes.first() == Some(&unpickle::PROTO) {
        unpickle::read_whole(bytes)
    } else {
        Err(Error::Unrecognised)
    }
}

/// Whether [`read`] may recognise these bytes, by the first few alone.
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    archive::is_zip(bytes) || bytes.first() == Some(&unpickle::PROTO)
}

/// A file of `torch.save`'s zip format: pickle protocol 2, entries stored and aligned to 64 bytes.
///
/// # Errors
/// [`Error::Unwritable`] for what such a file cannot hold.
pub fn write(value: &Value) -> Result<Vec<u8>, Error> {
    archive::write(value)
}

/// A pickle (protocol 3) in which tensors are NumPy arrays.
///
/// It names nothing but `numpy.ndarray` and `numpy.dtype`, which are public in every NumPy; what NumPy itself pickles
/// names a private module that NumPy 2 has renamed.
///
/// # Errors
/// [`Error::Unwritable`] for what such a file cannot hold.
pub fn write_pickle(value: &Value) -> Result<Vec<u8>, Error> {
    pickle::with_arrays(value)
}
