//! The backbone as an ONNX graph, operator set 17.
//!
//! Input `images`, `[batch, C, height, width]` with the backbone's C channels, values from 0 to 1; normalised by the caller unless the normalisation is part
//! of the graph. Output `features`, `[batch, F]`, the pooled features. Batch, height and width are dynamic.

mod schema;

use prost::Message;
use simsiam_pth::{Dtype, Tensor};

use self::schema::{
    Attribute, Constant, Dimension, FLOAT, FLOAT32, Graph, INT, INTS, Model, Node, OperatorSet, Property, Shape, Size,
    TensorType, Type, ValueInfo,
};
use super::state_dict::{Normalization, Weights};
use crate::error::Error;
use crate::model::layers::{BATCH_NORM_EPSILON, ConvShape};
use crate::model::resnet::{BlockPosition, Layout, first_conv, has_max_pool};
use crate::model::simsiam::ENCODER;

const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;

impl Weights {
    /// Returns the backbone as an ONNX file, with the normalisation as its first operators if one is given.
    ///
    /// # Errors
    /// If the architecture is unknown or a tensor is missing.
    pub fn onnx(&self, normalization: Option<&Normalization>) -> Result<Vec<u8>, Error> {
        let Some(found) = self.architecture() else {
            return Err(
                self.refused("cannot be written as ONNX: its backbone is incomplete or of an unknown architecture")
            );
        };
        let stem = found.stem_name().ok_or_else(|| self.refused("cannot be written as ONNX: its stem is unknown"))?;
        let base_width = found.base_width as i64;
        let mut builder = Builder { weights: self, nodes: Vec::new(), constants: Vec::new() };
        let mut value = "images".to_owned();
        if let Some(Normalization { mean, std }) = normalization {
            for (name, values) in [("mean", mean), ("std", std)] {
                if values.len() != found.channels {
                    let (has, wants) = (values.len(), found.channels);
                    return Err(self.refused(format!("has a {name} of {has} channels for a network of {wants}")));
                }
                builder.channels(name, values);
            }
            value = builder.node("Sub", &["images", "mean"], "centred", []);
            value = builder.node("Div", &[&value, "std"], "normalized", []);
        }
        value = builder.convolution("conv1", &value, first_conv(stem, found.channels as i64, base_width))?;
        value = builder.batch_norm("bn1", &value)?;
        value = builder.node("Relu", &[&value], "relu", []);
        if has_max_pool(stem) {
            let attributes = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
            value = builder.node("MaxPool", &[&value], "maxpool", attributes);
        }
        for position in Layout::of(found.arch).blocks(base_width) {
            value = builder.block(position, &value)?;
        }
        value = builder.node("GlobalAveragePool", &[&value], "avgpool", []);
        builder.node("Flatten", &[&value], "features", [int("axis", 1)]);
        let named = |name: &str| Size::Named(name.to_owned());
        let images = [named("batch"), Size::Known(found.channels as i64), named("height"), named("width")];
        let graph = Graph {
            node: builder.nodes,
            name: found.arch.name().to_owned(),
            initializer: builder.constants,
            input: vec![tensor("images", images)],
            output: vec![tensor("features", [named("batch"), Size::Known(found.features() as i64)])],
        };
        let property = |(key, value): (&str, String)| Property { key: key.to_owned(), value };
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: "simsiam".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
            metadata_props: self.facts().into_iter().map(property).collect(),
        };
        Ok(model.encode_to_vec())
    }
}

/// A graph in the making. Each operator's output has the operator's name.
struct Builder<'a> {
    weights: &'a Weights,
    nodes: Vec<Node>,
    constants: Vec<Constant>,
}

impl Builder<'_> {
    /// Adds an operator and returns the name of its output.
    fn node(
        &mut self,
        op_type: &str,
        input: &[&str],
        name: &str,
        attribute: impl IntoIterator<Item = Attribute>,
    ) -> String {
        self.nodes.push(Node {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute: attribute.into_iter().collect(),
        });
        name.to_owned()
    }

    /// Adds one number a channel, `[1, C, 1, 1]`.
    fn channels(&mut self, name: &str, values: &[f64]) {
        let dims = vec![1, values.len() as i64, 1, 1];
        let raw_data = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
        self.constants.push(Constant { dims, data_type: FLOAT32, name: name.to_owned(), raw_data });
    }

    /// Adds a tensor of the backbone under torchvision's name.
    fn parameter(&mut self, name: String) -> Result<String, Error> {
        let Some(tensor) = self.weights.tensors.get(&format!("{ENCODER}{name}")).map(Tensor::widened) else {
            return Err(self.weights.refused(format!("cannot be written as ONNX: it has no {name}")));
        };
        if tensor.dtype != Dtype::F32 {
            let message = format!("cannot be written as ONNX: {name} is {:?}, not single precision", tensor.dtype);
            return Err(self.weights.refused(message));
        }
        let dims = tensor.shape.iter().map(|&size| size as i64).collect();
        self.constants.push(Constant { dims, data_type: FLOAT32, name: name.clone(), raw_data: tensor.data });
        Ok(name)
    }

    fn convolution(&mut self, name: &str, input: &str, shape: ConvShape) -> Result<String, Error> {
        let weight = self.parameter(format!("{name}.weight"))?;
        let attributes = [
            ints("kernel_shape", &[shape.kernel; 2]),
            ints("strides", &[shape.stride; 2]),
            ints("pads", &[shape.padding(); 4]),
            int("group", shape.groups),
        ];
        Ok(self.node("Conv", &[input, &weight], name, attributes))
    }

    fn batch_norm(&mut self, name: &str, input: &str) -> Result<String, Error> {
        let mut inputs = vec![input.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.parameter(format!("{name}.{part}"))?);
        }
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        Ok(self.node("BatchNormalization", &inputs, name, [float("epsilon", BATCH_NORM_EPSILON)]))
    }

    fn block(&mut self, position: BlockPosition, input: &str) -> Result<String, Error> {
        let block = format!("layer{}.{}", position.stage + 1, position.block);
        let last = position.shapes.convs.len();
        let mut value = input.to_owned();
        for (i, shape) in (1..).zip(position.shapes.convs) {
            value = self.convolution(&format!("{block}.conv{i}"), &value, shape)?;
            value = self.batch_norm(&format!("{block}.bn{i}"), &value)?;
            if i < last {
                value = self.node("Relu", &[&value], &format!("{block}.relu{i}"), []);
            }
        }
        let mut identity = input.to_owned();
        if let Some(shape) = position.shapes.shortcut {
            identity = self.convolution(&format!("{block}.downsample.0"), input, shape)?;
            identity = self.batch_norm(&format!("{block}.downsample.1"), &identity)?;
        }
        value = self.node("Add", &[&value, &identity], &format!("{block}.add"), []);
        Ok(self.node("Relu", &[&value], &format!("{block}.relu"), []))
    }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.to_owned(), i, kind: INT, ..Attribute::default() }
}

fn ints(name: &str, ints: &[i64]) -> Attribute {
    Attribute { name: name.to_owned(), ints: ints.to_vec(), kind: INTS, ..Attribute::default() }
}

fn float(name: &str, f: f64) -> Attribute {
    Attribute { name: name.to_owned(), f: f as f32, kind: FLOAT, ..Attribute::default() }
}

fn tensor<const N: usize>(name: &str, sizes: [Size; N]) -> ValueInfo {
    let dim = sizes.into_iter().map(|size| Dimension { size: Some(size) }).collect();
    let tensor_type = Some(TensorType { elem_type: FLOAT32, shape: Some(Shape { dim }) });
    ValueInfo { name: name.to_owned(), r#type: Some(Type { tensor_type }) }
}
