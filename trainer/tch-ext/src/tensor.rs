//! Memory formats, raw bytes and gradients of tensors.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, check};
use crate::ffi;
use crate::raw::{one_tensor, raw, raw_all};

/// `x` of shape `[N, C, H, W]` with channels innermost in memory (itself where it is so already). Differentiable. A
/// tensor that is not 4-D comes back as it is.
///
/// # Errors
/// When memory runs out.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    // SAFETY: the tensor is alive during the call.
    one_tensor("channels last", |out, message| unsafe { ffi::tchx_channels_last(raw(x), out, message) })
}

/// Re-lays a 4-D parameter's memory with channels innermost, in place: the variable stays the same to autograd and to
/// its `VarStore`. Others stay as they are. To be done before a [`crate::c10d::Reducer`] is built.
///
/// # Errors
/// When memory runs out.
pub fn make_channels_last(parameter: &Tensor) -> Result<()> {
    // SAFETY: as above.
    check("make channels last", |message| unsafe { ffi::tchx_make_channels_last(raw(parameter), message) })
}

/// Whether a 4-D tensor's channels are innermost in memory.
///
/// # Errors
/// When the tensor is not defined.
pub fn is_channels_last(x: &Tensor) -> Result<bool> {
    let mut yes = false;
    // SAFETY: as above.
    check("is channels last", |message| unsafe { ffi::tchx_is_channels_last(raw(x), &mut yes, message) })?;
    Ok(yes)
}

/// The tensors without their history, sharing their memory.
///
/// # Errors
/// When a tensor is not defined.
pub fn detach_all(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    // SAFETY: as above.
    tensors
        .iter()
        .map(|t| one_tensor("detach", |out, message| unsafe { ffi::tchx_detach(raw(t), out, message) }))
        .collect()
}

/// Sets the gradients of `params` to zero where they are, so that views into a reducer's buckets stay views. (tch's
/// `zero_grad` panics on those.) Parameters without a gradient are left alone.
///
/// # Errors
/// When an operator fails.
pub fn zero_grads(params: &[Tensor]) -> Result<()> {
    let params = raw_all(params);
    // SAFETY: the tensors are alive during the call.
    check("zero gradients", |message| unsafe { ffi::tchx_zero_grads(params.as_ptr(), params.len(), message) })
}

/// A tensor's elements as bytes: row-major, in the machine's byte order (little-endian on all supported machines), as
/// safetensors stores them. The tensor may be on any device and in any layout.
///
/// # Errors
/// When memory runs out.
pub fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    with_bytes(tensor, <[u8]>::to_vec)
}

/// As [`bytes`], but lends the memory to `f`; nothing is copied where the tensor is on the CPU and row-major.
///
/// # Errors
/// When memory runs out.
pub fn with_bytes<T>(tensor: &Tensor, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let (mut data, mut n) = (std::ptr::null(), 0);
    // SAFETY: the tensor is alive and the places are valid.
    let holder = one_tensor("tensor bytes", |holder, message| unsafe {
        ffi::tchx_host_bytes(raw(tensor), holder, &mut data, &mut n, message)
    })?;
    if n == 0 {
        return Ok(f(&[]));
    }
    // SAFETY: `holder` keeps the `n` bytes at `data` alive until after `f`; `f` can not change them.
    let result = f(unsafe { std::slice::from_raw_parts(data, n) });
    drop(holder);
    Ok(result)
}

/// A CPU tensor from row-major bytes.
///
/// # Errors
/// When the number of bytes is not that of the shape and kind.
pub fn from_bytes(bytes: &[u8], kind: Kind, shape: &[i64]) -> Result<Tensor> {
    const OP: &str = "tensor from bytes";
    if shape.iter().any(|&d| d < 0) {
        return Err(Error::argument(OP, format!("{shape:?} is not a shape")));
    }
    let tensor =
        Tensor::f_empty(shape, (kind, Device::Cpu)).map_err(|e| Error::Torch { op: OP, message: e.to_string() })?;
    copy_from_bytes(&tensor, bytes)?;
    Ok(tensor)
}

/// Fills an existing tensor, of any device and layout, from row-major bytes.
///
/// # Errors
/// When the number of bytes is not that of the tensor.
pub fn copy_from_bytes(tensor: &Tensor, bytes: &[u8]) -> Result<()> {
    // SAFETY: `bytes` is valid for its length; the shim checks that it fits.
    check("copy from bytes", |message| unsafe {
        ffi::tchx_copy_bytes(raw(tensor), bytes.as_ptr(), bytes.len(), message)
    })
}

/// `loss.backward()` with this crate's errors.
///
/// # Errors
/// What an operator or a hook says; a lost peer where a synchronised layer meets it.
pub fn backward(loss: &Tensor) -> Result<()> {
    // SAFETY: the tensor is alive during the call.
    check("backward", |message| unsafe { ffi::tchx_backward(raw(loss), message) })
}

/// A tensor's gradient sharing its memory, or none where there is none.
pub fn grad(parameter: &Tensor) -> Option<Tensor> {
    let grad = parameter.grad();
    grad.defined().then_some(grad)
}
