//! Finding where a value that is not finite first appears: in the weights, in a layer's output, in the loss, or in a
//! gradient.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::params::{Params, Role};
use crate::error::Error;

/// Where the first value that is not finite was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// In what.
    pub what: What,
    /// The layer, by the name of its tensors without the last part, as in `encoder.layer1.0.conv1`; empty for the images
    /// and the loss.
    pub layer: String,
    /// The tensor, as in `weight`; empty for an output, the images and the loss.
    pub tensor: String,
}

/// In what a value is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A tensor of the network, before the step.
    Weight,
    /// The images of the batch.
    Images,
    /// The output of a layer, whose input and weights are finite.
    Output,
    /// The loss or a statistic of the outputs; the outputs of all layers are finite.
    Loss,
    /// The gradient of a parameter; the loss is finite.
    Gradient,
    /// A tensor of the network after the step; loss and gradients are finite.
    Update,
}

impl Place {
    /// A place that is a tensor of the network.
    pub fn of_tensor(what: What, name: &str) -> Self {
        let (layer, tensor) = name.rsplit_once('.').unwrap_or(("", name));
        Self { what, layer: layer.to_owned(), tensor: tensor.to_owned() }
    }

    /// A place without a layer.
    pub fn of(what: What) -> Self {
        Self { what, layer: String::new(), tensor: String::new() }
    }
}

impl std::fmt::Display for Place {
    /// The place as the end of a sentence, as in `the output of encoder.layer1.0.conv1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, layer, tensor } = self;
        match what {
            What::Weight => write!(f, "{layer}.{tensor}, before the step"),
            What::Images => f.write_str("the images of the batch"),
            What::Output => write!(f, "the output of {layer}"),
            What::Loss => f.write_str("the loss, although the outputs of all layers are finite"),
            What::Gradient => write!(f, "the gradient of {layer}.{tensor}"),
            What::Update => write!(f, "{layer}.{tensor}, after the update of the weights"),
        }
    }
}

/// Watches the layers of a forward pass for the first output that is not finite. Each look waits for the device, so
/// training passes have no probe.
#[derive(Debug, Default)]
pub struct Probe(RefCell<Option<String>>);

impl Probe {
    /// Looks at the output of a layer, unless an earlier one was not finite already.
    pub fn look(&self, layer: &str, output: &Tensor) -> Result<(), Error> {
        let mut found = self.0.borrow_mut();
        if found.is_none() && !is_finite(output)? {
            *found = Some(layer.to_owned());
        }
        Ok(())
    }

    /// The first layer whose output was not finite.
    pub fn found(self) -> Option<Place> {
        let layer = self.0.into_inner()?;
        Some(Place { what: What::Output, layer, tensor: String::new() })
    }
}

/// Whether all values of a tensor are finite; true for integers.
pub fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    let floats = matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    Ok(!floats || tensor.f_detach()?.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

/// The first tensor of a network that is not finite, in the order of the layers.
pub fn in_weights(params: &Params, what: What) -> Result<Option<Place>, Error> {
    for entry in params.entries() {
        if !is_finite(&entry.tensor)? {
            return Ok(Some(Place::of_tensor(what, &entry.name)));
        }
    }
    Ok(None)
}

/// The parameter whose gradient is not finite and that backward reached first: the last one in the order of the layers.
pub fn in_gradients(params: &Params) -> Result<Option<Place>, Error> {
    let mut found = None;
    for (name, tensor) in params.with_role(Role::Trained) {
        let gradient = tensor.f_grad()?;
        if gradient.defined() && !is_finite(&gradient)? {
            found = Some(Place::of_tensor(What::Gradient, name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::{Arch, Pretrain, Stem};
    use tch::Device;

    use super::*;
    use crate::model::{Pass, SimSiam};

    fn network() -> SimSiam {
        let recipe = Pretrain {
            arch: Arch::Resnet18,
            stem: Stem::Cifar,
            base_width: 4,
            dim: 16,
            pred_dim: 8,
            ..Pretrain::default()
        };
        SimSiam::new(&recipe, Kind::Float, Device::Cpu).unwrap()
    }

    fn views() -> [Tensor; 2] {
        let view = |scale: f64| Tensor::arange(768i64, (Kind::Float, Device::Cpu)).sin().reshape([4, 3, 8, 8]) * scale;
        [view(1.0), view(0.5)]
    }

    /// Overwrites the first value of a tensor.
    fn plant(network: &SimSiam, name: &str, value: f64) {
        let tensor = network.params().get(name).unwrap();
        tch::no_grad(|| {
            let _ = tensor.view([-1]).get(0).fill_(value);
        });
    }

    /// The first layer whose output is not finite.
    fn output(network: &SimSiam) -> Option<Place> {
        let probe = Probe::default();
        let [one, two] = views();
        let pass = Pass { track: false, probe: Some(&probe), ..Pass::train(None) };
        tch::no_grad(|| network.forward([&one, &two], pass)).unwrap();
        probe.found()
    }

    #[test]
    fn planted_infinity_is_found_in_its_layer() {
        for layer in
            ["encoder.conv1", "encoder.layer2.0.conv1", "encoder.layer3.1.conv2", "encoder.fc.3", "predictor.0"]
        {
            let network = network();
            assert_eq!((output(&network), in_weights(network.params(), What::Weight).unwrap()), (None, None));
            plant(&network, &format!("{layer}.weight"), f64::INFINITY);
            let place = output(&network).unwrap();
            assert_eq!((place.what, place.layer.as_str()), (What::Output, layer));
            let place = in_weights(network.params(), What::Weight).unwrap().unwrap();
            assert_eq!((place.layer.as_str(), place.tensor.as_str()), (layer, "weight"));
            assert_eq!(place.to_string(), format!("{layer}.weight, before the step"));
        }
    }

    #[test]
    fn output_that_overflows_is_found_although_all_weights_are_finite() {
        let network = network();
        let name = "encoder.layer1.0.bn1.weight";
        tch::no_grad(|| {
            let _ = network.params().get(name).unwrap().shallow_clone().fill_(3e38);
        });
        assert_eq!(in_weights(network.params(), What::Weight).unwrap(), None);
        // The batch norm's output is at most 3e38 times a few, so it overflows there.
        assert_eq!(output(&network).unwrap().layer, "encoder.layer1.0.bn1");
    }

    #[test]
    fn gradient_that_backward_reached_first_is_found() {
        let network = network();
        assert_eq!(in_gradients(network.params()).unwrap(), None, "there are none");
        let [one, two] = views();
        network.forward([&one, &two], Pass::train(None)).unwrap().loss.backward();
        assert_eq!(in_gradients(network.params()).unwrap(), None);
        for name in ["encoder.conv1.weight", "encoder.layer4.1.conv2.weight"] {
            let _ = network.params().get(name).unwrap().grad().fill_(f64::NAN);
        }
        let place = in_gradients(network.params()).unwrap().unwrap();
        assert_eq!(place.to_string(), "the gradient of encoder.layer4.1.conv2.weight");
    }
}
