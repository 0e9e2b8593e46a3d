//! The Python objects that a pickle may name.

use crate::error::Error;
use crate::value::Dtype;

/// A known class or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Dtype),
    Encode,
    NumpyScalar,
    NumpyReconstruct,
    NumpyFromBuffer,
    NumpyArray,
    NumpyType,
}

impl Global {
    /// The object of that name; every name that is not here is refused.
    pub fn named(module: &str, name: &str) -> Result<Self, Error> {
        let refused = || Error::Global { module: module.to_owned(), name: name.to_owned() };
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("_codecs", "encode") => Self::Encode,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::NumpyReconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::NumpyFromBuffer,
            ("numpy", "ndarray") => Self::NumpyArray,
            ("numpy", "dtype") => Self::NumpyType,
            ("torch" | "torch.cuda" | "torch.storage", storage) => Self::storage(storage).ok_or_else(refused)?,
            _ => return Err(refused()),
        })
    }

    fn storage(name: &str) -> Option<Self> {
        Dtype::ALL.into_iter().find(|dtype| dtype.storage() == name).map(Self::Storage)
    }
}
