//! Views: what is drawn at random for one ([`ViewParams`]), and how it is made from an image ([`Renderer`]).

mod draw;
mod params;
mod probabilities;
mod render;

pub use draw::TwoViews;
pub use params::{EvalView, ViewParams};
pub use probabilities::Probabilities;
pub use render::Renderer;
