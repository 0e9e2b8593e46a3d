//! What `torch.save` wrote before PyTorch 1.6: five pickles (magic number, protocol, system, object, storage keys), then
//! each storage as its number of elements and its bytes.

use std::collections::HashMap;

use crate::error::Error;
use crate::unpickle::{self, tree};
use crate::value::{Dtype, Value};

/// After the protocol: LONG1 of ten bytes, `0x1950a86a20f9469cfc6c`, and STOP.
const MAGIC: [u8; 13] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
const MAGIC_END: usize = MAGIC.len() + 2;
const PROTOCOL: i64 = 1001;

pub(crate) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.first() == Some(&unpickle::PROTO) && bytes.get(2..MAGIC_END) == Some(&MAGIC)
}

pub(crate) fn read(bytes: &[u8]) -> Result<Value, Error> {
    let mut at = MAGIC_END;
    let mut plain = || {
        let pickled = unpickle::run(bytes, at)?;
        at = pickled.end;
        tree::value(&pickled, bytes.len(), &mut |key| Err(tree::absent(key)))
    };
    if plain()?.as_int() != Some(PROTOCOL) {
        return Err(Error::Unsupported("is of a version of torch.save that is not read"));
    }
    if plain()?.get("little_endian").and_then(Value::as_bool) == Some(false) {
        return Err(Error::Unsupported("was written on a big-endian machine, which is not read"));
    }
    let object = unpickle::run(bytes, at)?;
    let keys = unpickle::run(bytes, object.end)?;
    at = keys.end;
    let keys = tree::value(&keys, bytes.len(), &mut |key| Err(tree::absent(key)))?;
    let sizes = element_sizes(&object.nodes);
    let mut storages: HashMap<&str, &[u8]> = HashMap::new();
    for key in keys.items().unwrap_or_default() {
        let key = key.as_str().ok_or(Error::Malformed { what: "a storage key that is no text", at })?;
        // A storage that no tensor uses is of unknown size, and then nothing behind it can be found.
        let size = *sizes.get(key).ok_or_else(|| tree::absent(key))?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Error::Truncated { at: bytes.len() })?;
        at += count.len();
        let length = usize::try_from(i64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(size));
        let data = length.and_then(|length| bytes.get(at..)?.get(..length));
        let data = data.ok_or(Error::Truncated { at: bytes.len() })?;
        at += data.len();
        storages.insert(key, data);
    }
    tree::value(&object, bytes.len(), &mut |key| storages.get(key).copied().ok_or_else(|| tree::absent(key)))
}

/// Bytes of an element of each storage.
fn element_sizes(nodes: &[unpickle::Node]) -> HashMap<&str, usize> {
    let storages = nodes.iter().filter_map(|node| match node {
        unpickle::Node::Storage { key, dtype } => Some((key.as_str(), Dtype::size(*dtype))),
        _ => None,
    });
    storages.collect()
}
