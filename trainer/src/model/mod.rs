//! The network of the paper: a torchvision-compatible ResNet ([`resnet`]), SimSiam's projector and predictor
//! on top of it and its loss ([`simsiam`]), built from [`layers`] whose tensors live in [`params`]. A [`probe`] finds the
//! first value that is not finite.
//!
//! ```
//! use simsiam::model::{Pass, SimSiam};
//! use simsiam_recipe::{Arch, Pretrain, Stem};
//! use tch::{Device, Kind, Tensor};
//!
//! let recipe = Pretrain { arch: Arch::Resnet18, stem: Stem::Cifar, base_width: 4, ..Pretrain::default() };
//! let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu)?;
//! let images = Tensor::zeros([2, 3, 8, 8], (Kind::Float, Device::Cpu));
//! assert_eq!(model.features(&images, Pass::EVAL)?.size(), [2, 32]);
//! # Ok::<(), simsiam::Error>(())
//! ```

pub mod classifier;
pub mod flops;
pub mod layers;
pub mod loss;
pub mod mlp;
pub mod params;
pub mod pass;
pub mod probe;
pub mod resnet;
pub mod simsiam;

pub use classifier::Classifier;
pub use params::{Init, Params};
pub use pass::Pass;
pub use resnet::ResNet;
pub use simsiam::{Outputs, SimSiam};
