//! From bytes to [`Weights`]: a format is recognised by its content, never by the file's name.

use std::collections::BTreeMap;

use safetensors::{Dtype as SafeDtype, SafeTensors};
use simsiam_pth::{Dtype, Tensor, Value};

use super::names;
use super::names::Naming;
use super::optimizer::{OptimizerState, Settings};
use super::state_dict::Weights;
use crate::checkpoint;
use crate::checkpoint::snapshot::PREFIX;
use crate::error::Error;

impl Weights {
    /// Reads a file of any supported format.
    pub fn from_bytes(bytes: &[u8], uri: &str) -> Result<Self, Error> {
        let refused = |message: String| Error::Checkpoint { uri: uri.to_owned(), message };
        if simsiam_pth::recognises(bytes) {
            let value = simsiam_pth::read(bytes).map_err(|e| refused(e.to_string()))?;
            return Self::from_value(&value, uri);
        }
        // Eight bytes of length, then JSON.
        if bytes.get(8) == Some(&b'{') {
            return Self::named(safetensors(bytes).map_err(refused)?, uri);
        }
        Err(refused(
            "unrecognised format: expected a file of torch.save, safetensors, a pickle of Detectron2, or the folder of a checkpoint of a run"
                .into(),
        ))
    }

    /// Reads a checkpoint of a run.
    pub fn from_checkpoint(found: &checkpoint::Found) -> Result<Self, Error> {
        let refused = |message: String| Error::Checkpoint { uri: found.uri.clone(), message };
        let mut weights = Self::named(safetensors(&found.model).map_err(refused)?, &found.uri)?;
        let bare = |(name, tensor): (String, Tensor)| (name.strip_prefix(PREFIX).unwrap_or(&name).to_owned(), tensor);
        let momentum = safetensors(&found.optimizer).map_err(refused)?.into_iter().map(bare).collect();
        weights.take_optimizer(Some(OptimizerState { momentum, settings: Settings::of(&found.state) }));
        weights.epochs = Some(found.state.epoch);
        weights.arch = found.state.arithmetic.pointer("/pretrain/arch").and_then(|v| v.as_str()).map(str::to_owned);
        Ok(weights)
    }

    /// Reads what `torch.save` wrote: a checkpoint with a `state_dict`, Detectron2's with a `model`, or a bare state dict.
    fn from_value(value: &Value, uri: &str) -> Result<Self, Error> {
        let state = value.get("state_dict").or_else(|| value.get("model")).unwrap_or(value);
        let entries = state.entries().ok_or_else(|| Error::Checkpoint {
            uri: uri.to_owned(),
            message: format!("is a {}, expected a dict of tensors or one with `state_dict` or `model`", value.kind()),
        })?;
        let tensors = entries.iter().filter_map(|(name, value)| Some((name.as_str()?, value.as_tensor()?.clone())));
        let mut weights = Self::named(tensors.map(|(name, tensor)| (name.to_owned(), tensor)).collect(), uri)?;
        weights.arch = value.get("arch").and_then(Value::as_str).map(str::to_owned);
        weights.epochs = value.get("epoch").and_then(Value::as_int).and_then(|epochs| u64::try_from(epochs).ok());
        let optimizer = value.get("optimizer").and_then(|o| OptimizerState::read(o, &weights.parameters()));
        weights.take_optimizer(optimizer);
        Ok(weights)
    }

    /// Maps tensors under another program's names to ours.
    fn named(tensors: BTreeMap<String, Tensor>, uri: &str) -> Result<Self, Error> {
        let Some(naming) = Naming::of(tensors.keys().map(String::as_str)) else {
            let found: Vec<_> = tensors.keys().take(3).map(String::as_str).collect();
            let found = if found.is_empty() {
                "it has no tensors".to_owned()
            } else {
                format!("it has {}, …", found.join(", "))
            };
            return Err(Error::Checkpoint {
                uri: uri.to_owned(),
                message: format!(
                    "has no ResNet under known names: expected [module.]encoder., [module.]encoder_q., [module.]conv1.weight \
                     or stem.conv1.weight; {found}"
                ),
            });
        };
        let ours = tensors.into_iter().filter_map(|(name, tensor)| Some((naming.ours(&name)?, counted(&name, tensor))));
        Ok(Self { uri: uri.to_owned(), tensors: ours.collect(), ..Self::default() })
    }
}

/// Some programs write a batch norm's counter as `[1]`; it is a scalar.
fn counted(name: &str, mut tensor: Tensor) -> Tensor {
    if names::is_counter(name) && tensor.shape == [1] {
        tensor.shape.clear();
    }
    tensor
}

/// The tensors of a safetensors file.
fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("is not a readable safetensors file: {e}"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            SafeDtype::F16 => Dtype::F16,
            SafeDtype::BF16 => Dtype::BF16,
            SafeDtype::F32 => Dtype::F32,
            SafeDtype::F64 => Dtype::F64,
            SafeDtype::I64 => Dtype::I64,
            SafeDtype::I32 => Dtype::I32,
            // No ResNet has others; a tensor that is missing because of this is named when the network is filled.
            _ => continue,
        };
        tensors.insert(name.to_owned(), Tensor { dtype, shape: view.shape().to_vec(), data: view.data().to_vec() });
    }
    Ok(tensors)
}
