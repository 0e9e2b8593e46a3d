//! Automatic mixed precision.

use tch::{Device, Kind};

use crate::error::{Error, Result, check};
use crate::ffi;

/// Runs `f` with autocast in `kind` (bfloat16 or half) on the kind of device that `device` is, or without autocast where
/// `kind` is `None`. Matrix products and convolutions then compute in `kind`, others as PyTorch's lists say. Leaving the
/// outermost region drops the cached half-precision weights; the state before is restored also when `f` panics.
///
/// Only forward passes belong inside; backward follows the types that forward chose.
///
/// # Errors
/// For other kinds, and for devices other than CPU and CUDA.
pub fn autocast<T>(device: Device, kind: Option<Kind>, f: impl FnOnce() -> T) -> Result<T> {
    let region = Region::enter(device, kind)?;
    let result = f();
    drop(region);
    Ok(result)
}

struct Region {
    cuda: bool,
    was_enabled: bool,
    old_dtype: i32,
    // Autocast's state belongs to the thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Region {
    fn enter(device: Device, kind: Option<Kind>) -> Result<Self> {
        const OP: &str = "autocast";
        let cuda = match device {
            Device::Cpu => false,
            Device::Cuda(_) => true,
            other => return Err(Error::argument(OP, format!("the device {other:?} is not supported"))),
        };
        let dtype = match kind {
            None => -1,
            Some(Kind::BFloat16) => 15,
            Some(Kind::Half) => 5,
            Some(other) => {
                return Err(Error::argument(OP, format!("autocast computes in BFloat16 or Half, not in {other:?}")));
            }
        };
        let (mut was_enabled, mut old_dtype) = (false, 0);
        // SAFETY: the places are valid; the state is this thread's.
        check(OP, |message| unsafe {
            ffi::tchx_autocast_enter(cuda, dtype, &mut was_enabled, &mut old_dtype, message)
        })?;
        Ok(Region { cuda, was_enabled, old_dtype, _thread: std::marker::PhantomData })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: restores what `enter` read, on the same thread (`Region` is not `Send`).
        let left = check("autocast", |message| unsafe {
            ffi::tchx_autocast_leave(self.cuda, self.was_enabled, self.old_dtype, message)
        });
        debug_assert!(left.is_ok());
    }
}
