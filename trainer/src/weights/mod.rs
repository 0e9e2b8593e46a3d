//! Weights to and from other programs' files: the reference's and MoCo's checkpoints, torchvision, timm, Detectron2,
//! safetensors, and checkpoints of a run.
//!
//! Every file becomes [`Weights`] ([`state_dict`]) under the names of SimSiam's reference without `module.`
//! (`encoder.conv1.weight` … `encoder.fc.0.weight` … `predictor.3.bias`): [`open`](mod@open) fetches it, [`read`] recognises it
//! by its content, [`names`] maps the names that other programs use, [`prefix`] finds a
//! network under any other prefix, [`optimizer`] the numbers that PyTorch gives them,
//! [`architecture`] recognises the network. From there [`fill`] copies into a network's tensors (`adapt` makes a first
//! convolution for RGB one for other channels) and
//! [`write`](mod@write) makes files, [`onnx`] and [`huggingface`] those for deployment.
//!
//! ```
//! use simsiam::checkpoint::snapshot::model_file;
//! use simsiam::model::SimSiam;
//! use simsiam::weights::Weights;
//! use simsiam_recipe::{Arch, Pretrain, Stem};
//! use tch::{Device, Kind};
//!
//! let recipe = Pretrain { arch: Arch::Resnet18, stem: Stem::Cifar, base_width: 4, ..Pretrain::default() };
//! let model = SimSiam::new(&recipe, Kind::Float, Device::Cpu)?;
//! let weights = Weights::from_bytes(&model_file(model.params())?, "model.safetensors")?;
//! assert_eq!(weights.architecture().map(|found| found.arch), Some(Arch::Resnet18));
//! # Ok::<(), simsiam::Error>(())
//! ```

mod adapt;
pub mod architecture;
pub mod convert;
pub mod fill;
pub mod huggingface;
pub mod names;
pub mod onnx;
pub mod open;
pub mod optimizer;
pub mod prefix;
pub mod read;
pub mod state_dict;
pub mod write;

pub use open::{open, open_in_place};
pub use optimizer::OptimizerState;
pub use state_dict::{Normalization, Weights};
