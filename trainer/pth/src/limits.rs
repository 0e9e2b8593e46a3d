//! What a file may make the reader do, however it is made.

/// Values of all kinds that a pickle may build. A ResNet-152 with its optimiser has fifty thousand.
pub const VALUES: usize = 1 << 20;

/// Values inside values inside values. A checkpoint has six levels.
pub const DEPTH: usize = 64;

/// Dimensions of a tensor.
pub const DIMENSIONS: usize = 32;

/// Bytes of tensors and text that a file may unfold to: its own size this many times, and a little. It is more than
/// once since tensors may share their data.
pub const UNFOLD: u64 = 8;

/// The little: what also the smallest file may unfold to.
pub const UNFOLD_FREE: u64 = 1 << 20;

/// Entries of an archive.
pub const ENTRIES: usize = 1 << 17;
