//! For the fuzz target and the replay of its corpus: any bytes at all end in a value or an error, and what is read can
//! be written and read again.

use crate::value::Value;

/// A checkpoint file.
///
/// # Panics
/// When an accepted file does not survive being written and read again.
pub fn file(bytes: &[u8]) {
    let Ok(value) = crate::read(bytes) else { return };
    // Keys that Python could not hash are read all the same, and not written.
    if let Ok(written) = crate::write(&value) {
        let again = crate::read(&written);
        assert!(again.is_ok_and(|again| same(&again, &value)), "a file changed by being written");
    }
}

/// Equality in which NaN equals itself.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| same(ka, kb) && same(va, vb))
        }
        (a, b) => a == b,
    }
}
