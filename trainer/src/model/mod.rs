//! The network of the paper: a torchvision-compatible ResNet ([`resnet`]), SimSiam's projector and predictor
//! on top of it and its loss ([`simsiam`]), built from [`layers`] whose tensors live in [`params`].

pub mod classifier;
pub mod flops;
pub mod layers;
pub mod loss;
pub mod mlp;
pub mod params;
pub mod pass;
pub mod peak_flops;
pub mod resnet;
pub mod simsiam;

pub use classifier::Classifier;
pub use params::{Init, Params};
pub use pass::Pass;
pub use resnet::ResNet;
pub use simsiam::{Outputs, SimSiam};
