//! NumPy's element types and scalars.

use super::node::Node;
use crate::value::Dtype;

/// The type of a code such as `f4`, `<f4` or `|u1`.
pub(crate) fn dtype(code: &str) -> Option<Dtype> {
    let code = code.trim_start_matches(['<', '|', '=']);
    let code = if code == "?" { "b1" } else { code };
    Dtype::ALL.into_iter().find(|dtype| dtype.numpy() == Some(code))
}

/// A scalar's number; `None` if the bytes are not one element.
pub(crate) fn scalar(dtype: Dtype, bytes: &[u8]) -> Option<Node> {
    Some(match (dtype, bytes) {
        (Dtype::F64, _) => Node::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        (Dtype::F32, _) => Node::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        (Dtype::I64, _) => Node::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        (Dtype::I32, _) => Node::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        (Dtype::Bool, [byte]) => Node::Bool(*byte != 0),
        _ => return None,
    })
}
