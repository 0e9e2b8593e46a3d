//! Tensors across the C ABI.

use std::ffi::CString;

use tch::Tensor;

use crate::error::{Error, Result, check};
use crate::ffi::{Message, RawTensor};

/// The pointer of a tensor, borrowed. The shim takes `at::Tensor*` without `const`, as PyTorch's own handles do: a
/// handle is a counted reference, and what an in-place operation changes is the data behind it.
pub(crate) fn raw(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast_mut().cast()
}

/// As [`raw`]; null for none.
pub(crate) fn raw_or_null(tensor: Option<&Tensor>) -> RawTensor {
    tensor.map_or(std::ptr::null_mut(), raw)
}

/// The pointers of several tensors, borrowed.
pub(crate) fn raw_all(tensors: &[Tensor]) -> Vec<RawTensor> {
    tensors.iter().map(raw).collect()
}

/// Takes over a tensor that the shim handed out.
///
/// # Safety
/// `tensor` must be an `at::Tensor*` from the shim's `give`, not owned by anyone else.
pub(crate) unsafe fn take(tensor: RawTensor) -> Tensor {
    // SAFETY: by this function's contract; tch deletes it once, on drop.
    unsafe { Tensor::from_ptr(tensor.cast()) }
}

/// Calls a function that hands out one tensor.
pub(crate) fn one_tensor(op: &'static str, call: impl FnOnce(*mut RawTensor, Message) -> i32) -> Result<Tensor> {
    let mut out: RawTensor = std::ptr::null_mut();
    check(op, |message| call(&mut out, message))?;
    if out.is_null() {
        return Err(Error::Torch { op, message: "no tensor came back".into() });
    }
    // SAFETY: the call succeeded, so `out` is a fresh `at::Tensor` of ours.
    Ok(unsafe { take(out) })
}

/// A C string of an argument.
pub(crate) fn c_string(op: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::argument(op, format!("{text:?} has a NUL character in it")))
}
