//! The Python objects that a pickle may name, and what calling them does here.

use super::machine::Machine;
use super::node::{Id, Node};
use crate::error::Error;
use crate::numpy;
use crate::strided::Strided;
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

/// What a call of `function` with `args` makes.
pub(crate) fn call(machine: &mut Machine, function: Global, args: &[Id]) -> Result<Id, Error> {
    let node = match (function, args) {
        (Global::OrderedDict, []) => Node::Dict(Vec::new()),
        (Global::OrderedDict, [pairs]) => ordered_dict(machine, *pairs)?,
        (Global::RebuildTensor, [storage, offset, shape, stride, ..]) => {
            let Node::Storage { key, dtype } = machine.node(*storage) else {
                return Err(machine.malformed("a tensor without a storage"));
            };
            let (key, dtype) = (key.clone(), *dtype);
            let offset = machine.size(*offset)?;
            let (shape, stride) = (machine.sizes(*shape)?, machine.sizes(*stride)?);
            Node::Tensor { key, view: Strided { dtype, offset, shape, stride } }
        }
        (Global::RebuildParameter, [tensor, ..]) => return Ok(*tensor),
        (Global::Size, [sizes]) => return Ok(*sizes),
        (Global::Encode, [text, ..]) => encoded(machine, *text)?,
        (Global::NumpyScalar, [dtype, bytes]) => scalar(machine, *dtype, *bytes)?,
        (Global::NumpyReconstruct, [..]) | (Global::NumpyArray, [_]) => Node::EmptyArray,
        (Global::NumpyFromBuffer, [bytes, dtype, shape, order]) => {
            let column_major = matches!(machine.node(*order), Node::Str(order) if order == "F");
            let view = Strided::whole(machine.numpy_type(*dtype)?, machine.sizes(*shape)?, column_major);
            Node::Array { bytes: *bytes, view }
        }
        (Global::NumpyType, [name, ..]) => {
            let name = machine.text(*name)?;
            Node::NumpyType(numpy::dtype(name).ok_or_else(|| machine.malformed("an array of an unknown type"))?)
        }
        _ => return Err(machine.malformed("a call that makes no value")),
    };
    machine.add(node)
}

/// `OrderedDict([[key, value], …])`, as Python 2 pickles it.
fn ordered_dict(machine: &Machine, pairs: Id) -> Result<Node, Error> {
    let Node::List(pairs) = machine.node(pairs) else {
        return Err(machine.malformed("an OrderedDict of no list"));
    };
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match machine.node(*pair) {
            Node::List(pair) | Node::Tuple(pair) => match pair[..] {
                [key, value] => entries.push((key, value)),
                _ => return Err(machine.malformed("an OrderedDict of no pairs")),
            },
            _ => return Err(machine.malformed("an OrderedDict of no pairs")),
        }
    }
    Ok(Node::Dict(entries))
}

/// `_codecs.encode(text, "latin1")`: how protocol 2 writes bytes.
fn encoded(machine: &Machine, text: Id) -> Result<Node, Error> {
    let text = machine.text(text)?;
    let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
    bytes.map(Node::Bytes).map_err(|_| machine.malformed("bytes that are no latin-1"))
}

/// A NumPy scalar, such as an accuracy, is a number.
fn scalar(machine: &Machine, dtype: Id, bytes: Id) -> Result<Node, Error> {
    let dtype = machine.numpy_type(dtype)?;
    let bytes = machine.bytes(bytes)?;
    numpy::scalar(dtype, bytes).ok_or_else(|| machine.malformed("a NumPy scalar of another size or type"))
}

/// `object.__setstate__(state)`.
pub(crate) fn build(machine: &mut Machine, object: Id, state: Id) -> Result<(), Error> {
    match machine.node(object) {
        // An OrderedDict's attributes: `_metadata`, the versions of a state dict's modules.
        Node::Dict(_) => Ok(()),
        Node::NumpyType(_) => little_endian(machine, state),
        Node::EmptyArray => {
            let node = array(machine, state)?;
            machine.replace(object, node);
            Ok(())
        }
        _ => Err(machine.malformed("a state for what has none")),
    }
}

/// A dtype's state, `(version, byte order, …)`.
fn little_endian(machine: &Machine, state: Id) -> Result<(), Error> {
    let Node::Tuple(state) = machine.node(state) else { return Err(machine.malformed("a dtype's state")) };
    match state.get(1).map(|&order| machine.text(order)).transpose()? {
        Some("<" | "|" | "=") => Ok(()),
        _ => Err(Error::Unsupported("holds big-endian arrays, which are not read")),
    }
}

/// An array's state, `(version, shape, dtype, column-major, bytes)`.
fn array(machine: &Machine, state: Id) -> Result<Node, Error> {
    let Node::Tuple(state) = machine.node(state) else { return Err(machine.malformed("an array's state")) };
    let &[_, shape, dtype, column_major, bytes] = &state[..] else {
        return Err(machine.malformed("an array's state"));
    };
    let column_major = matches!(machine.node(column_major), Node::Bool(true) | Node::Int(1));
    Ok(Node::Array { bytes, view: Strided::whole(machine.numpy_type(dtype)?, machine.sizes(shape)?, column_major) })
}
