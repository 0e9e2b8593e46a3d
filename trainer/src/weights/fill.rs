//! Copies [`Weights`] into a network and its optimiser.

use simsiam_pth::{Dtype, Tensor as HostTensor};
use tch::{Kind, Tensor};

use super::architecture::counted;
use super::state_dict::Weights;
use super::{adapt, names};
use crate::error::Error;
use crate::model::Params;
use crate::model::simsiam::{ENCODER, PREDICTOR, PROJECTOR};

/// Which of SimSiam's heads a file has; a missing head keeps its initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The projector, `encoder.fc`.
    pub projector: bool,
    /// The predictor; true as well if the network has none.
    pub predictor: bool,
    /// The first convolution is not as in the file, whose images had three channels.
    pub adapted: bool,
}

/// The first convolution's weight, `[out, C, kernel, kernel]`.
const FIRST: &str = "encoder.conv1.weight";

impl Weights {
    /// Fills a SimSiam network. The backbone must be present, and each head that is present must fit.
    pub fn fill_network(&self, params: &Params) -> Result<Heads, Error> {
        let wanted: Vec<_> = params.entries().iter().map(|e| (e.name.as_str(), &e.tensor)).collect();
        let is_predictor = |name: &str| name.starts_with(PREDICTOR);
        let is_projector = |name: &str| name.starts_with(PROJECTOR);
        let part = |belongs: &dyn Fn(&str) -> bool| -> Result<bool, Error> {
            let wanted: Vec<_> = wanted.iter().filter(|(name, _)| belongs(name)).copied().collect();
            let there = self.tensors.keys().any(|name| belongs(name));
            if there && !wanted.is_empty() {
                self.fill(&wanted, belongs)?;
            }
            Ok(there || wanted.is_empty())
        };
        self.fill_simsiam_backbone(params)?;
        let adapted = params.get(FIRST).is_some_and(|tensor| self.adapts(FIRST, tensor));
        Ok(Heads { projector: part(&is_projector)?, predictor: part(&is_predictor)?, adapted })
    }

    /// Fills the backbone of a SimSiam network and leaves its heads.
    pub fn fill_simsiam_backbone(&self, params: &Params) -> Result<(), Error> {
        let backbone = params.entries().iter().filter(|e| !e.name.starts_with(PROJECTOR));
        self.fill_backbone(backbone.filter_map(|e| Some((e.name.strip_prefix(ENCODER)?, &e.tensor))))
    }

    /// Fills a backbone under torchvision's names, without `fc`.
    pub fn fill_backbone<'a>(&self, backbone: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), Error> {
        let names: Vec<_> = backbone.into_iter().map(|(name, tensor)| (format!("{ENCODER}{name}"), tensor)).collect();
        let wanted: Vec<_> = names.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
        self.fill(&wanted, &|name| name.starts_with(ENCODER) && !name.starts_with(PROJECTOR))
    }

    /// Fills `wanted`, the tensors of that part of the network whose names `belongs` accepts.
    fn fill(&self, wanted: &[(&str, &Tensor)], belongs: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let stranger =
            self.in_order().into_iter().map(|(name, _)| name).find(|name| {
                belongs(name) && !names::is_counter(name) && !wanted.iter().any(|(wanted, _)| wanted == name)
            });
        // A shape that does not fit explains more than a name that is missing.
        for (name, tensor) in wanted {
            if let Some(found) = self.tensors.get(*name)
                && !self.adapts(name, tensor)
                && (size(found) != tensor.size() || found.dtype.is_float() != is_float(tensor))
            {
                let (expected, kind) = (tensor.size(), tensor.kind());
                let message = format!("{name} is {:?} {:?}, expected {kind:?} {expected:?}", found.dtype, found.shape);
                return Err(self.refused(format!("{message}; {}", self.hint())));
            }
        }
        if let Some(name) = stranger {
            return Err(self.refused(format!("has {name}, which the network does not have; {}", self.hint())));
        }
        for (name, tensor) in wanted {
            match self.tensors.get(*name) {
                Some(found) if self.adapts(name, tensor) => {
                    let channels = tensor.size()[1];
                    let adapted = adapt::adapted(&read(found)?, channels)?;
                    tch::no_grad(|| tensor.shallow_clone().f_copy_(&adapted))?;
                    tracing::info!(
                        "{}: {name} is for RGB images; adapted to {}: {}",
                        self.uri,
                        counted(channels.unsigned_abs() as usize),
                        if channels == 1 {
                            "the sum over R, G and B"
                        } else {
                            "R, G and B in turn, times 3 ÷ channels"
                        }
                    );
                }
                Some(found) => copy(found, tensor)?,
                None if names::is_counter(name) => {}
                None => return Err(self.refused(format!("lacks {name}; {}", self.hint()))),
            }
        }
        Ok(())
    }

    /// Whether a tensor is the first convolution of a network for other channels than the file's three.
    fn adapts(&self, name: &str, tensor: &Tensor) -> bool {
        let found = self.tensors.get(name).filter(|found| name == FIRST && found.dtype.is_float());
        found.is_some_and(|found| adapt::adapts(&size(found), &tensor.size()))
    }

    /// Returns advice on a file that does not fit.
    fn hint(&self) -> String {
        match (self.architecture(), &self.arch) {
            (Some(found), _) => {
                let more = if found.channels == 3 { "" } else { ", and spec.dataset.channels" };
                format!(
                    "the file holds a {found}: set spec.pretrain's arch, stem, baseWidth and heads accordingly{more}"
                )
            }
            (None, Some(arch)) => {
                format!("the file names {arch} as its architecture: set spec.pretrain.arch accordingly")
            }
            (None, None) => "check spec.pretrain.arch, stem and baseWidth".to_owned(),
        }
    }

    /// Fills the momentum `buffers`, by parameter, if the file has them all with their shapes; otherwise none of them.
    pub fn fill_momentum<'a>(&self, buffers: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<bool, Error> {
        let Some(optimizer) = &self.optimizer else { return Ok(false) };
        let mut pairs = Vec::new();
        for (name, buffer) in buffers {
            match optimizer.momentum.get(name) {
                Some(found) if size(found) == buffer.size() && found.dtype.is_float() => pairs.push((found, buffer)),
                _ => return Ok(false),
            }
        }
        for (found, buffer) in pairs {
            copy(found, buffer)?;
        }
        Ok(true)
    }
}

fn size(tensor: &HostTensor) -> Vec<i64> {
    // No tensor in memory has a dimension beyond i64.
    tensor.shape.iter().map(|&n| i64::try_from(n).unwrap_or(-1)).collect()
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

/// Copies the values, converting their precision.
fn copy(from: &HostTensor, to: &Tensor) -> Result<(), Error> {
    let source = read(from)?;
    tch::no_grad(|| to.shallow_clone().f_copy_(&source))?;
    Ok(())
}

/// The values on the CPU, in their own precision.
fn read(from: &HostTensor) -> Result<Tensor, Error> {
    let kind = match from.dtype {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::Bool => Kind::Bool,
    };
    Ok(tch_ext::tensor_from_bytes(&from.data, kind, &size(from))?)
}
