//! Networks and files for the tests of weights in other programs' formats.

use simsiam::checkpoint::snapshot;
use simsiam::model::{Params, SimSiam};
use simsiam::weights::Weights;
use simsiam_pth::{Dtype, Tensor as HostTensor, Value};
use simsiam_recipe::{Arch, Pretrain, Projector, Stem};
use tch::{Device, Kind, Tensor};

use super::{Result, fixture};

/// A file of `tests/parity/checkpoints`.
pub fn stored(name: &str) -> Result<Weights> {
    Ok(Weights::from_bytes(&std::fs::read(fixture::path("checkpoints").join(name))?, name)?)
}

/// The network of those files.
pub fn small(base_width: u32) -> Pretrain {
    Pretrain {
        arch: Arch::Resnet18,
        stem: Stem::Cifar,
        base_width,
        projector: Projector { layers: 2, hidden_dim: Some(32) },
        dim: 16,
        pred_dim: 8,
        ..Pretrain::default()
    }
}

pub fn network(pretrain: &Pretrain) -> Result<SimSiam> {
    Ok(SimSiam::new(pretrain, Kind::Float, Device::Cpu)?)
}

/// A network's tensors as a checkpoint has them.
pub fn weights_of(params: &Params) -> Result<Weights> {
    Ok(Weights::from_bytes(&snapshot::model_file(params)?, "ours")?)
}

pub fn tensor(host: &HostTensor) -> Result<Tensor> {
    let shape: Vec<i64> = host.shape.iter().map(|&n| n as i64).collect();
    let kind = if host.dtype == Dtype::I64 { Kind::Int64 } else { Kind::Float };
    Ok(tch_ext::tensor_from_bytes(&host.data, kind, &shape)?)
}

pub fn host(tensor: &Tensor) -> Result<Value> {
    let dtype = if tensor.kind() == Kind::Int64 { Dtype::I64 } else { Dtype::F32 };
    let shape = tensor.size().iter().map(|&n| n as usize).collect();
    Ok(Value::Tensor(HostTensor { dtype, shape, data: tch_ext::tensor_bytes(tensor)? }))
}
