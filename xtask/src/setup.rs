//! `cargo xtask setup`: installs what a plain `cargo build` needs.

use crate::error::Result;
use crate::pins::Flavour;
use crate::{libtorch, system};

/// Installs missing system packages and libtorch. Fast if nothing is missing.
///
/// # Errors
/// If either can't be installed; the error says what to do.
pub fn setup(flavour: Flavour) -> Result<()> {
    system::ensure(system::BUILD)?;
    libtorch::ensure(flavour).map(drop)
}
