//! The stack machine that a pickle is a program for, without the instructions that could do harm.
//!
//! [`machine`] executes the instructions into an [`arena`] of [`Node`]s, [`globals`] lists the few Python objects that it
//! knows, [`calls`] does what calling them does, and [`tree`] turns the result into [`Value`](crate::Value)s.

mod arena;
mod calls;
mod globals;
mod machine;
mod node;
mod numpy;
pub(crate) mod tree;

use crate::error::Error;
use crate::value::Value;

pub(crate) use machine::run;
pub(crate) use node::Node;

/// The first instruction of every pickle of protocol 2 and above.
pub(crate) const PROTO: u8 = 0x80;

/// A file that is one pickle, with arrays of NumPy and without storages of `torch`.
pub(crate) fn read_whole(bytes: &[u8]) -> Result<Value, Error> {
    let pickled = run(bytes, 0)?;
    tree::value(&pickled, bytes.len(), &mut |key| Err(tree::absent(key)))
}
