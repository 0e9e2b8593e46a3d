//! What can be wrong with a checkpoint file.

/// Why a file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither a zip archive nor a pickle.
    #[error("is neither a torch.save file nor a pickle")]
    Unrecognised,
    /// It is truncated.
    #[error("is truncated at byte {at}")]
    Truncated {
        /// Where more was expected, in the pickle.
        at: usize,
    },
    /// It names a Python object that tensors and plain values do not need.
    #[error("refers to {module}.{name}, which is not supported: only tensors and plain values are")]
    Global {
        /// The Python module.
        module: String,
        /// The name in it.
        name: String,
    },
    /// An instruction of pickle that such files do not have.
    #[error("has the pickle instruction {opcode:#04x} at byte {at}, which is not supported")]
    Opcode {
        /// The instruction's byte.
        opcode: u8,
        /// Its offset in the pickle.
        at: usize,
    },
    /// The pickle contradicts itself.
    #[error("is damaged: {what} at byte {at} of its pickle")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where in the pickle.
        at: usize,
    },
    /// Larger, deeper or more than in any checkpoint.
    #[error("has {what} than {limit}, which no checkpoint needs")]
    Limit {
        /// What there is too much of, as in "more values".
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A tensor does not fit its storage.
    #[error("is damaged: tensor data {key:?} {what}")]
    Storage {
        /// The storage's key in the file.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The zip archive is damaged, or not as `torch.save` writes it.
    #[error("is not a readable torch.save archive: {0}")]
    Archive(String),
    /// A known kind of file that is not supported.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A value that the format cannot represent.
    #[error("cannot be written: {0}")]
    Unwritable(String),
}
