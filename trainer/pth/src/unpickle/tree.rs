//! Converts nodes, which may be shared and even contain themselves, to a tree of bounded size.

use super::node::{Id, Node, Pickled};
use crate::error::Error;
use crate::limits;
use crate::value::Value;

/// The bytes of a storage by its key.
pub(crate) type Storages<'s, 'b> = &'s mut dyn FnMut(&str) -> Result<&'b [u8], Error>;

/// The tree at the pickle's root; `file` is the size of the whole file, which bounds what it may unfold to.
pub(crate) fn value(pickled: &Pickled, file: usize, storages: Storages<'_, '_>) -> Result<Value, Error> {
    let limit = (file as u64).saturating_mul(limits::UNFOLD).saturating_add(limits::UNFOLD_FREE);
    Unfolding { nodes: &pickled.nodes, storages, values: 0, bytes: 0, limit }.value(pickled.root, 0)
}

/// A storage that a pickle refers to and the file does not have.
pub(crate) fn absent(key: &str) -> Error {
    Error::Storage { key: key.to_owned(), what: "is not in the file".into() }
}

struct Unfolding<'n, 's, 'b> {
    nodes: &'n [Node],
    storages: Storages<'s, 'b>,
    values: usize,
    bytes: u64,
    limit: u64,
}

impl Unfolding<'_, '_, '_> {
    /// Recurses, but no deeper than `limits::DEPTH`.
    fn value(&mut self, id: Id, depth: usize) -> Result<Value, Error> {
        if depth > limits::DEPTH {
            return Err(Error::Limit { what: "values nested deeper", limit: limits::DEPTH as u64 });
        }
        self.values += 1;
        if self.values > limits::VALUES {
            return Err(Error::Limit { what: "more values", limit: limits::VALUES as u64 });
        }
        let nodes = self.nodes;
        Ok(match nodes.get(id).unwrap_or(&Node::None) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Float(value) => Value::Float(*value),
            Node::Str(text) => {
                self.charge(Some(text.len()))?;
                Value::Str(text.clone())
            }
            Node::List(items) => Value::List(self.values(items, depth)?),
            Node::Tuple(items) => Value::Tuple(self.values(items, depth)?),
            Node::Dict(entries) => {
                let mut dict = Vec::new();
                for &(key, value) in entries {
                    dict.push((self.value(key, depth + 1)?, self.value(value, depth + 1)?));
                }
                Value::Dict(dict)
            }
            Node::Tensor { key, view } => {
                self.charge(view.size())?;
                Value::Tensor(view.gather((self.storages)(key)?, key)?)
            }
            Node::Array { bytes, view } => {
                self.charge(view.size())?;
                let bytes = match nodes.get(*bytes) {
                    Some(Node::Bytes(bytes)) => bytes,
                    Some(Node::Str(text)) => text.as_bytes(),
                    _ => return Err(Error::Malformed { what: "an array without bytes", at: 0 }),
                };
                Value::Tensor(view.gather(bytes, "of an array")?)
            }
            Node::EmptyArray => return Err(Error::Malformed { what: "an array without bytes", at: 0 }),
            other @ (Node::Bytes(_) | Node::Global(_) | Node::Storage { .. } | Node::NumpyType(_)) => {
                return Err(Error::Unsupported(match other.kind() {
                    "bytes" => "contains bytes, which no checkpoint needs",
                    _ => "contains something that is neither a tensor nor a plain value",
                }));
            }
        })
    }

    fn values(&mut self, ids: &[Id], depth: usize) -> Result<Vec<Value>, Error> {
        // Not reserved: the same list may come again and again.
        let mut values = Vec::new();
        for &id in ids {
            values.push(self.value(id, depth + 1)?);
        }
        Ok(values)
    }

    fn charge(&mut self, bytes: Option<usize>) -> Result<(), Error> {
        self.bytes = bytes.map_or(u64::MAX, |bytes| self.bytes.saturating_add(bytes as u64));
        if self.bytes > self.limit {
            return Err(Error::Limit { what: "more bytes of tensors", limit: self.limit });
        }
        Ok(())
    }
}
