//! `cargo xtask setup`: all that a plain `cargo build` needs.

use crate::error::Result;
use crate::pins::Flavour;
use crate::{libtorch, system};

/// System packages, then libtorch. Quick where all is there.
///
/// # Errors
/// If either can't be had; the error says what to do.
pub fn setup(flavour: Flavour) -> Result<()> {
    system::ensure(system::BUILD)?;
    libtorch::ensure(flavour).map(drop)
}
