//! A copy of the training state in host memory, and its safetensors files.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

use super::state::State;
use crate::error::Error;
use crate::model::Params;
use crate::model::simsiam::ENCODER;

/// Prefix of every name in a checkpoint, as in the reference's files (it saves a `DistributedDataParallel`).
pub const PREFIX: &str = "module.";

/// One tensor's bytes on the host.
#[derive(Debug, Clone)]
pub struct HostTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The whole training state on the host, unchanged while training continues.
#[derive(Debug)]
pub struct Snapshot {
    /// How far the run is.
    pub state: State,
    model: Vec<HostTensor>,
    optimizer: Vec<HostTensor>,
}

impl Snapshot {
    /// Copies any tensors and their momentum to the host.
    pub fn of<'a>(
        model: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        optimizer: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        state: State,
    ) -> Result<Self, Error> {
        Ok(Self { state, model: host(model)?, optimizer: host(optimizer)? })
    }

    /// Returns `model.safetensors`.
    pub fn model_file(&self) -> Result<Vec<u8>, Error> {
        file(&self.model)
    }

    /// Returns `optimizer.safetensors`: momentum buffers under their parameters' names.
    pub fn optimizer_file(&self) -> Result<Vec<u8>, Error> {
        file(&self.optimizer)
    }
}

/// Returns a safetensors file of all tensors of `params`.
pub fn model_file(params: &Params) -> Result<Vec<u8>, Error> {
    file(&host_model(params)?)
}

fn host_model(params: &Params) -> Result<Vec<HostTensor>, Error> {
    host(params.entries().iter().map(|e| (e.name.as_str(), &e.tensor)))
}

/// Returns a safetensors file of `tensors`, under the names given.
pub fn tensor_file<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, Error> {
    file(&host_named("", tensors)?)
}

fn host<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<HostTensor>, Error> {
    host_named(PREFIX, tensors)
}

fn host_named<'a>(
    prefix: &str,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<Vec<HostTensor>, Error> {
    let copy = |(name, tensor): (&str, &Tensor)| {
        Ok(HostTensor {
            name: format!("{prefix}{name}"),
            dtype: dtype(tensor.kind())?,
            shape: tensor.size().iter().map(|&n| n as usize).collect(),
            bytes: tch_ext::tensor_bytes(tensor)?,
        })
    };
    tensors.into_iter().map(copy).collect()
}

fn dtype(kind: Kind) -> Result<Dtype, Error> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        other => return Err(corrupt("model.safetensors", format!("cannot store tensors of kind {other:?}"))),
    })
}

fn file(tensors: &[HostTensor]) -> Result<Vec<u8>, Error> {
    let views: Result<Vec<_>, _> =
        tensors.iter().map(|t| Ok((t.name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?))).collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|e: safetensors::SafeTensorError| corrupt("model.safetensors", e.to_string()))
}

/// Fills the network from `model.safetensors`, which must have every tensor with its shape, and no other.
pub fn restore_model(params: &Params, bytes: &[u8], uri: &str) -> Result<(), Error> {
    let file = parse(bytes, uri)?;
    let wanted: Vec<_> = params.entries().iter().map(|e| (e.name.as_str(), &e.tensor)).collect();
    let stranger = file
        .names()
        .into_iter()
        .find(|name| !wanted.iter().any(|(wanted, _)| name.strip_prefix(PREFIX) == Some(*wanted)));
    if let Some(name) = stranger {
        return Err(corrupt(
            uri,
            format!("has {name}, which this architecture does not have; check spec.pretrain.arch"),
        ));
    }
    copy_into(&file, PREFIX, wanted, uri)
}

/// Fills a backbone's tensors, under torchvision's names, from a pre-trained `model.safetensors`.
pub fn restore_backbone<'a>(
    backbone: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    bytes: &[u8],
    uri: &str,
) -> Result<(), Error> {
    copy_into(&parse(bytes, uri)?, &format!("{PREFIX}{ENCODER}"), backbone, uri)
}

/// Fills some tensors from a file of a stage's checkpoint, under their own names.
pub fn restore_tensors<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    bytes: &[u8],
    uri: &str,
) -> Result<(), Error> {
    copy_into(&parse(bytes, uri)?, PREFIX, tensors, uri)
}

fn parse<'a>(bytes: &'a [u8], uri: &str) -> Result<SafeTensors<'a>, Error> {
    SafeTensors::deserialize(bytes).map_err(|e| corrupt(uri, format!("is not a safetensors file: {e}")))
}

fn copy_into<'a>(
    file: &SafeTensors,
    prefix: &str,
    wanted: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    uri: &str,
) -> Result<(), Error> {
    for (name, tensor) in wanted {
        let view = file
            .tensor(&format!("{prefix}{name}"))
            .map_err(|_| corrupt(uri, format!("lacks {prefix}{name}; it was written for another architecture")))?;
        let expected: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        if view.shape() != expected || view.dtype() != dtype(tensor.kind())? {
            return Err(corrupt(
                uri,
                format!(
                    "{prefix}{name} is {:?} {:?}, expected {:?} {expected:?}; it was written for another architecture",
                    view.dtype(),
                    view.shape(),
                    dtype(tensor.kind())?,
                ),
            ));
        }
        let source = tch_ext::tensor_from_bytes(view.data(), tensor.kind(), &tensor.size())?;
        tch::no_grad(|| tensor.shallow_clone().f_copy_(&source))?;
    }
    Ok(())
}

fn corrupt(uri: &str, message: String) -> Error {
    Error::Checkpoint { uri: uri.to_owned(), message }
}
