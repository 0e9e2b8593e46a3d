//! Converts weights from one file format to another.

use simsiam_recipe::{ExportFormat, Output};
use tokio::runtime::Handle;

use super::{Weights, open};
use crate::error::Error;

/// Reads the weights at `input`, writes them to `output` in `format`, and returns them with the number of tensors
/// written. Addresses are reached as
/// `access` says; its own address is not used.
///
/// # Errors
/// If the input cannot be read, does not fit the format, or the output cannot be written.
pub fn convert(
    input: &str,
    output: &str,
    format: ExportFormat,
    access: &Output,
    runtime: &Handle,
) -> Result<(Weights, usize), Error> {
    let weights = open::open("IN", input, access, runtime)?;
    weights.warn_of_other_shapes(&[format]);
    let file = weights.file(format)?;
    open::put("OUT", output, file.bytes, access, runtime)?;
    Ok((weights, file.tensors))
}
