//! The images of a run: [`datasets`] opens what the recipe names, [`photometric`] is the part of the augmentation that a
//! GPU can do.

pub mod datasets;
pub mod inspect;
pub mod photometric;
