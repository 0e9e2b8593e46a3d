//! The refusal of what DICOM allows and this decoder does not read.

use crate::decode::refusal::Refusal;

/// The refusal of a file with `what`.
pub(super) fn unsupported(what: &str) -> Refusal {
    Refusal::Broken(format!("it is a DICOM file with {what}, which is not read"))
}
