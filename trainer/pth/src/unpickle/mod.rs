//! The stack machine that a pickle is a program for, without the parts that could do harm.
//!
//! [`Machine`] executes the instructions into an arena of [`Node`]s, [`globals`] holds the few Python objects that it
//! knows, [`tree`] makes [`Value`](crate::Value)s of what is left in the end.

mod globals;
mod machine;
mod node;
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
