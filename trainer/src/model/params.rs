//! The tensors of a network, by name and in PyTorch's order.

use simsiam_data::rng::CounterRng;
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// What a tensor is to the optimiser and to the other ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained: gradient, weight decay, momentum.
    Trained,
    /// A parameter that keeps its value, such as the projector's last bias: no gradient, no optimiser state,
    /// yet an index among the parameters.
    Frozen,
    /// Not a parameter: batch norm's running statistics.
    Buffer,
}

/// A named tensor of the network.
#[derive(Debug)]
pub struct Entry {
    /// Name as in the reference's state dict, without its `module.` prefix.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The tensor itself; layers hold shallow copies of it.
    pub tensor: Tensor,
}

/// All tensors of a network in registration order, which is the order of PyTorch's `state_dict`.
#[derive(Debug, Default)]
pub struct Params {
    entries: Vec<Entry>,
}

impl Params {
    /// Every tensor, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Trained parameters in order, as `(name, tensor)`.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.with_role(Role::Trained)
    }

    /// Tensors of one role in order, as `(name, tensor)`.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().filter(move |e| e.role == role).map(|e| (e.name.as_str(), &e.tensor))
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.iter().find(|e| e.name == name).map(|e| &e.tensor)
    }

    /// Stops training every parameter whose name begins with `prefix`.
    pub fn freeze(&mut self, prefix: &str) {
        self.freeze_where(|name| name.starts_with(prefix));
    }

    /// Stops training every parameter whose name is of a kind.
    pub fn freeze_where(&mut self, which: impl Fn(&str) -> bool) {
        for entry in self.entries.iter_mut().filter(|e| e.role == Role::Trained && which(&e.name)) {
            entry.role = Role::Frozen;
            entry.tensor = entry.tensor.set_requires_grad(false);
        }
    }

    fn push(&mut self, name: String, role: Role, tensor: &Tensor) {
        self.entries.push(Entry { name, role, tensor: tensor.shallow_clone() });
    }
}

/// Where new layers draw their tensors from: each by `(seed, name)`, so that adding a layer changes no other.
pub struct Init<'a> {
    params: &'a mut Params,
    prefix: String,
    seed: u64,
    kind: Kind,
    device: Device,
}

impl<'a> Init<'a> {
    /// Draws into `params` by `seed`, as `kind` on `device`.
    pub fn new(params: &'a mut Params, seed: u64, kind: Kind, device: Device) -> Self {
        Self { params, prefix: String::new(), seed, kind, device }
    }

    /// The same, for a part whose names have no prefix of their own.
    pub fn reborrow(&mut self) -> Init<'_> {
        Init { prefix: self.prefix.clone(), params: self.params, seed: self.seed, kind: self.kind, device: self.device }
    }

    /// The same with `name.` before every name.
    pub fn sub(&mut self, name: impl std::fmt::Display) -> Init<'_> {
        Init {
            prefix: format!("{}{name}.", self.prefix),
            params: self.params,
            seed: self.seed,
            kind: self.kind,
            device: self.device,
        }
    }

    /// Name of the part whose tensors are drawn, as in `encoder.layer1.0.conv1`.
    pub fn name(&self) -> String {
        self.prefix.trim_end_matches('.').to_owned()
    }

    /// Kaiming normal, fan-out, ReLU gain: N(0, 2 / fan_out), as torchvision initialises convolutions.
    /// `shape` is `[out, in / groups, kh, kw]`.
    pub fn kaiming_normal_fan_out(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let fan_out = shape[0] * shape[2..].iter().product::<i64>();
        let std = (2.0 / fan_out as f64).sqrt();
        self.drawn(name, shape, |rng| rng.normal() * std)
    }

    /// Uniform in ±1/√fan_in, PyTorch's default for a linear layer's weight and bias.
    pub fn linear_uniform(&mut self, name: &str, shape: &[i64], fan_in: i64) -> Result<Tensor, Error> {
        let bound = 1.0 / (fan_in as f64).sqrt();
        self.drawn(name, shape, |rng| rng.uniform_in(-bound, bound))
    }

    /// Normal with mean 0 and the given standard deviation.
    pub fn normal(&mut self, name: &str, shape: &[i64], std: f64) -> Result<Tensor, Error> {
        self.drawn(name, shape, |rng| rng.normal() * std)
    }

    /// One value everywhere.
    pub fn constant(&mut self, name: &str, shape: &[i64], value: f64) -> Result<Tensor, Error> {
        let tensor = Tensor::f_full(shape, value, (self.kind, self.device))?.f_set_requires_grad(true)?;
        Ok(self.add(name, Role::Trained, tensor))
    }

    /// A floating-point buffer with one value everywhere.
    pub fn buffer(&mut self, name: &str, shape: &[i64], value: f64) -> Result<Tensor, Error> {
        let tensor = Tensor::f_full(shape, value, (self.kind, self.device))?;
        Ok(self.add(name, Role::Buffer, tensor))
    }

    /// An integer counter at zero. It stays on the CPU: nothing on a GPU reads it.
    pub fn counter(&mut self, name: &str) -> Result<Tensor, Error> {
        let tensor = Tensor::f_zeros([0i64; 0], (Kind::Int64, Device::Cpu))?;
        Ok(self.add(name, Role::Buffer, tensor))
    }

    fn drawn(
        &mut self,
        name: &str,
        shape: &[i64],
        mut draw: impl FnMut(&mut CounterRng) -> f64,
    ) -> Result<Tensor, Error> {
        let full = format!("{}{name}", self.prefix);
        let mut rng = CounterRng::named(self.seed, &full);
        let values: Vec<f64> = (0..shape.iter().product::<i64>()).map(|_| draw(&mut rng)).collect();
        let tensor = Tensor::f_from_slice(&values)?
            .f_reshape(shape)?
            .f_to_kind(self.kind)?
            .f_to_device(self.device)?
            .f_set_requires_grad(true)?;
        Ok(self.add(name, Role::Trained, tensor))
    }

    fn add(&mut self, name: &str, role: Role, tensor: Tensor) -> Tensor {
        self.params.push(format!("{}{name}", self.prefix), role, &tensor);
        tensor
    }
}
