//! The values of a pickle, which refer to one another by number, and typed access to them.

use super::node::{Id, Node};
use crate::error::Error;
use crate::limits;
use crate::value::Dtype;

/// Every value that a pickle has made so far. It bounds their number.
#[derive(Default)]
pub(crate) struct Arena {
    pub nodes: Vec<Node>,
    /// Where the instruction that is being executed begins, for errors.
    pub begun: usize,
}

impl Arena {
    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::None)
    }

    pub fn replace(&mut self, id: Id, node: Node) {
        if let Some(place) = self.nodes.get_mut(id) {
            *place = node;
        }
    }

    pub fn text(&self, id: Id) -> Result<&str, Error> {
        match self.node(id) {
            Node::Str(text) => Ok(text),
            _ => Err(self.malformed("something where a text belongs")),
        }
    }

    /// Bytes; Python 2's strings are bytes, too.
    pub fn bytes(&self, id: Id) -> Result<&[u8], Error> {
        match self.node(id) {
            Node::Bytes(bytes) => Ok(bytes),
            Node::Str(text) => Ok(text.as_bytes()),
            _ => Err(self.malformed("something where bytes belong")),
        }
    }

    pub fn size(&self, id: Id) -> Result<usize, Error> {
        match self.node(id) {
            Node::Int(value) => usize::try_from(*value).map_err(|_| self.malformed("a negative size")),
            _ => Err(self.malformed("something where a size belongs")),
        }
    }

    pub fn sizes(&self, id: Id) -> Result<Vec<usize>, Error> {
        match self.node(id) {
            Node::Tuple(sizes) if sizes.len() <= limits::DIMENSIONS => sizes.iter().map(|&id| self.size(id)).collect(),
            _ => Err(self.malformed("something where a shape belongs")),
        }
    }

    pub fn numpy_type(&self, id: Id) -> Result<Dtype, Error> {
        match self.node(id) {
            Node::NumpyType(dtype) => Ok(*dtype),
            _ => Err(self.malformed("something where a dtype belongs")),
        }
    }

    pub fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { what, at: self.begun }
    }

    /// A new node, not yet on the stack.
    pub fn add(&mut self, node: Node) -> Result<Id, Error> {
        if self.nodes.len() >= limits::VALUES {
            return Err(Error::Limit { what: "more values", limit: limits::VALUES as u64 });
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }
}
