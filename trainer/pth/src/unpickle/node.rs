//! What the machine builds: values that refer to one another by number.

use crate::strided::Strided;
use crate::value::Dtype;

use super::globals::Global;

/// A node's number in the arena.
pub(crate) type Id = usize;

/// A Python object under construction.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// The storage of a `torch` tensor, which is elsewhere in the file.
    Storage {
        key: String,
        dtype: Dtype,
    },
    /// A tensor of `torch`.
    Tensor {
        key: String,
        view: Strided,
    },
    /// NumPy's type of an element.
    NumpyType(Dtype),
    /// A NumPy array that has no content yet.
    EmptyArray,
    /// A NumPy array of the bytes in another node.
    Array {
        bytes: Id,
        view: Strided,
    },
}

impl Node {
    /// Its Python type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Global(_) => "a class or function",
            Self::Storage { .. } => "a storage",
            Self::Tensor { .. } => "a tensor",
            Self::NumpyType(_) => "a dtype",
            Self::EmptyArray | Self::Array { .. } => "an array",
        }
    }
}

/// The result of executing a pickle.
#[derive(Debug)]
pub(crate) struct Pickled {
    pub nodes: Vec<Node>,
    pub root: Id,
    /// Where the pickle ended.
    pub end: usize,
}
