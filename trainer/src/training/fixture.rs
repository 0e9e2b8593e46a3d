//! Training steps from stored weights and images, for comparison with the results of PyTorch.
//! `tests/parity/README.md` describes the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use simsiam_recipe::{Arch, Pretrain, Projector, Stem};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::snapshot;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::model::{Params, Pass, SimSiam};
use crate::training::schedule::Rates;
use crate::training::sgd::Sgd;

/// Tensors by name, each in its stored type, on the CPU.
pub type Tensors = BTreeMap<String, Tensor>;

/// Network, optimiser and learning rates of a fixture.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    #[serde(flatten)]
    network: Network,
    momentum: f64,
    weight_decay: f64,
    encoder_lr: Vec<f64>,
    predictor_lr: f64,
    /// Name of the parameter that is not trained.
    pub frozen: String,
}

/// The network of a fixture.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    arch: Arch,
    stem: Stem,
    base_width: u32,
    projector: Heads,
    dim: u32,
    pred_dim: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heads {
    layers: u32,
    hidden_dim: Option<u32>,
}

/// A case with its initial values and images.
#[derive(Debug)]
pub struct Fixture {
    /// The network and its training.
    pub case: Case,
    /// `state.<name>` of every parameter and buffer; `view1` and `view2`, `[steps, N, 3, H, W]` as bytes b that
    /// encode (b − 128) / 64.
    pub inputs: Tensors,
}

impl Fixture {
    /// Reads `<case>.inputs.safetensors`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (inputs, mut metadata) = read(path)?;
        let case = metadata.remove("case").ok_or_else(|| refused(path, "it has no metadata `case`"))?;
        let case = serde_json::from_str(&case).map_err(|e| refused(path, e))?;
        Ok(Self { case, inputs })
    }

    /// Trains all steps in `kind` on `device` and names the results as the file of expected values does: `losses`;
    /// `z1`, `z2`, `p1`, `p2` and `grad.<name>` of the first step; `after.<name>` and `momentum.<name>` of the last.
    pub fn train(&self, kind: Kind, device: Device) -> Result<Tensors, Error> {
        let case = &self.case;
        let model = SimSiam::new(&case.network.pretrain(), kind, device)?;
        self.load(model.params())?;
        let mut sgd = Sgd::simsiam(model.params(), case.momentum, case.weight_decay)?;
        let host = |tensor: &Tensor| tensor.f_detach_copy()?.f_to_device(Device::Cpu);
        let (mut found, mut losses) = (Tensors::new(), Vec::new());
        for (step, &encoder) in case.encoder_lr.iter().enumerate() {
            let view = |name| self.view(name, step, kind, device);
            let (view1, view2) = (view("view1")?, view("view2")?);
            let outputs = model.forward([&view1, &view2], Pass::train(None))?;
            sgd.zero_grad()?;
            tch_ext::backward(&outputs.loss)?;
            if step == 0 {
                for (letter, tensors) in [("z", outputs.z.as_slice()), ("p", outputs.p.as_slice())] {
                    for (i, tensor) in (1..).zip(tensors) {
                        found.insert(format!("{letter}{i}"), host(tensor)?);
                    }
                }
                for entry in model.params().entries().iter().filter(|e| e.tensor.grad().defined()) {
                    found.insert(format!("grad.{}", entry.name), host(&entry.tensor.grad())?);
                }
            }
            losses.push(host(&outputs.loss)?);
            sgd.step(&Rates { encoder, predictor: case.predictor_lr }.groups())?;
        }
        found.insert("losses".to_owned(), Tensor::f_stack(&losses, 0)?);
        for entry in model.params().entries() {
            found.insert(format!("after.{}", entry.name), host(&entry.tensor)?);
        }
        for (name, buffer) in sgd.buffers() {
            found.insert(format!("momentum.{name}"), host(buffer)?);
        }
        Ok(found)
    }

    /// Sets every tensor of `params` to the value of its name; both sides must have the same names.
    fn load(&self, params: &Params) -> Result<(), Error> {
        let ours: BTreeSet<String> = params.entries().iter().map(|e| format!("state.{}", e.name)).collect();
        let theirs: BTreeSet<String> = self.inputs.keys().filter(|k| k.starts_with("state.")).cloned().collect();
        if let Some(name) = ours.symmetric_difference(&theirs).next() {
            return Err(Error::config("fixture", format!("it and the network do not both have {name}")));
        }
        for entry in params.entries() {
            let value = &self.inputs[&format!("state.{}", entry.name)];
            if entry.tensor.size() != value.size() {
                let (ours, theirs) = (entry.tensor.size(), value.size());
                return Err(Error::config("fixture", format!("{} is {theirs:?}, {ours:?} in the network", entry.name)));
            }
            tch::no_grad(|| entry.tensor.shallow_clone().f_copy_(value))?;
        }
        Ok(())
    }

    /// One step's view, `[N, 3, H, W]`.
    fn view(&self, name: &str, step: usize, kind: Kind, device: Device) -> Result<Tensor, Error> {
        let bytes = self.inputs.get(name).ok_or_else(|| Error::config("fixture", format!("it has no {name}")))?;
        let pixels = bytes.f_get(step as i64)?.f_to_kind(kind)?.f_to_device(device)?;
        Ok(pixels.f_sub_scalar(128)?.f_div_scalar(64)?)
    }
}

impl Network {
    /// The recipe of this network; all else has its default.
    pub fn pretrain(&self) -> Pretrain {
        Pretrain {
            arch: self.arch,
            stem: self.stem,
            base_width: self.base_width,
            projector: Projector { layers: self.projector.layers, hidden_dim: self.projector.hidden_dim },
            dim: self.dim,
            pred_dim: self.pred_dim,
            ..Pretrain::default()
        }
    }
}

/// Repeats a fixture's training steps in fp32 on this machine's device, and writes the results to `out`.
///
/// # Errors
/// If the fixture cannot be read or does not fit the network, or the results cannot be written.
pub fn repeat(inputs: &Path, out: &Path) -> Result<(), Error> {
    let rank = Rank::alone(1)?;
    let found = Fixture::read(inputs)?.train(Kind::Float, rank.device)?;
    let file = snapshot::tensor_file(found.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    std::fs::write(out, file).map_err(Error::io("write", out))
}

/// Tensors and metadata of a safetensors file.
pub fn read(path: &Path) -> Result<(Tensors, BTreeMap<String, String>), Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| refused(path, e))?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(|e| refused(path, e))?.iter() {
        let kind = match view.dtype() {
            Dtype::U8 => Kind::Uint8,
            Dtype::I64 => Kind::Int64,
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            other => return Err(refused(path, format!("{name} has the type {other:?}"))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        tensors.insert(name.to_owned(), Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok((tensors, metadata))
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::config(path.display().to_string(), why.to_string())
}
