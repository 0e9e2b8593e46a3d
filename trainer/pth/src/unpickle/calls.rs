//! What calling a known Python object does here.

use super::arena::Arena;
use super::globals::Global;
use super::node::{Id, Node};
use super::numpy;
use crate::error::Error;
use crate::strided::Strided;

/// What a call of `function` with `args` makes.
pub(crate) fn call(arena: &mut Arena, function: Global, args: &[Id]) -> Result<Id, Error> {
    let node = match (function, args) {
        (Global::OrderedDict, []) => Node::Dict(Vec::new()),
        (Global::OrderedDict, [pairs]) => ordered_dict(arena, *pairs)?,
        (Global::RebuildTensor, [storage, offset, shape, stride, ..]) => {
            let Node::Storage { key, dtype } = arena.node(*storage) else {
                return Err(arena.malformed("a tensor without a storage"));
            };
            let (key, dtype) = (key.clone(), *dtype);
            let offset = arena.size(*offset)?;
            let (shape, stride) = (arena.sizes(*shape)?, arena.sizes(*stride)?);
            Node::Tensor { key, view: Strided { dtype, offset, shape, stride } }
        }
        (Global::RebuildParameter, [tensor, ..]) => return Ok(*tensor),
        (Global::Size, [sizes]) => return Ok(*sizes),
        (Global::Encode, [text, ..]) => encoded(arena, *text)?,
        (Global::NumpyScalar, [dtype, bytes]) => scalar(arena, *dtype, *bytes)?,
        (Global::NumpyReconstruct, [..]) | (Global::NumpyArray, [_]) => Node::EmptyArray,
        (Global::NumpyFromBuffer, [bytes, dtype, shape, order]) => {
            let column_major = matches!(arena.node(*order), Node::Str(order) if order == "F");
            let view = Strided::whole(arena.numpy_type(*dtype)?, arena.sizes(*shape)?, column_major);
            Node::Array { bytes: *bytes, view }
        }
        (Global::NumpyType, [name, ..]) => {
            let name = arena.text(*name)?;
            Node::NumpyType(numpy::dtype(name).ok_or_else(|| arena.malformed("an array of an unknown type"))?)
        }
        _ => return Err(arena.malformed("a call that makes no value")),
    };
    arena.add(node)
}

/// `OrderedDict([[key, value], …])`, as Python 2 pickles it.
fn ordered_dict(arena: &Arena, pairs: Id) -> Result<Node, Error> {
    let Node::List(pairs) = arena.node(pairs) else {
        return Err(arena.malformed("an OrderedDict of no list"));
    };
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match arena.node(*pair) {
            Node::List(pair) | Node::Tuple(pair) => match pair[..] {
                [key, value] => entries.push((key, value)),
                _ => return Err(arena.malformed("an OrderedDict of no pairs")),
            },
            _ => return Err(arena.malformed("an OrderedDict of no pairs")),
        }
    }
    Ok(Node::Dict(entries))
}

/// `_codecs.encode(text, "latin1")`: how protocol 2 writes bytes.
fn encoded(arena: &Arena, text: Id) -> Result<Node, Error> {
    let text = arena.text(text)?;
    let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
    bytes.map(Node::Bytes).map_err(|_| arena.malformed("bytes that are no latin-1"))
}

/// A NumPy scalar, such as an accuracy, is a number.
fn scalar(arena: &Arena, dtype: Id, bytes: Id) -> Result<Node, Error> {
    let dtype = arena.numpy_type(dtype)?;
    let bytes = arena.bytes(bytes)?;
    numpy::scalar(dtype, bytes).ok_or_else(|| arena.malformed("a NumPy scalar of another size or type"))
}

/// `object.__setstate__(state)`.
pub(crate) fn build(arena: &mut Arena, object: Id, state: Id) -> Result<(), Error> {
    match arena.node(object) {
        // An OrderedDict's attributes: `_metadata`, the versions of a state dict's modules.
        Node::Dict(_) => Ok(()),
        Node::NumpyType(_) => little_endian(arena, state),
        Node::EmptyArray => {
            let node = array(arena, state)?;
            arena.replace(object, node);
            Ok(())
        }
        _ => Err(arena.malformed("a state for what has none")),
    }
}

/// A dtype's state, `(version, byte order, …)`.
fn little_endian(arena: &Arena, state: Id) -> Result<(), Error> {
    let Node::Tuple(state) = arena.node(state) else { return Err(arena.malformed("a dtype's state")) };
    match state.get(1).map(|&order| arena.text(order)).transpose()? {
        Some("<" | "|" | "=") => Ok(()),
        _ => Err(Error::Unsupported("contains big-endian arrays, which are not supported")),
    }
}

/// An array's state, `(version, shape, dtype, column-major, bytes)`.
fn array(arena: &Arena, state: Id) -> Result<Node, Error> {
    let Node::Tuple(state) = arena.node(state) else { return Err(arena.malformed("an array's state")) };
    let &[_, shape, dtype, column_major, bytes] = &state[..] else {
        return Err(arena.malformed("an array's state"));
    };
    let column_major = matches!(arena.node(column_major), Node::Bool(true) | Node::Int(1));
    Ok(Node::Array { bytes, view: Strided::whole(arena.numpy_type(dtype)?, arena.sizes(shape)?, column_major) })
}
