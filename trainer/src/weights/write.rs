//! Writes [`Weights`] in the formats of other programs.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype as SafeDtype, SafeTensorError};
use serde_json::json;
use simsiam_pth::{Dtype, Tensor, Value};
use simsiam_recipe::ExportFormat;

use super::names;
use super::optimizer::dict;
use super::state_dict::{Normalization, Weights};
use crate::checkpoint::snapshot::PREFIX;
use crate::error::Error;

/// A file to be written.
#[derive(Debug)]
pub struct File {
    /// Path of the file in the export folder.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Number of tensors in it.
    pub tensors: usize,
}

impl Weights {
    /// Returns the file in a format.
    ///
    /// # Errors
    /// If the weights do not fit the format, and for `huggingface`, which is a folder ([`Weights::huggingface`]).
    pub fn file(&self, format: ExportFormat) -> Result<File, Error> {
        if self.backbone().is_empty() {
            return Err(self.refused("has no backbone to write"));
        }
        let (name, bytes) = match format {
            ExportFormat::Safetensors => ("backbone.safetensors".to_owned(), self.safetensors()?),
            ExportFormat::Torchvision => ("backbone.torchvision.pth".to_owned(), self.torchvision()?),
            // timm's ResNets have torchvision's names, and it reads safetensors as well as pickles.
            ExportFormat::Timm => ("backbone.timm.safetensors".to_owned(), self.safetensors()?),
            ExportFormat::Detectron2 => ("backbone.detectron2.pkl".to_owned(), self.detectron2()?),
            ExportFormat::Pth => (self.pth_name(), self.pth()?),
            ExportFormat::Onnx => ("backbone.onnx".to_owned(), self.onnx(None)?),
            ExportFormat::OnnxWithNormalization => {
                let normalization = self.normalization.as_ref().ok_or_else(|| {
                    self.refused(
                        "does not say how images were normalised; write onnx, or export from the run's checkpoint",
                    )
                })?;
                ("backbone.with-normalization.onnx".to_owned(), self.onnx(Some(normalization))?)
            }
            ExportFormat::Huggingface => {
                return Err(self.refused(
                    "cannot become a huggingface folder by itself: its model card is made from a run; \
                     use simsiam export -f run.yaml --format huggingface",
                ));
            }
        };
        let tensors = if format == ExportFormat::Pth { self.tensors.len() } else { self.backbone().len() };
        Ok(File { name, bytes, tensors })
    }

    /// Warns where other libraries, which have only the published shapes, do not know the network.
    pub fn warn_of_other_shapes(&self, formats: &[ExportFormat]) {
        use ExportFormat::{Detectron2, Safetensors, Timm, Torchvision};
        let published = self.architecture().is_some_and(|found| found.is_published());
        if !published && formats.iter().any(|format| matches!(format, Safetensors | Torchvision | Timm | Detectron2)) {
            let what =
                self.architecture().map_or_else(|| "an unknown architecture".to_owned(), |found| found.to_string());
            if self.architecture().is_some_and(|found| found.is_in_timm()) {
                tracing::warn!(
                    "{}: is {what}: build the network for as many before loading it (timm: in_chans; Detectron2: \
                     MODEL.PIXEL_MEAN and PIXEL_STD of that length; torchvision: another conv1)",
                    self.uri
                );
                return;
            }
            tracing::warn!(
                "{}: is {what}, which torchvision, timm and Detectron2 do not have; define the network there before loading it",
                self.uri
            );
        }
    }

    /// The backbone with half precision and bfloat16 as single precision, which every program takes: NumPy, and so
    /// Detectron2, has no bfloat16.
    fn widened_backbone(&self) -> Vec<(&str, Tensor)> {
        self.backbone().into_iter().map(|(name, tensor)| (name, tensor.widened())).collect()
    }

    pub(super) fn safetensors(&self) -> Result<Vec<u8>, Error> {
        let refused = |e: SafeTensorError| self.refused(format!("cannot be written as safetensors: {e}"));
        let mut views = Vec::new();
        let wide = self.widened_backbone();
        for (name, tensor) in &wide {
            let dtype = match tensor.dtype {
                Dtype::F16 => SafeDtype::F16,
                Dtype::BF16 => SafeDtype::BF16,
                Dtype::F32 => SafeDtype::F32,
                Dtype::F64 => SafeDtype::F64,
                Dtype::U8 => SafeDtype::U8,
                Dtype::I8 => SafeDtype::I8,
                Dtype::I16 => SafeDtype::I16,
                Dtype::I32 => SafeDtype::I32,
                Dtype::I64 => SafeDtype::I64,
                Dtype::Bool => SafeDtype::BOOL,
            };
            views.push((*name, TensorView::new(dtype, tensor.shape.clone(), &tensor.data).map_err(refused)?));
        }
        // PyTorch's readers want the format.
        let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        metadata.extend(self.facts().into_iter().map(|(key, value)| (key.to_owned(), value)));
        sorted_header(safetensors::serialize(views, Some(metadata)).map_err(refused)?)
            .ok_or_else(|| self.refused("cannot be written as safetensors: its header cannot be read back"))
    }

    /// What a user of the backbone must know, for the metadata of files that have some.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("producer", concat!("simsiam ", env!("CARGO_PKG_VERSION")).to_owned())];
        facts.extend(self.architecture().map(|found| ("architecture", found.to_string())));
        facts.extend(self.epochs.map(|epochs| ("epochs", epochs.to_string())));
        if let Some(Normalization { mean, std }) = &self.normalization {
            facts.push(("mean", json!(mean).to_string()));
            facts.push(("std", json!(std).to_string()));
        }
        facts
    }

    /// A bare state dict.
    fn torchvision(&self) -> Result<Vec<u8>, Error> {
        let state = state_dict(self.widened_backbone(), str::to_owned);
        simsiam_pth::write(&state).map_err(|e| self.refused(e.to_string()))
    }

    fn detectron2(&self) -> Result<Vec<u8>, Error> {
        let file = dict([
            ("model", state_dict(self.widened_backbone(), names::to_detectron2)),
            ("__author__", concat!("simsiam ", env!("CARGO_PKG_VERSION")).into()),
            // Detectron2 then finds `res5` in a C4 model's ROI head, and so on.
            ("matching_heuristics", true.into()),
        ]);
        simsiam_pth::write_pickle(&file).map_err(|e| self.refused(e.to_string()))
    }

    /// The reference numbers its files from 0 and counts finished epochs within.
    fn pth_name(&self) -> String {
        match self.epochs.and_then(|epochs| epochs.checked_sub(1)) {
            Some(number) => format!("checkpoint_{number:04}.pth.tar"),
            None => "checkpoint.pth.tar".to_owned(),
        }
    }

    /// A checkpoint as the reference writes it, with the parts that are present.
    fn pth(&self) -> Result<Vec<u8>, Error> {
        let arch = self.architecture().map(|found| found.arch.name().to_owned()).or_else(|| self.arch.clone());
        let tensors = self.in_order().into_iter().map(|(name, tensor)| (name, tensor.widened()));
        let state = state_dict(tensors, |name| format!("{PREFIX}{name}"));
        let mut file = Vec::new();
        file.extend(self.epochs.and_then(|n| i64::try_from(n).ok()).map(|n| ("epoch", Value::Int(n))));
        file.extend(arch.map(|arch| ("arch", Value::Str(arch))));
        file.push(("state_dict", state));
        let optimizer = self.optimizer.as_ref().filter(|optimizer| optimizer.settings.is_some());
        file.extend(optimizer.map(|optimizer| ("optimizer", optimizer.to_value(&self.parameters()))));
        simsiam_pth::write(&dict(file)).map_err(|e| self.refused(e.to_string()))
    }
}

/// The same safetensors file with the keys of its header sorted: the library writes metadata in an order that differs from
/// one process to the next, and equal weights must give equal files.
fn sorted_header(mut file: Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(*file.first_chunk()?)).ok()?;
    let header = file.get_mut(8..length.checked_add(8)?)?;
    let sorted: BTreeMap<String, BTreeMap<String, serde_json::Value>> = serde_json::from_slice(header).ok()?;
    let text = serde_json::to_vec(&sorted).ok()?;
    header.fill(b' ');
    header.get_mut(..text.len())?.copy_from_slice(&text);
    Some(file)
}

fn state_dict<'a>(tensors: impl IntoIterator<Item = (&'a str, Tensor)>, name: impl Fn(&str) -> String) -> Value {
    Value::Dict(tensors.into_iter().map(|(theirs, t)| (Value::Str(name(theirs)), Value::Tensor(t))).collect())
}
