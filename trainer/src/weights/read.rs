//! From bytes to [`Weights`]: a format is recognised by its content, never by the file's name.

use std::collections::BTreeMap;

use safetensors::{Dtype as SafeDtype, SafeTensors};
use serde::Deserialize;
use simsiam_pth::{Dtype, Tensor, Value};

use super::names;
use super::names::Naming;
use super::optimizer::{OptimizerState, Settings};
use super::prefix::Prefix;
use super::state_dict::{Normalization, Weights};
use crate::checkpoint;
use crate::checkpoint::snapshot::PREFIX;
use crate::error::Error;

impl Weights {
    /// Reads a file of any supported format.
    pub fn from_bytes(bytes: &[u8], uri: &str) -> Result<Self, Error> {
        let refused = |message: String| Error::Checkpoint { uri: uri.to_owned(), message };
        // Before pickles, which begin with a single byte of their own: one header in 32 has that as its first.
        if is_safetensors(bytes) {
            return Self::named(safetensors(bytes).map_err(refused)?, uri);
        }
        if simsiam_pth::recognises(bytes) {
            let value = simsiam_pth::read(bytes).map_err(|e| refused(e.to_string()))?;
            return Self::from_value(&value, uri);
        }
        let found = other_format(bytes).map_or_else(String::new, |format| format!(" (it is {format})"));
        Err(refused(format!(
            "unrecognised format{found}: expected a file of torch.save, safetensors, a pickle of Detectron2, or the folder of a checkpoint of a run"
        )))
    }

    /// Reads a checkpoint of a run.
    pub fn from_checkpoint(found: &checkpoint::Found) -> Result<Self, Error> {
        let refused = |message: String| Error::Checkpoint { uri: found.uri.clone(), message };
        let mut weights = Self::named(safetensors(&found.model).map_err(refused)?, &found.uri)?;
        let bare = |(name, tensor): (String, Tensor)| (name.strip_prefix(PREFIX).unwrap_or(&name).to_owned(), tensor);
        let momentum = safetensors(&found.optimizer).map_err(refused)?.tensors.into_iter().map(bare).collect();
        weights.take_optimizer(Some(OptimizerState { momentum, settings: Settings::of(&found.state) }));
        weights.epochs = Some(found.state.epoch);
        let of_pretrain = |pointer: &str| found.state.arithmetic.pointer(pointer);
        weights.arch = of_pretrain("/pretrain/arch").and_then(|v| v.as_str()).map(str::to_owned);
        let channels = |pointer| <Vec<f64>>::deserialize(of_pretrain(pointer)?).ok();
        let (mean, std) = (channels("/pretrain/augment/mean"), channels("/pretrain/augment/std"));
        weights.normalization = mean.zip(std).map(|(mean, std)| Normalization { mean, std });
        Ok(weights)
    }

    /// Reads what `torch.save` wrote: a checkpoint with a `state_dict`, Detectron2's with a `model`, one with its tensors
    /// under another key, or a bare state dict.
    fn from_value(value: &Value, uri: &str) -> Result<Self, Error> {
        let refused = |message: String| Error::Checkpoint { uri: uri.to_owned(), message };
        let state = state_of(value).map_err(refused)?;
        let entries = state.entries().ok_or_else(|| {
            refused(format!("is a {}, expected a dict of tensors or one with `state_dict` or `model`", value.kind()))
        })?;
        let tensors = entries.iter().filter_map(|(name, value)| Some((name.as_str()?, value.as_tensor()?.clone())));
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let mut weights = Self::named(Tensors { tensors, unread: BTreeMap::new() }, uri)?;
        weights.arch = value.get("arch").and_then(Value::as_str).map(str::to_owned);
        weights.epochs = value.get("epoch").and_then(Value::as_int).and_then(|epochs| u64::try_from(epochs).ok());
        let optimizer = value.get("optimizer").and_then(|o| OptimizerState::read(o, &weights.parameters()));
        weights.take_optimizer(optimizer);
        Ok(weights)
    }

    /// Maps tensors under another program's names to ours.
    fn named(found: Tensors, uri: &str) -> Result<Self, Error> {
        let Tensors { tensors, unread } = found;
        let refused = |message: String| Err(Error::Checkpoint { uri: uri.to_owned(), message });
        let names = || tensors.keys().chain(unread.keys()).map(String::as_str);
        let naming = Naming::of(names());
        let hidden = if naming.is_none() { Prefix::all(names().collect::<Vec<_>>()) } else { Vec::new() };
        let rename = |name: &str| match (naming, &hidden[..]) {
            (Some(naming), _) => naming.ours(name),
            (None, [prefix]) => Naming::Classifier.ours(&prefix.torchvision(name)?),
            (None, _) => None,
        };
        match (naming, &hidden[..]) {
            (Some(_), _) => {}
            (None, [prefix]) => {
                tracing::info!("{uri}: the network is under {}; other tensors are ignored", prefix.as_str())
            }
            (None, []) => {
                let some: Vec<_> = names().take(3).collect();
                let found = if some.is_empty() {
                    "it has no tensors".to_owned()
                } else {
                    format!("it has {}, …", some.join(", "))
                };
                return refused(format!(
                    "has no ResNet under known names: expected [module.]encoder., [module.]encoder_q., [module.]conv1.weight, \
                     stem.conv1.weight, or one prefix before torchvision's names; {found}"
                ));
            }
            (None, several) => {
                let several: Vec<_> = several.iter().map(Prefix::as_str).collect();
                return refused(format!(
                    "has several ResNets, under {}; save one of them alone",
                    several.join(" and ")
                ));
            }
        }
        if let Some((name, dtype)) = unread.iter().find(|(name, _)| rename(name).is_some()) {
            return refused(format!("has {name} as {dtype}, which is not read; save it as F32, F16 or BF16"));
        }
        let mut ours = BTreeMap::new();
        for (name, tensor) in tensors {
            if let Some(our) = rename(&name) {
                if !tensor.is_finite() {
                    return refused(format!(
                        "has values in {name} that are not finite: the training diverged, or the file is damaged"
                    ));
                }
                ours.insert(our, counted(&name, tensor));
            }
        }
        Ok(Self { uri: uri.to_owned(), tensors: ours, ..Self::default() })
    }
}

/// The tensors of a file, and the types of those that cannot be read.
struct Tensors {
    tensors: BTreeMap<String, Tensor>,
    unread: BTreeMap<String, String>,
}

/// Whether the bytes begin as safetensors do: eight bytes with the header's length, which is below 4 GiB, then its `{`.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(4..9) == Some(&[0, 0, 0, 0, b'{'])
}

/// A format that people mistake for weights, by its first bytes.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, mark: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(mark));
    let formats: [(usize, &[u8], &str); 8] = [
        (0, &[0x1F, 0x8B], "compressed by gzip; decompress it first"),
        (0, &[0x28, 0xB5, 0x2F, 0xFD], "compressed by zstd; decompress it first"),
        (0, b"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes it"),
        (0, b"\x93NUMPY", "a NumPy array"),
        (0, b"GGUF", "GGUF"),
        (0, b"<", "a page of HTML or XML, perhaps an error page that was downloaded instead"),
        (0, b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself"),
        (257, b"ustar", "a tar archive; extract it first"),
    ];
    let empty = bytes.is_empty().then_some("empty");
    empty.or_else(|| formats.iter().find(|(offset, mark, _)| at(*offset, mark)).map(|(_, _, name)| *name))
}

/// Keys under which programs save the network, the usual ones first.
const KEYS: [&str; 7] = ["state_dict", "model", "model_state_dict", "model_state", "net", "network", "student"];

/// The dict of tensors in a checkpoint.
fn state_of(value: &Value) -> Result<&Value, String> {
    let has_tensors = |value: &Value| {
        value.entries().is_some_and(|entries| entries.iter().any(|(_, value)| value.as_tensor().is_some()))
    };
    if let Some(state) = KEYS.iter().find_map(|key| value.get(key).filter(|state| state.entries().is_some())) {
        return Ok(state);
    }
    let Some(entries) = value.entries().filter(|_| !has_tensors(value)) else { return Ok(value) };
    let within: Vec<_> = entries.iter().filter(|(_, value)| has_tensors(value)).collect();
    match &within[..] {
        [(_, state)] => Ok(state),
        [] if entries.is_empty() => Ok(value),
        [] => {
            let keys: Vec<_> = entries.iter().filter_map(|(key, _)| key.as_str()).take(8).collect();
            Err(format!("has no dict of tensors; its keys are {}; expected `state_dict` or `model`", keys.join(", ")))
        }
        several => {
            let keys: Vec<_> = several.iter().filter_map(|(key, _)| key.as_str()).collect();
            Err(format!("has tensors under {}; save one of them under `state_dict`", keys.join(" and ")))
        }
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
fn safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("is not a readable safetensors file: {e}"))?;
    let (mut tensors, mut unread) = (BTreeMap::new(), BTreeMap::new());
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            SafeDtype::F16 => Dtype::F16,
            SafeDtype::BF16 => Dtype::BF16,
            SafeDtype::F32 => Dtype::F32,
            SafeDtype::F64 => Dtype::F64,
            SafeDtype::I64 => Dtype::I64,
            SafeDtype::I32 => Dtype::I32,
            SafeDtype::I16 => Dtype::I16,
            SafeDtype::I8 => Dtype::I8,
            SafeDtype::U8 => Dtype::U8,
            SafeDtype::BOOL => Dtype::Bool,
            other => {
                unread.insert(name.to_owned(), other.to_string());
                continue;
            }
        };
        tensors.insert(name.to_owned(), Tensor { dtype, shape: view.shape().to_vec(), data: view.data().to_vec() });
    }
    Ok(Tensors { tensors, unread })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    /// The names by which a ResNet is recognised.
    const LAYERS: [&str; 3] = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"];

    fn tensor(value: f32) -> Tensor {
        Tensor { dtype: Dtype::F32, shape: vec![1], data: value.to_le_bytes().to_vec() }
    }

    fn file(prefix: &str, value: f32, padding: usize) -> Vec<u8> {
        let data = value.to_le_bytes();
        let view = || TensorView::new(SafeDtype::F32, vec![1], &data).unwrap();
        let metadata = HashMap::from([("padding".to_owned(), "x".repeat(padding))]);
        safetensors::serialize(LAYERS.map(|name| (format!("{prefix}{name}"), view())), Some(metadata)).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        Weights::from_bytes(bytes, "w").map(|w| w.tensors.into_keys().collect()).map_err(|e| e.to_string())
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err()
    }

    fn dict(entries: Vec<(&str, Value)>) -> Value {
        Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    fn network(prefix: &str) -> Value {
        let tensors = LAYERS.map(|name| (Value::Str(format!("{prefix}{name}")), Value::Tensor(tensor(1.0))));
        Value::Dict(tensors.into())
    }

    fn expected() -> Vec<String> {
        let mut names = LAYERS.map(|name| format!("encoder.{name}")).to_vec();
        names.sort();
        names
    }

    #[test]
    fn safetensors_are_recognised_whatever_the_length_of_their_header() {
        let mut like_a_pickle = 0;
        for padding in 0..300 {
            let bytes = file("", 1.0, padding);
            like_a_pickle += u32::from(bytes[0] == 0x80);
            assert_eq!(
                read(&bytes),
                Ok(expected()),
                "a header of {} bytes",
                u32::from_le_bytes(*bytes.first_chunk().unwrap())
            );
        }
        assert!(like_a_pickle > 0, "no header began as a pickle does");
    }

    #[test]
    fn network_behind_a_prefix_is_read() {
        for prefix in ["backbone.", "model.", "_orig_mod.", "_orig_mod.module.", "student.backbone."] {
            assert_eq!(read(&file(prefix, 1.0, 0)), Ok(expected()), "{prefix}");
        }
        let two: Vec<_> =
            ["left.", "right."].iter().flat_map(|prefix| network(prefix).entries().unwrap().to_vec()).collect();
        let message = refusal(&simsiam_pth::write(&Value::Dict(two)).unwrap());
        assert!(message.contains("several ResNets, under left. and right."), "{message}");
    }

    #[test]
    fn network_under_any_key_is_read() {
        for key in ["state_dict", "model", "model_state_dict", "weights"] {
            let checkpoint = dict(vec![("epoch", 3.into()), (key, network("backbone."))]);
            assert_eq!(read(&simsiam_pth::write(&checkpoint).unwrap()), Ok(expected()), "{key}");
        }
        let several = dict(vec![("left", network("")), ("right", network(""))]);
        let message = refusal(&simsiam_pth::write(&several).unwrap());
        assert!(message.contains("tensors under left and right"), "{message}");
        let none = dict(vec![("epoch", 3.into()), ("lr", 0.1.into())]);
        let message = refusal(&simsiam_pth::write(&none).unwrap());
        assert!(message.contains("its keys are epoch, lr"), "{message}");
    }

    #[test]
    fn values_that_are_not_finite_are_refused_by_name() {
        for value in [f32::NAN, f32::INFINITY] {
            let message = refusal(&file("module.", value, 0));
            assert!(message.contains("module.bn1.weight that are not finite"), "{message}");
        }
    }

    #[test]
    fn type_and_format_that_are_not_read_are_named() {
        let message = refusal(include_bytes!("../../tests/cases/fp8.safetensors"));
        assert!(message.contains("F8_E4M3, which is not read"), "{message}");
        for (bytes, named) in [
            (&b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..], "compressed by gzip"),
            (b"<html><body>404</body></html>", "error page"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"", "empty"),
        ] {
            let message = refusal(bytes);
            assert!(message.contains(named) && message.contains("unrecognised format"), "{message}");
        }
    }
}
